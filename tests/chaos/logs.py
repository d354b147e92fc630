"""The whole log at the end: every record of the journal and the facet topics, against what it must be.

Three independent looks: the rules of the log itself (no duplicate, no gap, no row after its seal, frontiers that only
grow), the journal folded once more in one go (the same bytes), and the plain union of the slices, worked out by code
that shares nothing with the fold (`naive`).
"""

from collections import Counter
from typing import Any, NamedTuple

import orjson
from kafka import KafkaConsumer, TopicPartition

from streams.fold.fold import PartitionFold
from streams.kafka.bulk_reader import stamp_of
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import JOURNAL, TABLES, topic_of
from tests.chaos.cluster import PARTITIONS, SHOP, Cluster
from tests.chaos.naive import Naive
from tests.chaos.received import Key, Received
from tests.chaos.report import Report


class LogRecord(NamedTuple):
    """A record as it lies in its topic. `at` is its Kafka timestamp, in seconds: of the journal when the broker
    took it, of others when their producer sent it."""

    offset: int
    at: float
    key: bytes
    value: bytes | None
    version: int


class TableLog:
    """One partition of a facet table, read by the contract: what a replaced worker wrote again is left out."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], bytes | None] = {}
        """By key and version, in the order in which they came."""
        self.seals: dict[int, bytes] = {}
        self.sealed_at: list[tuple[float, int]] = []
        self.newest: dict[str, int] = {}
        self.again = 0


class Written(NamedTuple):
    """Everything that a run has written."""

    journal: dict[int, list[LogRecord]]
    tables: dict[tuple[str, int], TableLog]


def read(bootstrap: str, topic: str) -> dict[int, list[LogRecord]]:
    """A whole topic, by partition."""
    found: dict[int, list[LogRecord]] = {}
    consumer: Any = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    try:
        for partition in range(PARTITIONS):
            each = TopicPartition(topic, partition)
            consumer.assign([each])
            end = consumer.end_offsets([each])[each]
            consumer.seek_to_beginning(each)
            records = found[partition] = []
            while consumer.position(each) < end:
                for polled in consumer.poll(timeout_ms=1000).values():
                    records += [
                        LogRecord(
                            record.offset, record.timestamp / 1000, record.key or b"", record.value,
                            -1 if topic == JOURNAL else stamp_of(record.headers),
                        )
                        for record in polled
                    ]  # fmt: skip
    finally:
        consumer.close()
    return found


def check_logs(cluster: Cluster, report: Report) -> Written:
    """Look at everything that was written, and at everything that each subscriber was given."""
    # The journal last: heartbeats go on, and it must have all that the tables were made of.
    tables = {
        (table, partition): check_table(table, partition, records, report)
        for table in TABLES
        for partition, records in read(cluster.bootstrap, topic_of(table)).items()
    }
    journal = read(cluster.bootstrap, JOURNAL)
    written = Written(journal, tables)
    for partition, records in journal.items():
        check_fold(partition, records, tables, report)
        check_union(partition, records, tables["backend", partition], report)
    report.counts["commits"] = sum(map(len, journal.values()))
    report.counts["epochs"] = max(commit_of(each).get("epoch", 0) for each in journal[0])
    report.counts["rows"] = {
        table: sum(1 for (of, _), log in tables.items() if of == table for key, _ in log.rows if key[0] != "~")
        for table in TABLES
    }
    report.counts["records of replaced workers, dropped by version"] = sum(log.again for log in tables.values())
    given = report.counts["given to subscribers"] = {}
    for part in cluster.of_kind("subscriber"):
        received = Received(part.name, PARTITIONS, lambda what: report.violation("a subscriber's log", what))
        received.read(cluster.folder / f"{part.name}.jsonl")
        _given(part.name, received, written, report)
        given[part.name] = (
            f"{received.batches} batches, {received.rows} rows, {len(received.snapshots)} snapshot, "
            f"{received.starts} starts"
        )
    return written


def commit_of(record: LogRecord) -> dict[str, Any]:
    return orjson.loads(record.value or b"{}")  # type: ignore[no-any-return]


# ---- the rules of a table's log ----------------------------------------------------------------------


def check_table(table: str, partition: int, records: list[LogRecord], report: Report) -> TableLog:
    log = TableLog()
    last: dict[str, dict[str, Any]] = {}
    sealed = -1
    if records and records[0].offset != 0:
        report.violation("the log does not begin at its beginning", f"{table}[{partition}]: {records[0].offset}")
    for record in records:
        where = f"{table}[{partition}] offset {record.offset}"
        if _seals(record.key, record.value):
            value = record.value or b""
            if record.version in log.seals:
                log.again += 1
                if log.seals[record.version] != value:
                    report.violation("a seal was written twice, differently", f"{where}: of {record.version}")
            elif record.version != sealed + 1:
                report.violation("seals are not monotone", f"{where}: {record.version} after {sealed}")
            else:
                seal = orjson.loads(value)
                _monotone(where, last.get(seal["cluster"], {}), seal, report)
                last[seal["cluster"]] = seal
            if record.version not in log.seals:
                log.seals[record.version] = value
                log.sealed_at.append((record.at, record.version))
            sealed = max(sealed, record.version)
            continue
        key = record.key.decode()
        held = log.newest.get(key)
        where += f": {key} version {record.version}"
        if held is not None and record.version <= held:
            log.again += 1
            if (key, record.version) not in log.rows or log.rows[key, record.version] != record.value:
                report.violation("a row was written late, and not the same as before", where)
            continue
        if record.version <= sealed:
            report.violation("a torn set: a row came after its seal", f"{where}, sealed {sealed}")
        if record.value is not None and not key.startswith("~"):
            previous = orjson.loads(record.value)["previous"]
            if previous != held:
                report.violation("a gap: `previous` is not the version before", f"{where}: {previous}, not {held}")
        log.newest[key] = record.version
        log.rows[key, record.version] = record.value
    return log


def _seals(key: bytes, value: bytes | None) -> bool:
    """Whether it is the last seal of its offset; the others, and deleted ones, come before it as rows do."""
    return key.startswith(SEAL_PREFIX) and value is not None and not value.endswith(b'"more":true}')


def _monotone(where: str, last: dict[str, Any], seal: dict[str, Any], report: Report) -> None:
    for name in ("epoch", "at"):
        if last and seal[name] < last[name]:
            report.violation("seals are not monotone", f"{where}: {name} {seal[name]} after {last[name]}")
    for resource, version in seal["frontier"].items():
        before = last.get("frontier", {}).get(resource)
        if before is not None and int(version) < int(before):
            report.violation("a frontier went back", f"{where}: {resource} {version} after {before}")


# ---- the journal, folded again -----------------------------------------------------------------------


def check_fold(
    partition: int, journal: list[LogRecord], tables: dict[tuple[str, int], TableLog], report: Report
) -> None:
    """One fold without any fault makes the same rows and seals, byte by byte."""
    fold = PartitionFold(partition)
    rows: dict[str, dict[tuple[str, int], bytes | None]] = {table: {} for table in TABLES}
    seals: dict[str, dict[int, bytes]] = {table: {} for table in TABLES}
    for record in journal:
        for write in fold.step(record.offset, record.value, round(record.at * 1000)):
            if write.table == "deadletter":
                report.violation("a dead letter", f"journal[{partition}] offset {record.offset}: {write.value!r:.500}")
            elif _seals(write.key, write.value):
                seals[write.table][write.version] = write.value or b""
            else:
                rows[write.table][write.key.decode(), write.version] = write.value
    for table in TABLES:
        log = tables[table, partition]
        end = max(log.seals, default=-1)
        for (key, version), value in rows[table].items():
            if version <= end and log.rows.get((key, version), b"") != value:
                what = "is missing" if (key, version) not in log.rows else "has other bytes"
                report.violation("the journal folds to another table", f"{table}[{partition}] {key} {version} {what}")
        for key, version in log.rows.keys() - rows[table].keys():
            report.violation("the journal folds to another table", f"{table}[{partition}] {key} {version} is no row")
        for offset, value in log.seals.items():
            if seals[table].get(offset) != value:
                due = seals[table].get(offset, b"no seal").decode()
                report.violation(
                    "the journal folds to another seal", f"{table}[{partition}]: {value.decode()}, folded: {due}"
                )


def check_union(partition: int, journal: list[LogRecord], log: TableLog, report: Report) -> None:
    """At every offset the sets of the Services that it touched are the union of their slices."""
    naive = Naive()
    rows: dict[int, list[tuple[str, bytes | None]]] = {}
    for (key, version), value in log.rows.items():
        rows.setdefault(version, []).append((key, value))
    end = max(log.seals, default=-1)
    held: dict[str, bytes] = {}
    for record in journal:
        if record.offset > end:
            break
        for key, value in rows.get(record.offset, ()):
            if value is not None and not key.startswith("~"):
                held[key] = value
        for key in naive.step(commit_of(record)):
            for wrong in naive.differs(key, held.get(key)):
                report.violation("a torn set", f"backend {key} at {partition}/{record.offset}: {wrong}")


# ---- what subscribers were given ---------------------------------------------------------------------


def _given(name: str, received: Received, written: Written, report: Report) -> None:
    """A subscriber's rows are exactly those of the log, from its first snapshot on."""
    if received.first is None:
        report.violation("a subscriber's log", f"{name} was never given anything")
        return
    start, first = received.first
    wanted: Counter[tuple[int, int, str, str]] = Counter()
    values: dict[tuple[int, int, str, str], str] = {}
    snapshot: dict[Key, tuple[int, str]] = {}
    for (table, partition), log in written.tables.items():
        for (key, version), value in log.rows.items():
            if value is None or not _wants(name, table, key):
                continue
            if version <= start.get(partition, -1):
                snapshot[table, key] = (version, value.decode())
            elif version <= received.at.get(partition, -1):
                wanted[partition, version, table, key] += 1
                values[partition, version, table, key] = value.decode()
    snapshot = {key: each for key, each in snapshot.items() if orjson.loads(each[1])["state"] != "deleted"}
    if snapshot != first:
        differing = sorted(key for key in snapshot.keys() | first.keys() if snapshot.get(key) != first.get(key))
        report.violation("a snapshot is not the table at its seals", f"{name}: {differing[:5]}")
    # A controller may come late, even after the last quiet point: what it changed after the tables were read is left.
    ends = {each: max(log.seals, default=-1) for each, log in written.tables.items()}
    found = Counter(
        (each.partition, each.offset, each.table, each.key)
        for each in received.delivered
        if each.offset <= ends[each.table, each.partition]
    )
    if len(received.snapshots) > 1:
        return  # told already, and what was skipped is skipped
    for what, difference in (("missed", wanted - found), ("given without need", found - wanted)):
        for partition, offset, table, key in sorted(difference)[:5]:
            report.violation("a subscriber's log", f"{name}: {table} {key} of {partition}/{offset} {what}")
    for each in received.delivered:
        if values.get((each.partition, each.offset, each.table, each.key), each.value) != each.value:
            report.violation("a subscriber's log", f"{name}: {each.table} {each.key} {each.version}: other bytes")


def _wants(name: str, table: str, key: str) -> bool:
    if key.startswith("~"):
        return False
    return name != "shop" or (table == "backend" and key.split("/")[1] in SHOP)
