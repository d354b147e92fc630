"""The fold of the journal beside the changelogs: where it begins."""

from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.objects.collector import Collector
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import RESOURCES
from streams.subscription.delivery import Subscription
from streams.subscription.journal_follower import JournalFollower
from streams.subscription.rows import EVERYTHING
from streams.wire.records import TABLES

AT = "2026-11-24T12:00:00.000Z"
DAY = 86_400


def folded() -> tuple[list[Write], int]:
    """The records of the tables, and where the journal ends."""
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1)
    records = collector.begin(AT)
    for resource in RESOURCES:
        for kind in (Kind.INIT, Kind.INIT_DONE):
            collector.ingest(resource.kind, ReflectorEvent(kind, None, "10"))
    records += collector.flush(AT)
    fold = PartitionFold(0)
    writes = [write for offset, record in enumerate(records) for write in fold.step(offset, record.value)]
    return writes, len(records)


def test_loaded_tables_are_folded_on_once_their_changelogs_were_read_as_far() -> None:
    writes, end = folded()
    follower, state = JournalFollower(DAY), Subscription(TABLES, 1, EVERYTHING)
    state.ready()
    follower.forget([0])
    for table in TABLES:
        entries = ((i, w.key, w.value, w.version) for i, w in enumerate(writes) if w.table == table)
        follower.gather(table, 0, entries, end=end)
    assert list(follower.start({0: (0, end)}, 0.0)) == [0]
    # The last table's seal is not read yet.
    for position, write in enumerate(writes[:-1]):
        assert not follower.join(state.has_read)
        list(state.feed(write.table, 0, position, write.key, write.value, write.version))
    assert not follower.join(state.has_read)
    assert follower.positions() == {}
    last = writes[-1]
    list(state.feed(last.table, 0, len(writes), last.key, last.value, last.version))
    assert follower.join(state.has_read)
    assert follower.positions() == {0: end}
