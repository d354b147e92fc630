"""A client that sends requests all the time, and what became of each of them."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Self

from streams.runtime.parent_death import bound

DEADLINE = 60.0
_GRACE_SECONDS = 1.0
"""How long a client may go on with an address after it has acknowledged a set without it: it acknowledges what it has
read, and its workers take it over a little later."""


class Load:
    """One router's requests, to several targets. `requests` counts them, `answered` has by target and address when the
    last request began that it answered, `violations` get the failed ones, and those that reached what was withdrawn."""

    def __init__(self, name: str, address: Callable[[str], str], violations: list[str]) -> None:
        self.name = name
        self.requests = 0
        self.failed = 0
        self.misrouted = 0
        self.answered: dict[str, dict[str, float]] = {}
        self._address = address
        self._violations = violations
        self._withdrawn: dict[tuple[str, str], float] = {}
        self._suspects: dict[str, list[tuple[str, float, float]]] = {}
        self._closed: dict[str, asyncio.Event] = {}
        self._news = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, folder: Path, rate: float, environment: Mapping[str, str]) -> Self:
        """Start the process; its errors go to a log in the folder."""
        log_path = folder / f"load-{self.name}.log"
        with log_path.open("wb") as log:
            process = self._process = await asyncio.create_subprocess_exec(
                *bound([sys.executable, "-m", "tests.routers.load_client", str(rate)]),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
                env={**os.environ, **environment},
            )  # fmt: skip
        assert process.stdout
        self._reading = asyncio.create_task(self._read(process.stdout))
        return self

    async def open(self, resource: str) -> None:
        """Send requests to a Service port from now on; returns with the first answer."""
        self.answered[resource] = {}
        self._order(f"open {resource} {self._address(resource)}")
        await self._until(lambda: bool(self.answered[resource]), f"{resource} is answered")

    async def close(self, resource: str) -> None:
        """Send no more; returns when all that were sent have an answer."""
        closed = self._closed[resource] = asyncio.Event()
        self._order(f"close {resource}")
        async with asyncio.timeout(DEADLINE):
            await closed.wait()
        self._suspects.pop(resource, None)
        for key in [key for key in self._withdrawn if key[0] == resource]:
            del self._withdrawn[key]

    def judge(self, resource: str, allowed: Collection[str], known: Iterable[str], began: float) -> None:
        """After a change that began at this time, and that the router has acknowledged: only the `allowed` ones of the
        `known` addresses are in the set now. What went before to an address that was out of it was misrouted, but
        where the change brought it back while the request was under way."""
        suspects, self._suspects[resource] = self._suspects.get(resource, []), []
        for address, started, ended in suspects:
            if address not in allowed or ended < began:
                self.misrouted += 1
                late = started - self._withdrawn[resource, address]
                self._violations.append(
                    f"{self.name}: a request to {resource} reached {address} {late:.1f} s after it was out of the set"
                )
        now = time.monotonic()
        for address in known:
            if address in allowed:
                self._withdrawn.pop((resource, address), None)
            else:
                self._withdrawn.setdefault((resource, address), now)

    async def until_answered(self, resource: str, addresses: Iterable[str]) -> None:
        """Wait until each of these has answered a request that is sent from now on. Raises TimeoutError."""
        now, wanted = time.monotonic(), set(addresses)

        def missing() -> set[str]:
            return {address for address in wanted if self.answered[resource].get(address, 0.0) < now}

        await self._until(lambda: not missing(), f"all of {sorted(wanted)} answer for {resource}")

    async def end(self) -> None:
        """End the process, and take what it has still to say."""
        if self._process is None:
            return
        assert self._process.stdin
        self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEADLINE):
                await self._process.wait()
                await self._reading
        if self._process.returncode is None:
            self._process.kill()

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        try:
            async with asyncio.timeout(DEADLINE):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"{self.name}: not within {DEADLINE:g} s: {what}") from None

    def _order(self, line: str) -> None:
        assert self._process
        assert self._process.stdin
        self._process.stdin.write(f"{line}\n".encode())

    async def _read(self, lines: asyncio.StreamReader) -> None:
        while line := (await lines.readline()).decode().rstrip("\n"):
            self.take(line)
            self._news.set()

    def take(self, line: str) -> None:
        """Take a line of the client's."""
        resource, at, *rest = line.split(" ", 4)
        if resource == "closed":
            self._closed.pop(at).set()
            return
        started, ended, (status, answer) = float(at), float(rest[0]), rest[1:]
        self.requests += 1
        if status != "OK":
            self.failed += 1
            self._violations.append(f"{self.name}: a request to {resource} at {started:.3f} failed: {status} {answer}")
            return
        self.answered[resource][answer] = max(started, self.answered[resource].get(answer, 0.0))
        withdrawn = self._withdrawn.get((resource, answer))
        if withdrawn is not None and started > withdrawn + _GRACE_SECONDS:
            self._suspects.setdefault(resource, []).append((answer, started, ended))
