"""`facets top`: what a running server knows, live in a terminal."""
