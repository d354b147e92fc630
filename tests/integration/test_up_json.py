"""`facets up` with JSON lines: its own, its broker's, its worker's and its server's."""

import os
import subprocess
import sys
from pathlib import Path

import orjson


def test_every_line_of_every_process_is_one_json_object(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "streams.cli", "up", "--demo", "--for", "3", "--log-format", "json", "-v"),
            *("--web-port", "0", "--xds-port", "0", "--http-port", "0"),
        ],
        capture_output=True, timeout=180, check=False, env={**os.environ, "FACETS_DATA_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    lines = [orjson.loads(line) for line in done.stderr.splitlines()]
    assert all({"at", "level", "logger", "message"} <= line.keys() for line in lines)
    # The broker's start, the watcher, the worker and the server: each of them wrote lines.
    assert {"stderr", "facets.work", "facets.watch"} <= {line["logger"] for line in lines}
    assert any("facets serve" in line["message"] for line in lines)
