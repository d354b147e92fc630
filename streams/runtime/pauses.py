"""Tells when an asynchronous iterator has nothing for a while."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

_T = TypeVar("_T")


async def with_pauses(items: AsyncIterator[_T], seconds: float) -> AsyncGenerator[_T | None]:
    """The items, and None each time that the next one has not come for so long."""
    upcoming: asyncio.Future[_T] | None = None
    try:
        while True:
            if upcoming is None:
                upcoming = asyncio.ensure_future(anext(items))
            await asyncio.wait({upcoming}, timeout=seconds)
            if not upcoming.done():
                yield None
                continue
            done, upcoming = upcoming, None
            try:
                item = done.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        if upcoming is not None:
            upcoming.cancel()
            await asyncio.gather(upcoming, return_exceptions=True)
