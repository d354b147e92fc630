"""A cluster's end: everything of it is deleted in one commit, and the name is free for whoever opens it anew."""

from typing import Any

import msgspec

from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import TABLES, Seal
from streams.wire.timestamps import later
from tests.integration.journal import endpoint_slice, service
from tests.support.routes import route, rule, to_service

AT = "2026-11-24T12:00:00.000Z"
_ALL = (*RESOURCES, *OPTIONAL)
WINDOW = 3600


def collector(cluster: str = "east", epoch: int = 1, source: str = "") -> Collector:
    return Collector(
        cluster, epoch=epoch, writer=f"w{epoch}", seq=10 * epoch, partitions=1, resources=_ALL, source=source
    )


def listed(made: Collector, *items: dict[str, Any]) -> list[JournalRecord]:
    records = made.begin(AT)
    for resource in _ALL:
        made.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
    for item in items:
        made.ingest(item["kind"], ReflectorEvent(Kind.INIT_APPLY, item, ""))
    for resource in _ALL:
        made.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "9"))
    return records + made.flush(AT)


def routed() -> dict[str, Any]:
    item = route("r", [to_service("cart")], [rule("cart")])
    item["metadata"]["resourceVersion"] = "7"
    return item


CART = service("cart", 5), endpoint_slice("cart-a", "cart", 6, {"10.1.0.1": True}), routed()


class Log:
    """A partition's fold, with what it wrote; `restart` reads that back."""

    def __init__(self) -> None:
        self.fold = PartitionFold(0, window_seconds=WINDOW)
        self.offset = 0
        self.written: list[Write] = []

    def take(self, *records: JournalRecord) -> list[Write]:
        writes = []
        for record in records:
            writes += self.fold.step(self.offset, record.value)
            self.offset += 1
        self.written += writes
        return writes

    def restart(self, upto: dict[str, int] | None = None) -> int:
        """A new worker; of each table only so many records were written."""
        self.fold = PartitionFold(0, window_seconds=WINDOW)
        for table in TABLES:
            own = [write for write in self.written if write.table == table]
            for write in own[: (upto or {}).get(table, len(own))]:
                self.fold.load(table, write.key, write.value, write.version)
        resume, again = self.fold.recover()
        assert again == []
        return resume

    def seal(self, cluster: str = "east") -> Seal:
        return self.fold.clusters[cluster].seal


def states(writes: list[Write]) -> dict[tuple[str, str], str]:
    return {
        (write.table, write.key.decode()): msgspec.json.decode(write.value)["state"] if write.value else "tombstone"
        for write in writes
        if not write.key.startswith(b"~")
    }


def closed(log: Log, epoch: int = 2) -> list[Write]:
    made = collector(epoch=epoch)
    return log.take(*made.begin(AT), *made.close(AT))


ALL_TABLES = [(table, "east/shop/cart") for table in TABLES]


def test_all_rows_are_deleted_at_once_and_the_seal_says_why() -> None:
    log = Log()
    assert set(states(log.take(*listed(collector(), *CART))).values()) == {"ready"}
    assert states(closed(log)) == dict.fromkeys(ALL_TABLES, "deleted")
    assert (log.seal().closed, log.seal().frontier, log.seal().phase) == (True, {}, "close")


def test_nothing_more_of_it_is_accepted_until_a_higher_epoch_opens() -> None:
    log = Log()
    first = collector()
    log.take(*listed(first, *CART))
    ending = collector(epoch=2)
    log.take(*ending.begin(AT), *ending.close(AT))
    first.ingest("Service", ReflectorEvent(Kind.APPLY, service("tea", 12), "12"))
    ending.commits.synced = True
    late = [*first.flush(AT), *ending.heartbeat(AT), *ending.begin(AT)]
    assert states(log.take(*late)) == {}
    assert log.seal().closed
    assert set(states(log.take(*listed(collector(epoch=3), *CART))).values()) == {"ready"}
    assert (log.seal().closed, log.seal().frontier["services"]) == (False, "9")


def test_what_is_left_of_it_becomes_tombstones_by_the_time_of_other_clusters() -> None:
    log = Log()
    west = collector("west")
    log.take(*listed(collector(), *CART), *listed(west))
    closed(log)
    assert states(log.take(*west.heartbeat(later(AT, WINDOW - 1)))) == {}
    offset = log.offset
    writes = log.take(*west.heartbeat(later(AT, WINDOW)))
    assert states(writes) == dict.fromkeys(ALL_TABLES, "tombstone")
    assert {write.version for write in writes} == {offset}
    assert states(log.take(*west.heartbeat(later(AT, 2 * WINDOW)))) == {}


def test_a_restart_at_any_point_writes_what_is_missing_and_nothing_else() -> None:
    whole = Log()
    west = collector("west")
    journal = [*listed(collector(), *CART), *listed(west)]
    made = collector(epoch=2)
    journal += [*made.begin(AT), *made.close(AT), *west.heartbeat(later(AT, WINDOW)), *west.heartbeat(AT)]
    whole.take(*journal)
    for cut in range(len(whole.written)):
        log = Log()
        log.written = whole.written[:cut]
        resume = log.restart()
        again = [
            write for offset in range(resume, len(journal)) for write in log.fold.step(offset, journal[offset].value)
        ]
        final: dict[tuple[str, bytes], Any] = {}
        for write in (*whole.written[:cut], *again):
            final[write.table, write.key] = (write.version, write.value)
        assert final == {(write.table, write.key): (write.version, write.value) for write in whole.written}
        assert log.fold.clusters["east"].seal == whole.fold.clusters["east"].seal


def test_where_the_journal_expired_a_closed_cluster_is_closed_in_every_table() -> None:
    log = Log()
    log.take(*listed(collector(), *CART))
    ending = collector(epoch=2)
    log.take(*ending.begin(AT))
    before = {table: len([write for write in log.written if write.table == table]) for table in TABLES}
    log.take(*ending.close(AT))
    del before["frontend"]
    log.restart(before)
    writes = log.fold.expire(log.offset + 50)
    assert states(writes) == {each: "deleted" for each in ALL_TABLES if each[0] != "frontend"}
    assert (log.seal().closed, log.seal().lost) == (True, False)


def test_an_open_snapshot_is_dropped_and_a_close_without_one_closes_too() -> None:
    log = Log()
    half = collector()
    log.take(*half.begin(AT))
    half.ingest("Service", ReflectorEvent(Kind.INIT_APPLY, service("cart", 5), ""))
    log.take(*half.flush(AT), *half.close(AT))
    assert (log.seal().closed, log.fold.clusters["east"].snapshot) == (True, None)
    assert states(log.written) == {}


def test_a_commit_says_where_its_cluster_is_from() -> None:
    log = Log()
    log.take(*listed(collector(source="demo")))
    assert log.seal().source == "demo"
    seals = [msgspec.json.decode(each.value or b"") for each in log.written if each.key.startswith(SEAL_PREFIX)]
    assert {seal["source"] for seal in seals} == {"demo"}
    log.take(*listed(collector(epoch=2)))
    assert log.seal().source == ""
