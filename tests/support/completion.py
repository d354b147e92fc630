"""What a shell would complete."""

import os
import subprocess
import sys


def complete(line: str, **environment: str) -> list[str]:
    """What bash is offered for the last word of a line."""
    words = line.split(" ")
    asked = {"_FACETS_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    result = subprocess.run(
        [sys.executable, "-m", "streams.cli"], env={**os.environ, **asked, **environment}, capture_output=True,
        text=True, timeout=60, check=True,
    )  # fmt: skip
    assert result.stderr == ""
    return [each.partition(",")[2] for each in result.stdout.splitlines() if each]
