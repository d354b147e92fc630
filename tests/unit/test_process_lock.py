"""One owner at a time, by a lock that ends with its process; what that one noted is known to the next."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.runtime.process_lock import LockHeld, Owner, ProcessLock
from streams.worker.instance_lock import instance_lock, lock_path

HOLD = """
import subprocess, sys
from pathlib import Path
from streams.runtime.process_lock import Owner, ProcessLock
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=int(sys.argv[2]))
owner = Owner.this_process(Kafka="127.0.0.1:9092")
owner.note_child("worker", child.pid)
with ProcessLock(Path(sys.argv[1]), owner):
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def test_the_second_is_told_who_has_it(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "up.lock"
    with ProcessLock(path, Owner.this_process(HTTP="http://127.0.0.1:8080")) as lock:
        assert lock.previous is None
        with pytest.raises(LockHeld) as held, ProcessLock(path, Owner.this_process()):
            pass
        assert held.value.owner is not None
        assert held.value.owner.pid == os.getpid()
        assert held.value.owner.details == {"HTTP": "http://127.0.0.1:8080"}
    with ProcessLock(path, Owner.this_process()) as lock:
        assert lock.previous is None


def test_what_a_killed_owner_left_running_is_known(tmp_path: Path) -> None:
    path = tmp_path / "up.lock"
    reading, writing = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path), str(reading)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        pass_fds=[reading],
    ) as owner:  # fmt: skip
        assert owner.stdout is not None
        child = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
    os.close(reading)
    with ProcessLock(path, Owner.this_process()) as lock:
        assert lock.previous is not None
        assert lock.previous.pid == owner.pid
        assert lock.previous.living_children() == {"worker": child}
        os.close(writing)
        child.wait(30)
        assert lock.previous.living_children() == {}


def test_a_process_id_that_went_to_another_program_is_no_child() -> None:
    owner = Owner(1, 0.0, {}, {"worker": (os.getpid(), psutil.Process().create_time() - 100)})
    assert owner.living_children() == {}


@pytest.mark.parametrize(
    "note", ["", "[]", '{"pid": 1}', '{"pid": 1, "started": 2, "details": {}, "children": {"a": 3}}']
)
def test_a_note_that_can_not_be_read_is_none(tmp_path: Path, note: str) -> None:
    (tmp_path / "up.json").write_text(note)
    with ProcessLock(tmp_path / "up.lock", Owner.this_process()) as lock:
        assert lock.previous is None


def test_two_workers_of_one_name_and_broker_are_one_too_many(tmp_path: Path) -> None:
    with instance_lock(tmp_path, "up", "cluster-a", "facets"):
        with (
            pytest.raises(
                FacetsError, match=rf"a worker named up already runs here \(process {os.getpid()}, "
            ) as error,
            instance_lock(tmp_path, "up", "cluster-a", "facets"),
        ):
            pass
        assert error.value.exit_code == ExitCode.GAVE_UP
        assert "--instance" in error.value.remedy
        assert f"kill {os.getpid()}" in error.value.remedy
        with instance_lock(tmp_path, "up", "cluster-b", "facets"), instance_lock(tmp_path, "up", "cluster-a", "other"):
            pass
    with instance_lock(tmp_path, "up", "cluster-a", "facets"):
        pass


def test_a_folder_that_can_not_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(FacetsError, match=f"{lock_path(tmp_path / 'file', 'c', 'g').parent} can't be used"),
        instance_lock(tmp_path / "file", "up", "c", "g"),
    ):
        pass
