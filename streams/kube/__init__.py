"""API servers: how to reach them, their lists and watches, leases."""
