"""`facets reset`: it deletes what is facets' own, when asked to, and never under a running process."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streams.cli.admin.reset import reset_command
from streams.errors import FacetsError
from streams.runtime.process_lock import Owner, ProcessLock


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FACETS_DATA_DIR", str(tmp_path))
    (tmp_path / "kafka" / "data").mkdir(parents=True)
    (tmp_path / "kafka" / "data" / "log").write_bytes(b"x" * 2_000_000)
    (tmp_path / "work" / "up").mkdir(parents=True)
    (tmp_path / "mine.txt").write_text("not of facets")
    return tmp_path


def reset(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(reset_command, arguments, input=answer)


def left(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir()}


def test_it_asks_and_deletes_only_what_is_facets_own(folder: Path) -> None:
    refused = reset(answer="n\n")
    assert refused.exit_code == 1
    assert "Delete 2.0 MB of Kafka topics and checkpoints in" in refused.output
    assert {"kafka", "work"} < left(folder)
    assert reset(answer="y\n").exit_code == 0
    assert left(folder) - {"up.lock"} == {"mine.txt"}
    again = reset("--yes")
    assert (again.exit_code, "nothing" in again.output) == (0, True)


@pytest.mark.parametrize("lock", ["up.lock", "work/up/worker-1.lock"])
def test_it_is_refused_while_something_runs_there(folder: Path, lock: str) -> None:
    with ProcessLock(folder / lock, Owner.this_process()):
        result = reset("--yes")
    assert isinstance(result.exception, FacetsError)
    assert f"runs on {folder}" in str(result.exception)
    assert "kill" in result.exception.remedy
    assert {"kafka", "work"} < left(folder)
    assert reset("--yes").exit_code == 0


def test_without_a_folder_there_is_nothing_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACETS_DATA_DIR", str(tmp_path / "none"))
    assert reset("--yes").exit_code == 0
    assert not (tmp_path / "none").exists()
