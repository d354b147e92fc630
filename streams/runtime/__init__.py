"""What every process needs, whatever it does: logging, probes, shutdown, retries, folders, progress."""
