"""Sends requests all the time, each target at a fixed rate, whatever the answers take.

A line in is `open KEY TARGET [AUTHORITY]` or `close KEY`, a line out `KEY STARTED ENDED STATUS ANSWER` for each
request, or `closed KEY`. Times are of the system's monotonic clock, in seconds.
"""

import asyncio
import sys
import time
from typing import Any

import grpc

from tests.routers.backends import METHOD

_TIMEOUT_SECONDS = 10


async def _call(key: str, call: Any) -> None:
    started = time.monotonic()
    try:
        answer = await call(b"", timeout=_TIMEOUT_SECONDS)
        print(key, f"{started:.4f}", f"{time.monotonic():.4f}", "OK", answer.decode(), flush=True)
    except grpc.aio.AioRpcError as error:
        details = str(error.details()).replace("\n", " ")
        print(key, f"{started:.4f}", f"{time.monotonic():.4f}", error.code().name, details, flush=True)


async def _send(key: str, target: str, authority: str, rate: float) -> None:
    options = [("grpc.default_authority", authority)] if authority else []
    sent: set[asyncio.Task[None]] = set()
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        call = channel.unary_unary(METHOD)
        began, count = time.monotonic(), 0
        try:
            while True:
                task = asyncio.create_task(_call(key, call))
                sent.add(task)
                task.add_done_callback(sent.discard)
                count += 1
                await asyncio.sleep(max(0.0, began + count / rate - time.monotonic()))
        finally:
            # What was sent is waited for: closing the channel would cancel it.
            await asyncio.gather(*sent)


async def main(rate: float) -> None:
    """Take orders until the input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    targets: dict[str, asyncio.Task[None]] = {}
    while line := (await reader.readline()).decode():
        order, key, *rest = line.split()
        if order == "open":
            target, authority = (*rest, "")[:2]
            targets[key] = asyncio.create_task(_send(key, target, authority, rate))
        else:
            await _end(targets.pop(key))
            print("closed", key, flush=True)
    for task in targets.values():
        await _end(task)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
