"""The HTTP interface: look-ups, the stream of changes, who has what."""
