"""The edges: everything that meets the outside (Kubernetes, Kafka, HTTP, xDS) and hands it to the layers below."""
