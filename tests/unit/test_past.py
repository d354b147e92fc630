"""Questions to the past are answered one at a time, and end with whoever asked."""

import asyncio
import threading

import pytest

from streams.runtime.progress import ProgressReport
from streams.serve.http.past import ExclusivePast, PastRows
from streams.serve.http.query import Busy
from streams.subscription.rows import EVERYTHING, Filter, Row

DEADLINE = 30


class SlowReader:
    """Reads until it is let go, and asks all the time whether to go on, as a replay does."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.released = threading.Event()
        self.ended = threading.Event()

    def rows_at(self, at: str, selection: Filter, tables: tuple[str, ...], progress: ProgressReport) -> PastRows:
        self.begun.set()
        try:
            while not self.released.wait(0.001):
                progress("reading", None)
        finally:
            self.ended.set()
        return PastRows((Row("backend", "east", "shop", at, 1, b"{}"),), (), True)

    def owners(self, address: str, at: str, progress: ProgressReport) -> PastRows:
        raise AssertionError

    def history(
        self, selection: Filter, tables: tuple[str, ...], since: str, until: str, last: int, progress: ProgressReport
    ) -> PastRows:
        raise AssertionError


async def test_one_at_a_time_and_the_next_when_it_is_done() -> None:
    reader = SlowReader()
    past = ExclusivePast(reader)
    async with asyncio.timeout(DEADLINE):
        first = asyncio.create_task(past.rows_at("then", EVERYTHING, ("backend",)))
        await asyncio.to_thread(reader.begun.wait)
        with pytest.raises(Busy) as refused:
            await past.rows_at("then", EVERYTHING, ("backend",))
        assert (refused.value.reason, refused.value.seconds > 0) == ("LIMIT_REACHED", True)
        reader.released.set()
        assert (await first).rows[0].name == "then"
        assert (await past.rows_at("again", EVERYTHING, ("backend",))).rows[0].name == "again"


@pytest.mark.parametrize("how", ["gone", "closed"])
async def test_who_has_gone_is_not_read_for(how: str) -> None:
    reader = SlowReader()
    past = ExclusivePast(reader)
    async with asyncio.timeout(DEADLINE):
        asked = asyncio.create_task(past.rows_at("then", EVERYTHING, ("backend",)))
        await asyncio.to_thread(reader.begun.wait)
        if how == "gone":
            asked.cancel()
        else:
            await past.close()
        await asyncio.to_thread(reader.ended.wait)
        with pytest.raises(asyncio.CancelledError if how == "gone" else Busy):
            await asked
        reader.released.set()
        while True:
            try:
                assert (await past.rows_at("next", EVERYTHING, ("backend",))).rows[0].name == "next"
                break
            except Busy:  # Its thread is about to say that it has ended.
                await asyncio.sleep(0)
