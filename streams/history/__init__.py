"""Looks back: replay of the journal, and questions to its rows."""
