"""Chaos on the real parts: what every guarantee is worth while processes are killed, stopped and cut off."""
