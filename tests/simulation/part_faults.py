"""Faults of rows in parts."""

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

from streams.facets import backend, row_parts
from streams.facets.row_parts import Division
from streams.facets.table import RowUpdate
from streams.fold.recovery import Recovery
from streams.fold.table import TableState, Write
from streams.subscription.delivery import Subscription
from streams.wire.keys import PART_PREFIX
from streams.wire.row_codec import RowContext
from tests.simulation import worker
from tests.simulation.planting import fault


@fault(2, "of the parts that a change makes, one is not written")
def _part_lost() -> AbstractContextManager[Any]:
    real = row_parts.divide

    def divide(*of: Any) -> Division:
        division = real(*of)
        return division._replace(records=division.records[1:])

    return patch.object(row_parts, "divide", divide)


@fault(2, "a row names the part of before its change")
def _old_part_named() -> AbstractContextManager[Any]:
    real = row_parts._divide_slice

    def divide_slice(*of: Any) -> row_parts.Part:
        old, part = of[2], real(*of)
        return part if old is None else part._replace(version=old.version)

    return patch.object(row_parts, "_divide_slice", divide_slice)


@fault(2, "a part is written after the row that names it")
def _part_after_its_row() -> AbstractContextManager[Any]:
    real = TableState._update

    def update(self: TableState[Any], ctx: RowContext, key: str, change: RowUpdate[Any] | None) -> list[Write]:
        return real(self, ctx, key, change)[::-1]

    return patch.object(TableState, "_update", update)


@fault(5, "a row and its parts are in two batches: a crash comes between them", since=210)
def _row_and_parts_in_two_batches() -> AbstractContextManager[Any]:
    return patch.object(worker, "PART_PREFIX", b"~none/")


@fault(2, "parts that no row names any more stay for ever")
def _parts_left_over() -> AbstractContextManager[Any]:
    real = row_parts.divide

    def divide(*of: Any) -> Division:
        division = real(*of)
        return division._replace(records=[record for record in division.records if record[1] is not None])

    return patch.object(row_parts, "divide", divide)


@fault(2, "a chunk keeps an endpoint's state of before, where only that has changed")
def _chunk_not_written_again() -> AbstractContextManager[Any]:
    real = row_parts._divide_slice

    def divide_slice(*of: Any) -> row_parts.Part:
        old, records = of[2], of[6]
        part = real(*of)
        if old is None or len(old.chunks) != len(part.chunks):
            return part
        records[:] = [each for each in records if each[0].count(b"/") == 4 or each[1] is None]
        return row_parts.Part(part.version, old.chunks)

    return patch.object(row_parts, "_divide_slice", divide_slice)


@fault(3, "a subscriber takes parts before they are sealed", since=111)
def _part_taken_before_its_seal() -> AbstractContextManager[Any]:
    real = Subscription.feed

    def feed(self: Subscription, *record: Any) -> Any:
        table, _, _, key, value, version = record
        if key.startswith(PART_PREFIX) and not self.bootstrapping:
            self._part_stores[table].put(key, version, value)
        return real(self, *record)

    return patch.object(Subscription, "feed", feed)


@fault(5, "a worker that comes back takes a row without its parts", since=81)
def _recovered_without_parts() -> AbstractContextManager[Any]:
    real = Recovery.load

    def load(self: Recovery, name: str, key: bytes, value: bytes | None, version: int) -> None:
        if not key.startswith(PART_PREFIX):
            real(self, name, key, value, version)

    return patch.object(Recovery, "load", load)


@fault(1, "whether a row is in parts depends on when its worker was started", since=81)
def _division_forgotten_at_a_restart() -> AbstractContextManager[Any]:
    return patch.object(backend.BackendTable, "with_parts", lambda self, entry, parts: entry)
