"""Commands that run the processes."""
