"""A process is ended for certain, and who waits for it doesn't wait for others."""

import subprocess
import sys

import psutil

from streams.runtime.processes import end

PARENT_THAT_REAPS_NOTHING = """
import subprocess, sys
from subprocess import PIPE
child = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=PIPE, stdout=PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_zombie_has_ended_though_its_parent_does_not_reap_it() -> None:
    command = [sys.executable, "-c", PARENT_THAT_REAPS_NOTHING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        # The time is longer than any test may take.
        end(pid, grace=3600.0)
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        parent.communicate()
