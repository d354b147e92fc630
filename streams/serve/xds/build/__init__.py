"""Pure: rows in, xDS resources out."""
