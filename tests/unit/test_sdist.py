"""The source distribution: what the Makefile and the documents name is in it, and `make` works there."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MADE = {".venv", "build", "dist"}
"""Folders that the targets make."""


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        files.extractall(folder, filter="data")
    (found,) = (each for each in folder.iterdir() if each.is_dir())
    return found


@pytest.mark.parametrize(
    "document", ["Makefile", "README.md", "CONTRIBUTING.md", "pyproject.toml", "compose/compose.yaml"]
)
def test_every_file_that_is_named_is_in_it(unpacked: Path, document: str) -> None:
    assert (unpacked / document).is_file()
    words = {word.strip("./") for word in re.findall(r"[\w./-]+", (ROOT / document).read_text())}
    named = {word for word in words if word and (ROOT / word).exists() and word.split("/")[0] not in MADE}
    assert named
    assert {word for word in named if not (unpacked / word).exists()} == set()


def test_it_has_all_that_is_tracked(unpacked: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("only a clone knows what is tracked; this is a source distribution")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert {name for name in listed.splitlines() if (ROOT / name).exists() and not (unpacked / name).exists()} == set()


def test_links_between_documents_lead_somewhere(unpacked: Path) -> None:
    for document in unpacked.glob("*.md"):
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
            assert (unpacked / target).exists(), f"{document.name}: {target}"


def test_each_target_has_what_it_is_made_of(unpacked: Path) -> None:
    targets = re.findall(r"^([a-z0-9-]+):.*##", (unpacked / "Makefile").read_text(), re.MULTILINE)
    assert {"setup", "run", "test", "e2e", "check", "lock"} <= set(targets)
    for target in targets:
        done = subprocess.run(["make", "-n", target], cwd=unpacked, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"make {target}: {done.stderr}"
