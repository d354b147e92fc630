"""The subscription where compaction has been at the log of one table while the other stood still."""

import msgspec
import pytest

from streams.fold.table import Write
from streams.subscription.delivery import Batch, ChangelogGap, Subscription
from streams.subscription.rows import Filter
from streams.wire.keys import is_row
from streams.wire.records import Seal
from tests.properties.folding import logs_of, new_fold, restarted
from tests.support.journal_values import TWO_CLUSTERS, commit, written

TABLES = ("frontend", "backend")
VALUES = [commit("begin", 1), commit("snapshot", 2, "cart"), commit("end", 3)]


def fed(subscription: Subscription, table: str, log: list[Write], start: int = 0) -> list[Batch]:
    return [
        batch
        for position, write in enumerate(log, start)
        for batch in subscription.feed(table, 0, position, write.key, write.value, write.version)
    ]


def names(subscription: Subscription) -> list[tuple[str, int]]:
    return [(row.table, row.version) for row in subscription.ready()]


def test_rows_that_compaction_took_from_below_the_cut_are_waited_for() -> None:
    """A worker ended between the two tables, and the row at the cut is gone from the one that is ahead."""
    logs = logs_of(written(new_fold(), [*VALUES, commit("live", 4, "cart")]))
    last = {write.key: index for index, write in enumerate(logs["frontend"])}
    compact = [write for index, write in enumerate(logs["frontend"]) if last[write.key] == index]
    below = [write for write in logs["backend"] if write.version < 3]
    subscription = Subscription(TABLES, 1, Filter())
    fed(subscription, "frontend", compact)
    fed(subscription, "backend", below)
    assert not subscription.complete()
    fed(subscription, "backend", logs["backend"][len(below) :], len(below))
    assert subscription.complete()
    assert names(subscription) == [("backend", 2), ("frontend", 3)]


def test_a_row_that_follows_none_of_the_snapshot_is_a_gap() -> None:
    logs = logs_of(written(new_fold(), [*VALUES, commit("live", 4, "mail"), commit("live", 5, "mail")]))
    subscription = Subscription(("frontend",), 1, Filter())
    below = [write for write in logs["frontend"] if write.version < 3]
    fed(subscription, "frontend", below)
    assert subscription.complete()
    assert names(subscription) == [("frontend", 2)]
    with pytest.raises(ChangelogGap):
        fed(subscription, "frontend", [write for write in logs["frontend"] if write.version > 3], len(below))


def test_where_the_journal_expired_every_cluster_is_said_to_be_lost() -> None:
    logs = logs_of(written(new_fold(), TWO_CLUSTERS))
    subscription = Subscription(TABLES, 1, Filter())
    for table in TABLES:
        fed(subscription, table, logs[table])
    assert subscription.complete()
    assert len(subscription.ready()) == 4
    fold, _, _ = restarted(logs)
    expired = logs_of(fold.expire(20))
    assert fed(subscription, "frontend", expired["frontend"], 100) == []
    batches = fed(subscription, "backend", expired["backend"], 100)
    assert [(batch.seal.cluster, batch.seal.lost, len(batch.rows)) for batch in batches] == [
        ("west", True, 4),
        ("east", True, 0),
    ]
    assert all(seal.lost and not seal.frontier for seal in subscription.seals.values())


def test_tables_of_another_journal_are_known_by_their_seals() -> None:
    """As where the journal was made anew: one record ahead of it is garbage, most of them are not."""
    logs = logs_of(written(new_fold(), VALUES))
    for end, strangers in ((3, set()), (1, {0})):
        subscription = Subscription(TABLES, 1, Filter())
        subscription.journal_ends = {0: end}
        for table in TABLES:
            records = ((i, each.key, each.value, each.version) for i, each in enumerate(logs[table]))
            subscription.gather(table, 0, records)
        assert subscription.of_another_journal() == strangers
        assert subscription.doubtful() == bool(strangers)


def test_an_offset_that_one_table_lost_is_no_cut() -> None:
    """Simulation, seeds 5204 and 8314: the journal expired before one table had sealed what the other has."""
    values = [*VALUES, commit("live", 4, "cart"), commit("live", 5, "cart")]
    logs = logs_of(written(new_fold(), values))
    logs["backend"] = [write for write in logs["backend"] if write.version < 4]
    fold, _, _ = restarted(logs)
    expired = logs_of(fold.expire(20))
    late = Subscription(TABLES, 1, Filter())
    fed(late, "frontend", logs["frontend"])
    fed(late, "backend", [*logs["backend"], *expired["backend"]])
    assert not late.complete()
    fed(late, "frontend", expired["frontend"], 100)
    assert late.complete()
    assert {version for _, version in names(late)} == {19}
    # One that was there before, and finds the older seals of the other table compacted.
    live = Subscription(TABLES, 1, Filter())
    for table in TABLES:
        fed(live, table, [write for write in logs[table] if write.version < 2])
    assert live.complete()
    live.ready()
    for table, last in (("frontend", 4), ("backend", 3)):
        rest = [write for write in logs[table] if write.version >= 2]
        assert fed(live, table, [write for write in rest if is_row(write.key) or write.version == last], 50) == []
    assert fed(live, "frontend", expired["frontend"], 100) == []
    assert [batch.seal.offset for batch in fed(live, "backend", expired["backend"], 100)] == [19]


def test_a_cluster_that_one_table_lost_at_the_cut_is_lost() -> None:
    """Simulation, seed 11923: the journal expired before one table had sealed the newest offset of the other."""
    logs = logs_of(written(new_fold(), TWO_CLUSTERS))
    newest = max(write.version for write in logs["frontend"])
    sealed = {table: [write for write in log if write.version < newest] for table, log in logs.items()}
    live = Subscription(TABLES, 1, Filter())
    for table in TABLES:
        fed(live, table, sealed[table])
    assert live.complete()
    live.ready()
    logs["backend"] = sealed["backend"]
    fold, _, _ = restarted(logs)
    expired = logs_of(fold.expire(newest + 1))
    assert expired["frontend"] == []
    rest = logs["frontend"][len(sealed["frontend"]) :]
    assert fed(live, "frontend", rest, len(sealed["frontend"])) == []
    batches = fed(live, "backend", expired["backend"], 100)
    assert [batch.seal.offset for batch in batches] == [newest] * len(batches)
    late = Subscription(TABLES, 1, Filter())
    fed(late, "frontend", logs["frontend"])
    fed(late, "backend", [*logs["backend"], *expired["backend"]])
    assert late.complete()
    late.ready()
    for subscription in (live, late):
        assert {name: seal.lost for (_, name), seal in subscription.seals.items()} == {"east": True, "west": True}


def test_what_was_folded_beyond_a_table_that_is_lost_is_a_gap() -> None:
    """Simulation, seed 8243: the tables never had these rows, so nothing in them says that they are unknown."""
    writes = written(new_fold(), VALUES)
    tables = {table: [write for write in log if write.version < 1] for table, log in logs_of(writes).items()}
    subscription = Subscription(("frontend", "backend", "routing"), 1, Filter())
    for table in subscription.tables:
        fed(subscription, table, tables[table])
    assert subscription.complete()
    subscription.ready()
    batches = list(subscription.take_folded(0, writes))
    assert [batch.seal.offset for batch in batches] == [1, 2]
    fold, _, _ = restarted(tables)
    expired = logs_of(fold.expire(20))
    with pytest.raises(ChangelogGap, match="what was folded after 0 is lost in the tables"):
        fed(subscription, "frontend", expired["frontend"], 100)


@pytest.mark.parametrize(("appended", "is_gap"), [("2026-01-01T00:00:03Z", False), ("2026-01-01T00:00:09Z", True)])
def test_an_old_offset_is_of_another_journal_only_if_the_broker_took_it_later(appended: str, is_gap: bool) -> None:
    """A replaced worker writes the seal of offset 2 once more. Its watcher's clock was ahead of the one of the commit
    at offset 3, which is applied."""

    def seal(offset: int, at: str, appended: str) -> bytes:
        return msgspec.json.encode(Seal("east", offset, 1, "w", offset, at, "live", {}, 8, appended=appended))

    key = b"~seal/east"
    subscription = Subscription(("frontend",), 1, Filter())
    subscription.feed("frontend", 0, 0, key, seal(3, "2026-01-01T00:00:02Z", "2026-01-01T00:00:05Z"), 3)
    assert subscription.complete()
    subscription.ready()
    record = ("frontend", 0, 1, key, seal(2, "2026-01-01T00:00:04Z", appended), 2)
    if is_gap:
        with pytest.raises(ChangelogGap):
            list(subscription.feed(*record))
    else:
        assert list(subscription.feed(*record)) == []
