"""Commands that look back, or fold objects offline."""
