"""Inputs after public bug reports, and what must come of them."""
