"""Keeps a part of a process running: restarted when it ends by itself, with growing pauses, until it is given up."""

import asyncio
import contextlib
import logging
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.local.kafka.broker import EmbeddedKafka
from streams.runtime.parent_death import pipe_environment
from streams.runtime.retry import RetryPolicy, Sleep, retry

log = logging.getLogger("facets.up")

CHILD_STOP_SECONDS = 8.0
"""From SIGTERM to SIGKILL. Nothing is lost by the latter: the next start resumes from the last seal."""

_BROKER_LOOK_SECONDS = 1.0
_LASTING = {
    ExitCode.USAGE, ExitCode.BAD_DATA, ExitCode.UNKNOWN_NAME, ExitCode.GAVE_UP, ExitCode.FORBIDDEN,
    ExitCode.MISCONFIGURED,
}  # fmt: skip
"""Exit codes that a restart would repeat."""


class PartEnded(FacetsError):
    """A part ended by itself."""


class Restarts(NamedTuple):
    """A part that ended is restarted after a pause that doubles from `first` to `longest` seconds, and given up at its
    `attempts`th end in a row. After `steady` seconds of running, the count starts again."""

    attempts: int = 8
    first: float = 1.0
    longest: float = 15.0
    steady: float = 60.0

    @property
    def policy(self) -> RetryPolicy:
        """The pauses, without jitter: a part on this machine competes with no other."""
        return RetryPolicy(self.first, self.longest, self.attempts, jitter=0)


DEFAULT_RESTARTS = Restarts()


async def keep_running(
    name: str,
    run: Callable[[], Awaitable[object]],
    ending: asyncio.Event,
    restarts: Restarts = DEFAULT_RESTARTS,
    *,
    pause: Sleep | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Await `run`, and again whenever it fails, until `ending`. Raises its last or permanent error."""

    async def until_ending(seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ending.wait(), seconds)

    wait = pause or until_ending

    def report(error: Exception, seconds: float) -> None:
        log.warning("%s; starting the %s again in %.0f s", error, name, seconds)

    async def start() -> None:
        if ending.is_set():
            return
        began = clock()
        try:
            await run()
        except Exception as error:
            if ending.is_set():
                return
            if not _may_pass(error) or clock() - began < restarts.steady:
                raise
            report(error, restarts.first)
            await wait(restarts.first)

    while not ending.is_set():
        await retry(start, restarts.policy, passes=_may_pass, report=report, sleep=wait)


class ChildProcess:
    """A `facets` command as a child process, which ends with this one. `note` gets each process id."""

    def __init__(self, name: str, command: tuple[str, ...], note: Callable[[str, int], None]) -> None:
        self._name = name
        self._command = command
        self._note = note

    async def run(self, ending: asyncio.Event) -> None:
        """Run it until it ends by itself, which raises PartEnded, or until `ending`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "streams.cli", *self._command,
            stdin=asyncio.subprocess.PIPE, env=pipe_environment(), start_new_session=True,
        )  # fmt: skip
        waits = {asyncio.create_task(process.wait()), asyncio.create_task(ending.wait())}
        try:
            self._note(self._name, process.pid)
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await self._end(process)
            for task in waits:
                task.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        if not ending.is_set():
            raise PartEnded(
                f"the {self._name} (process {process.pid}) ended: {describe_exit(process.returncode)}",
                f"its last lines above say why; run it on its own to see more: facets {self._command[0]}",
                _exit_code(process.returncode),
            )

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            await asyncio.wait_for(process.wait(), CHILD_STOP_SECONDS)
        except TimeoutError:
            log.warning("the %s did not stop in %.0f s: killed", self._name, CHILD_STOP_SECONDS)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class BrokerPart:
    """The embedded broker, already started, as a part that is kept running at its port. `note` gets the process id of
    each restarted one."""

    def __init__(self, broker: EmbeddedKafka, note: Callable[[str, int], None]) -> None:
        self._broker = broker
        self._note = note

    async def run(self, ending: asyncio.Event) -> None:
        """Start it unless it runs, and watch it until `ending`. Raises PartEnded, KafkaUnavailable."""
        if not self._broker.is_running():
            await asyncio.to_thread(self._broker.restart)
            self._note("broker", self._broker.pid)
            log.warning("the embedded broker runs again at %s", self._broker.bootstrap_servers)
        while self._broker.is_running():
            try:
                await asyncio.wait_for(ending.wait(), _BROKER_LOOK_SECONDS)
            except TimeoutError:
                continue
            return
        raise PartEnded(
            f"the embedded Kafka broker (process {self._broker.pid}) ended by itself",
            f"its log says why: {self._broker.log_file}",
            ExitCode.UNAVAILABLE,
        )


def describe_exit(code: int | None) -> str:
    """A process's return code in words."""
    if code is None:
        return "unknown"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"


def _exit_code(code: int | None) -> ExitCode:
    return next(
        (known_code for known_code in ExitCode if known_code == code and known_code != ExitCode.OK), ExitCode.NEGATIVE
    )


def _may_pass(error: BaseException) -> bool:
    """Whether a restart may succeed."""
    if isinstance(error, FacetsError):
        return error.exit_code not in _LASTING
    return isinstance(error, OSError)
