"""Embedded brokers that a test leaves behind."""

from pathlib import Path

from streams.local.kafka.state import BrokerFiles, find_process
from streams.runtime import processes


def stop_running(data_dir: Path) -> bool:
    """End the broker of this data folder, whoever uses it. False where none runs."""
    process = find_process(BrokerFiles.under(data_dir)) if data_dir.is_dir() else None
    if process is None:
        return False
    processes.end(process.pid)
    return True
