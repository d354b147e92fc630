"""What the journal folds to, and what a cluster's objects fold to, in a form in which the two must be equal."""

from collections.abc import Iterable
from typing import Any

import orjson

from streams.fold.fold import PartitionFold
from streams.fold.offline import AuditFold
from streams.wire.records import JOURNAL, TABLES, decode_row
from tests.integration.journal import PARTITIONS, read_topic

Rows = dict[str, dict[str, Any]]


def commits(bootstrap: str) -> list[tuple[int, int, dict[str, Any]]]:
    """By partition and offset, with what progress records say of a cluster."""
    found = []
    for each in read_topic(bootstrap, JOURNAL):
        if each.value.startswith(b"{"):
            record = orjson.loads(each.value)
            found += [(each.partition, each.offset, {**record, **said}) for said in record.pop("clusters", [{}])]
    return [each for each in found if "cluster" in each[2]]


def bare(table: str, value: bytes) -> dict[str, Any]:
    """What a row says, without where in which journal it came to be."""
    row = decode_row(table, value)
    return {
        key: each for key, each in row.items() if key not in {"version", "previous", "asOf", "cause", "change"}
    }  # fmt: skip


def folded(bootstrap: str) -> Rows:
    """The tables that follow from the journal."""
    rows: Rows = {table: {} for table in TABLES}
    folds = [PartitionFold(partition) for partition in range(PARTITIONS)]
    for record in read_topic(bootstrap, JOURNAL):
        for each in folds[record.partition].step(record.offset, record.value):
            assert each.table != "deadletter"
            if not each.key.startswith(b"~") and each.value:
                rows[each.table][each.key.decode()] = bare(each.table, each.value)
    return {table: {key: row for key, row in held.items() if row["state"] != "deleted"} for table, held in rows.items()}


def of_objects(clusters: Iterable[tuple[str, dict[str, Any]]]) -> Rows:
    """The same from clusters' objects (a name and a List each), by the offline fold."""
    rows: Rows = {table: {} for table in TABLES}
    for cluster, listed in clusters:
        for each in AuditFold(cluster).take(listed):
            if each.table in rows and not each.key.startswith(b"~") and each.value:
                rows[each.table][each.key.decode()] = bare(each.table, each.value)
    return rows
