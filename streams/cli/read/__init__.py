"""Commands that read the tables and ask a running server."""
