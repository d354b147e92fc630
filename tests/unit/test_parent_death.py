"""Processes end with the one that started them, even if that is killed."""

import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from streams.runtime import parent_death

linux = pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal")


def killed_parents_child(program: str) -> psutil.Process:
    """The child whose process id the program prints, after the program was killed."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    return child


@linux
def test_a_bound_process_ends_with_its_parent() -> None:
    child = killed_parents_child("""
        import subprocess, sys
        from streams.runtime.parent_death import bound
        program = "print(1, flush=True); import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.pause()"
        child = subprocess.Popen(bound([sys.executable, "-c", program]), stdout=subprocess.PIPE)
        child.stdout.readline()
        print(child.pid, flush=True)
        child.wait()
    """)
    child.wait(30)


@linux
def test_a_process_whose_parent_ended_before_it_was_bound_ends_at_once() -> None:
    # Process 1 is the parent of whom nobody else is left for, and not ours.
    command = [sys.executable, "-m", "streams.runtime.parent_death", "1", sys.executable, "-c", "print('runs')"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


@linux
def test_a_bound_process_keeps_its_process_id_and_gets_signals() -> None:
    program = "import os; print(os.getpid(), flush=True); import signal; signal.pause()"
    with subprocess.Popen(
        parent_death.bound([sys.executable, "-c", program]), stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert int(child.stdout.readline()) == child.pid
        child.terminate()
    assert child.returncode == -signal.SIGTERM


def test_a_process_that_ends_with_its_standard_input_ends_in_order_with_its_parent() -> None:
    child = killed_parents_child("""
        import subprocess, sys
        from streams.runtime.parent_death import pipe_environment
        program = '''
        import signal, sys
        from streams.runtime.parent_death import end_with_stdin
        end_with_stdin()
        print(1, flush=True)
        signal.pause()
        '''
        program = "\\n".join(line.strip() for line in program.splitlines())
        child = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=pipe_environment()
        )
        child.stdout.readline()
        print(child.pid, flush=True)
        child.wait()
    """)
    child.wait(30)


def test_standard_input_is_left_alone_unless_asked_for() -> None:
    program = "from streams.runtime.parent_death import end_with_stdin; end_with_stdin(); print(input())"
    environment = {key: value for key, value in os.environ.items() if key != parent_death.PIPE_VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", program], input="line\n", capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == "line\n"
