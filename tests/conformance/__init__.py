"""The Gateway API's conformance tests as an oracle: their manifests, as they come from the API's Go module, and what
their Go text expects, as questions to the routing table."""
