"""Pure: the two variants of the xDS protocol, and what a client has acknowledged."""
