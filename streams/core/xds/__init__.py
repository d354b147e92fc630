"""The facets as xDS: resources built from rows, and the protocol's state machines. No IO, clock or chance."""
