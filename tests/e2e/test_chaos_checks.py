"""The checks of chaos see what they are there for: each fault, planted in a good log, is a violation."""

import base64
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from streams.fold.fold import PartitionFold
from streams.wire.keys import SEAL_PREFIX
from streams.wire.partitioning import partition_of
from streams.wire.records import TABLES
from tests.chaos.cluster import PARTITIONS
from tests.chaos.logs import LogRecord, check_fold, check_table, check_union
from tests.chaos.received import Received
from tests.chaos.report import Report
from tests.integration.journal import Churn

Logs = dict[tuple[str, int], list[LogRecord]]


def written() -> tuple[dict[int, list[LogRecord]], Logs]:
    """A journal of some length, and the tables that follow from it."""
    churn = Churn(1, partitions=PARTITIONS)
    records = churn.start()
    for _ in range(100):
        records += churn.change()
    journal: dict[int, list[LogRecord]] = {partition: [] for partition in range(PARTITIONS)}
    for record in records:
        into = journal[record.partition]
        into.append(LogRecord(len(into), 0.0, b"east", record.value, -1))
    tables: Logs = {(table, partition): [] for table in TABLES for partition in range(PARTITIONS)}
    for partition, commits in journal.items():
        fold = PartitionFold(partition)
        for commit in commits:
            for write in fold.step(commit.offset, commit.value):
                into = tables[write.table, partition]
                into.append(LogRecord(len(into), 0.0, write.key, write.value, write.version))
    return journal, tables


def violations(journal: dict[int, list[LogRecord]], tables: Logs) -> set[str]:
    report = Report(1, 0)
    read = {each: check_table(*each, records, report) for each, records in tables.items()}
    for partition, records in journal.items():
        check_fold(partition, records, read, report)
        check_union(partition, records, read["backend", partition], report)
    return {each["what"] for each in report.violations}


def rows(log: list[LogRecord]) -> list[int]:
    """Where rows are that replace another one."""
    return [
        index
        for index, record in enumerate(log)
        if not record.key.startswith(b"~") and b'"previous":null' not in (record.value or b"")
    ]


def drop_row(log: list[LogRecord]) -> None:
    del log[rows(log)[5]]


def drop_seal(log: list[LogRecord]) -> None:
    del log[[index for index, record in enumerate(log) if record.key.startswith(SEAL_PREFIX)][8]]


def row_after_seal(log: list[LogRecord]) -> None:
    at = rows(log)[5]
    seal = next(index for index in range(at, len(log)) if log[index].key.startswith(SEAL_PREFIX))
    log.insert(seal, log.pop(at))


def lose_endpoint(log: list[LogRecord]) -> None:
    for index in rows(log):
        row = orjson.loads(log[index].value or b"")
        if row.get("groups") and row["groups"][0]["endpoints"]:
            row["groups"][0]["endpoints"].pop()
            log[index] = log[index]._replace(value=orjson.dumps(row))
            return


def other_duplicate(log: list[LogRecord]) -> None:
    at = rows(log)[5]
    value = (log[at].value or b"").replace(b'"state":"ready"', b'"state":"empty"')
    log.append(log[at]._replace(value=value))


def old_row_as_new(log: list[LogRecord]) -> None:
    at, later = rows(log)[3], rows(log)[6]
    log[later] = log[later]._replace(key=log[at].key, value=log[at].value)


def frontier_back(log: list[LogRecord]) -> None:
    seals = [index for index, record in enumerate(log) if b'"services":"' in (record.value or b"")]
    seal = orjson.loads(log[seals[-1]].value or b"")
    seal["frontier"] = {"services": "1"}
    log[seals[-1]] = log[seals[-1]]._replace(value=orjson.dumps(seal))


def test_a_good_log_has_no_violation() -> None:
    assert violations(*written()) == set()


def test_what_a_replaced_worker_writes_again_is_none() -> None:
    journal, tables = written()
    for log in tables.values():
        log.extend(log[-20:])
    assert violations(journal, tables) == set()


@pytest.mark.parametrize(
    ("plant", "seen"),
    [
        (drop_row, "a gap: `previous` is not the version before"),
        (drop_seal, "seals are not monotone"),
        (row_after_seal, "a torn set: a row came after its seal"),
        (lose_endpoint, "a torn set"),
        (lose_endpoint, "the journal folds to another table"),
        (other_duplicate, "a row was written late, and not the same as before"),
        (old_row_as_new, "a gap: `previous` is not the version before"),
        (frontier_back, "a frontier went back"),
    ],
)
def test_a_planted_fault_is_seen(plant: Callable[[list[LogRecord]], None], seen: str) -> None:
    journal, tables = written()
    plant(tables["backend", 0])
    assert seen in violations(journal, tables)


def batch(offset: int, previous: int | None, version: int | None = None) -> dict[str, object]:
    version = offset if version is None else version
    value = orjson.dumps({"previous": previous, "state": "ready"}).decode()
    rows = [{"table": "backend", "key": KEY, "version": version, "value": value}]
    return {"type": "batch", "partition": PARTITION, "offset": offset, "rows": rows}


def snapshot(reason: str) -> dict[str, object]:
    cursor = base64.urlsafe_b64encode(orjson.dumps({"applied": {str(PARTITION): 4}})).decode()
    value = orjson.dumps({"previous": None, "state": "ready"}).decode()
    rows = [{"table": "backend", "key": KEY, "version": 3, "value": value}]
    return {"type": "snapshot", "reason": reason, "cursor": cursor, "seals": [], "rows": rows}


KEY = "east/shop/cart"
PARTITION = partition_of("shop", "cart", PARTITIONS)
STARTED = {"type": "started", "pid": 1, "resumed": False}
RESUMED = {"type": "started", "pid": 2, "resumed": True}
GOOD = [STARTED, snapshot("start"), batch(5, 3), RESUMED, batch(6, 5)]


def complaints(lines: list[dict[str, object]], folder: Path) -> list[str]:
    log = folder / "one.jsonl"
    log.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines) + b'{"half a li')
    found: list[str] = []
    Received("one", PARTITIONS, found.append).read(log)
    return found


def test_a_good_subscription_has_no_complaint(tmp_path: Path) -> None:
    assert complaints(GOOD, tmp_path) == []


@pytest.mark.parametrize(
    ("more", "seen"),
    [
        (batch(6, 5), "(again)"),
        (batch(8, 6), "others are missing"),
        (batch(7, 5), "follows 5, but 6 is held"),
        (batch(7, 6, version=6), "not of this offset"),
        (snapshot("start"), "a snapshot with the reason 'start'"),
        (snapshot("gap"), "inside the resume window"),
    ],
)
def test_a_subscriber_that_is_given_wrong_things_complains(more: dict[str, object], seen: str, tmp_path: Path) -> None:
    assert any(seen in what for what in complaints([*GOOD, more], tmp_path))
