"""README's command blocks, taken out of it and run as they stand."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from tenacity import AsyncRetrying, retry_if_result, stop_after_delay, wait_fixed

ROOT = Path(__file__).parents[2]
DEADLINE = 120
_ACTIVATE = "source .venv/bin/activate"
_TRACEBACK = "Traceback (most recent call last)"


class Block(NamedTuple):
    """A fenced block: its language and its lines."""

    language: str
    lines: tuple[str, ...]


class Expected(NamedTuple):
    """What a command does: a regular expression that its output matches, its exit codes, and whether it goes on until
    it is interrupted. With one of the `early` exit codes, or another output, it is run again: what it asks about comes
    with time."""

    output: str
    exit_codes: frozenset[int] = frozenset({0})
    endless: bool = False
    early: frozenset[int] = frozenset()


def blocks(text: str) -> Iterator[Block]:
    """All fenced blocks of a Markdown text, in order."""
    for language, body in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        yield Block(language, tuple(body.splitlines()))


def commands(block: Block) -> list[str]:
    """The commands of a shell block: a line each, without the remark behind it."""
    return [command for line in block.lines if (command := re.sub(r"(^|\s)#\s.*", "", line).strip())]


class Terminal:
    """Runs commands in a folder that looks like a clone after `make setup`; `prefix` starts a program elsewhere, such
    as in another network namespace. What is endless runs on until `close`, as in a terminal of its own."""

    def __init__(self, folder: Path, environment: Mapping[str, str], prefix: Sequence[str] = ()) -> None:
        self.folder = folder
        self._prefix = prefix
        # Only what a user's login shell has: nothing of the virtual environment that runs the tests.
        venv = str(Path(sys.prefix) / "bin")
        path = [each for each in os.environ.get("PATH", os.defpath).split(os.pathsep) if each != venv]
        kept = {name: os.environ[name] for name in ("LANG", "JAVA_HOME") if name in os.environ}
        self._environment = {
            "HOME": str(folder), "PATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1", **kept, **environment,
        }  # fmt: skip
        self._running: list[_Endless] = []
        (folder / ".venv").symlink_to(sys.prefix)

    async def run(self, command: str, expected: Expected) -> str:
        """The command's output, which is as expected: all of it, or that of something endless up to what is expected
        of it. Raises AssertionError."""
        if expected.endless:
            self._running.append(endless := _Endless(command, await self._start(command)))
            return await endless.until(expected.output)

        code, output = await self._eventually(command, expected)
        assert code in expected.exit_codes, f"{command}: exit code {code}\n{output}"
        assert re.search(expected.output, output), f"{command}: {expected.output!r} is not in\n{output}"
        assert _TRACEBACK not in output, f"{command}:\n{output}"
        return output

    async def _eventually(self, command: str, expected: Expected) -> tuple[int, str]:
        """Exit code and output, as soon as they are as expected; the last ones, if they don't come to be."""

        def comes_later(done: tuple[int, str]) -> bool:
            code, output = done
            return code in expected.early or (code in expected.exit_codes and not re.search(expected.output, output))

        async def complete() -> tuple[int, str]:
            process = await self._start(command)
            async with asyncio.timeout(DEADLINE):
                output, _ = await process.communicate()
            return process.returncode or 0, output.decode(errors="replace")

        found: tuple[int, str] = await AsyncRetrying(
            stop=stop_after_delay(DEADLINE),
            wait=wait_fixed(1),
            retry=retry_if_result(comes_later),
            retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
        )(complete)
        return found

    async def close(self) -> dict[str, str]:
        """Press Ctrl-C in every terminal in which something goes on, the newest first. Each command's output up to
        then."""
        outputs = {}
        while self._running:
            endless = self._running.pop()
            outputs[endless.command] = await endless.interrupt()
        return outputs

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _start(self, command: str) -> asyncio.subprocess.Process:
        script = f"{_ACTIVATE}\n{command}"
        return await asyncio.create_subprocess_exec(
            *self._prefix, "bash", "-euo", "pipefail", "-c", script, cwd=self.folder, env=self._environment,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip


class _Endless:
    """A command that goes on."""

    def __init__(self, command: str, process: asyncio.subprocess.Process) -> None:
        self.command = command
        self._process = process
        self._output = ""
        self._read = asyncio.Condition()
        self._reading = asyncio.create_task(self._drain())

    async def until(self, pattern: str) -> str:
        """The output, as soon as it matches."""
        try:
            async with asyncio.timeout(DEADLINE), self._read:
                await self._read.wait_for(lambda: re.search(pattern, self._output) or self._reading.done())
        except TimeoutError:
            pass
        assert re.search(pattern, self._output), f"{self.command}: {pattern!r} is not in\n{self._output}"
        return self._output

    async def interrupt(self) -> str:
        """Ctrl-C, to all that runs in this terminal; the output up to then."""
        before = self._output
        try:
            os.killpg(self._process.pid, signal.SIGINT)
            async with asyncio.timeout(DEADLINE):
                await self._process.wait()
                await self._reading
        except (TimeoutError, ProcessLookupError):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            raise AssertionError(f"{self.command}: does not end after Ctrl-C\n{self._output}") from None
        return before

    async def _drain(self) -> None:
        assert self._process.stdout
        while chunk := await self._process.stdout.read(65536):
            async with self._read:
                self._output += chunk.decode(errors="replace")
                self._read.notify_all()
        async with self._read:
            self._read.notify_all()
