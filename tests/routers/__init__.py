"""Real routers under change: Envoy and gRPC's own xDS client send requests all the time, while two clusters change.

Everything runs in a network namespace of its own (`namespace`), where each Pod has a real address.
"""
