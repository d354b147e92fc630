"""Output that can't be written is an error with a remedy, whichever command writes it."""

import subprocess
import sys
from pathlib import Path

import pytest

FACETS = f"{sys.executable} -m streams.cli"
EMPTY = '{"kind": "List", "items": []}'


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command], input=EMPTY, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("command", ["fold", "--help"])
@pytest.mark.parametrize(
    ("redirection", "why"), [(">&-", "Bad file descriptor"), ("> /dev/full", "No space left on device")]
)
def test_an_output_that_fails_is_an_error_with_a_remedy(command: str, redirection: str, why: str) -> None:
    result = shell(f"{FACETS} {command} {redirection}")
    assert result.returncode == 74
    assert result.stderr.splitlines() == [
        f"facets: error: can't write to standard output: {why}", "  remedy: free space, or redirect it elsewhere"
    ]  # fmt: skip


def test_a_reader_that_leaves_ends_it_quietly() -> None:
    result = shell(f"{FACETS} --help | true; echo ${{PIPESTATUS[0]}}")
    assert (result.stdout, result.stderr) == ("0\n", "")


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_what_is_not_needed_may_be_closed(closed: str) -> None:
    assert shell(f"{FACETS} --version {closed}").stdout.startswith("facets")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("none/cursor", "can't write cursor file {}: No such file or directory"),
        ("binary", "can't read cursor file {}: not a text file"),
    ],
)  # fmt: skip
def test_a_cursor_file_that_is_of_no_use_is_an_error_before_anything_is_followed(
    tmp_path: Path, name: str, why: str
) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    path = tmp_path / name
    result = shell(f"{FACETS} follow --bootstrap-servers 127.0.0.1:1 --cursor-file {path}")
    assert result.returncode == 74
    assert result.stderr.splitlines()[0] == f"facets: error: {why.format(path)}"
    assert "remedy:" in result.stderr
