"""The xDS server for Envoy and gRPC."""
