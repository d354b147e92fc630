"""Reads the clusterset's sets, joined with what the clusters contribute."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from aiokafka import TopicPartition

from streams.facets.changelog_records import unreadable
from streams.facets.row_parts import PartRecords, find_in, join_row
from streams.kafka.bulk_reader import BulkReader
from streams.kafka.range_reader import RangeReader
from streams.subscription.client import Batch, ClusterStatus, Snapshot, Subscriber
from streams.subscription.cursor import Cursor
from streams.subscription.rows import Row
from streams.subscription.set_rows import SetRows
from streams.wire.keys import PART_PREFIX, is_row, parse_row_key
from streams.wire.records import CLUSTERSET, FOLDED_TABLES, TABLES, topic_of
from streams.wire.row_codec import is_deleted


def written_tables(bootstrap: str) -> tuple[str, ...]:
    """The tables that workers have written: those of an older version have no clusterset. Raises BrokerError."""
    with RangeReader(bootstrap) as reader:
        return FOLDED_TABLES if reader.has_records(topic_of(CLUSTERSET)) else TABLES


async def read_sets(bootstrap: str) -> tuple[Row, ...]:
    """All sets as of now; none where no worker has written the clusterset. Raises FacetsError."""
    if CLUSTERSET not in await asyncio.to_thread(written_tables, bootstrap):
        return ()
    async with Subscriber(bootstrap, tables=(CLUSTERSET,)) as subscriber:
        return tuple(SetRows().take((await subscriber.snapshot()).rows))


async def join_sets(
    subscriber: Subscriber, bootstrap: str, cursor: str | Cursor | None = None
) -> AsyncGenerator[Snapshot | Batch | ClusterStatus, None]:
    """What the subscriber delivers, with the clusterset's sets joined; `cursor` is the one that it resumes from."""
    sets = SetRows()
    position = Cursor.decode(cursor) if isinstance(cursor, str) and cursor else cursor
    applied = dict(position.applied) if isinstance(position, Cursor) and CLUSTERSET in subscriber.tables else {}
    async for item in subscriber:
        if isinstance(item, Snapshot):
            sets, applied = SetRows(), {}
        elif isinstance(item, ClusterStatus):
            sets.set_silence(item.cluster, item.stale, item.partitions, subscriber.partitions)
        elif item.partition in applied and any(row.table == CLUSTERSET for row in item.rows):
            # What has not changed since the cursor is in the sets, too.
            sets.take(await _rows_at(bootstrap, item.partition, applied.pop(item.partition)))
            for (partition, cluster), silence in subscriber.silent().items():
                if partition == item.partition:
                    sets.set_silence(cluster, silence.reason, (partition,), subscriber.partitions)
        yield item._replace(rows=tuple(sets.join(item.rows)))


async def _rows_at(bootstrap: str, partition: int, offset: int) -> list[Row]:
    """The clusterset's rows of a partition as they were at a journal offset within the resume window: for so long
    compaction leaves all records, and of what is older the newest. Everything up to the offset must be written."""
    newest: dict[bytes, tuple[int, bytes | None]] = {}
    place = TopicPartition(topic_of(CLUSTERSET), partition)
    async with BulkReader(bootstrap) as reader:
        begins, ends = await reader.begins([place]), await reader.ends([place])
        async with aclosing(reader.read(begins, ends)) as chunks:
            async for chunk in chunks:
                for _, key, value, version in chunk:
                    if not (is_row(key) or key.startswith(PART_PREFIX)):
                        continue
                    is_newer = newest.get(key, (-1, None))[0] <= version <= offset
                    if is_newer and not unreadable(CLUSTERSET, key, value, version):
                        newest[key] = version, value
    records = {key: (version, value) for key, (version, value) in newest.items() if value is not None}
    return [
        _whole_row(key.decode(), version, value, records)
        for key, (version, value) in records.items()
        if is_row(key) and not is_deleted(value)
    ]


def _whole_row(key: str, version: int, value: bytes, records: PartRecords) -> Row:
    return Row(CLUSTERSET, *parse_row_key(key), version, join_row(CLUSTERSET, value, find_in(records, key)).row)
