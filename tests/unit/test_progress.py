"""Progress records: one small record of a watcher process shows that all of its clusters are as they were."""

from collections.abc import Iterable
from typing import Any

import msgspec
import orjson
import pytest

from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.progress import BOOKMARK_SECONDS, MAX_NAMED, NEWS_SECONDS, QUIET_SECONDS, ProgressCollector
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import RESOURCES
from streams.subscription.delivery import Subscription
from streams.subscription.freshness import SILENT_AFTER_SECONDS, alive, silences
from streams.subscription.rows import EVERYTHING
from streams.wire.journal_records import progress_record, read_journal_record
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import TABLES, ClusterProgress, Progress, Seal
from streams.wire.timestamps import of_milliseconds, read

AT = "2026-11-24T12:00:00.000Z"
MS = round(read(AT).timestamp() * 1000)
ONE_RECORD = 400
"""Bytes that a quiet partition's record and its seal may have, whatever number of clusters there is."""


def collector(cluster: str, writer: str = "w", epoch: int = 1, partitions: int = 2) -> Collector:
    made = Collector(cluster, epoch=epoch, writer=writer, seq=0, partitions=partitions)
    made.journal = made.begin(AT)  # type: ignore[attr-defined]
    for resource in RESOURCES:
        for kind in (Kind.INIT, Kind.INIT_DONE):
            made.ingest(resource.kind, ReflectorEvent(kind, None, "10"))
    made.journal += made.flush(AT)  # type: ignore[attr-defined]
    return made


class Journal:
    """Partition 0, folded. `seals` are the newest of each name in a table, as a reader has them."""

    def __init__(self) -> None:
        self.fold = PartitionFold(0)
        self.values: list[bytes] = []
        self.writes: list[Write] = []
        self.seals: dict[tuple[int, str], Seal] = {}

    def take(self, records: Iterable[JournalRecord | bytes], ms: int = 0) -> list[Write]:
        """The writes that they make, if partition 0 has them at this time."""
        made: list[Write] = []
        for record in records:
            if isinstance(record, JournalRecord) and record.partition:
                continue
            value = record if isinstance(record, bytes) else record.value
            made += self.fold.step(len(self.values), value, MS + ms)
            self.values.append(value)
        for write in made:
            if write.table == "frontend" and write.value and write.key.startswith(SEAL_PREFIX):
                seal = msgspec.json.decode(write.value, type=Seal)
                self.seals[0, seal.cluster] = seal
        self.writes += made
        return made

    def open(self, *clusters: Collector) -> None:
        for each in clusters:
            self.take(each.journal)  # type: ignore[attr-defined]

    def heard(self) -> dict[str, int]:
        """When each cluster was last heard of, for a reader."""
        return {
            name: round(read(seal.appended).timestamp() * 1000) - MS for (_, name), seal in alive(self.seals).items()
        }


def entry(cluster: str, epoch: int = 1, seq: int = 50, version: str = "20", **more: Any) -> ClusterProgress:
    return ClusterProgress(cluster, epoch, seq, {each.frontier: version for each in RESOURCES}, **more)


def record(*clusters: ClusterProgress, writer: str = "w") -> bytes:
    return progress_record(writer, AT, list(clusters))


# ---- what a process writes ---------------------------------------------------------------------------------


def test_silence_costs_one_small_record_for_any_number_of_clusters() -> None:
    sizes = {}
    for count in (1, 100):
        progress, journal = ProgressCollector("w", 2), Journal()
        clusters = [collector(f"c{number}") for number in range(count)]
        journal.open(*clusters)
        for each in clusters:
            progress.open(each.commits)
        journal.take(progress.records(AT, 0.0))
        (of_partition, _) = progress.records(AT, QUIET_SECONDS)
        writes = journal.take([of_partition])
        assert [(write.table, write.key) for write in writes] == [(table, b"~seal/~w") for table in TABLES]
        sizes[count] = len(of_partition.value) + len(writes[0].value or b"")
        assert set(journal.heard().values()) == {0}
    assert max(sizes.values()) - min(sizes.values()) < len("1000"), "but for the offset's digits"
    assert max(sizes.values()) < ONE_RECORD


def test_of_many_busy_clusters_a_record_names_some_and_the_next_ones_the_others() -> None:
    count = 2 * MAX_NAMED + 10
    progress = ProgressCollector("w", 2)
    busy = [collector(f"c{number}") for number in range(count)]
    covered = [progress.open(each.commits) for each in busy]
    assert [len(read_progress(each).clusters) for each in progress.records(AT, 0.0)] == [count, count]
    now, told = 0.0, []
    for _ in range(3):
        now += NEWS_SECONDS
        for made, cluster in zip(busy, covered, strict=True):
            cluster.wrote(made.heartbeat(AT, [0]), now)
        *_, record_ = progress.records(AT, now)
        told.append([each.cluster for each in read_progress(record_).clusters])
    assert [len(names) for names in told] == [MAX_NAMED] * 3
    # Nobody waits while another is named twice.
    assert len({*told[0], *told[1]}) == 2 * MAX_NAMED
    assert {*told[0], *told[1], *told[2]} == {each.commits.cluster for each in busy}
    # One that is no longer alive does not wait.
    covered[0].is_blocked = True
    *_, record_ = progress.records(AT, now + NEWS_SECONDS)
    first = next(each for each in read_progress(record_).clusters if each.cluster == "c0")
    assert not first.covered
    assert len(read_progress(record_).clusters) == MAX_NAMED


def test_what_bookmarks_moved_on_is_told_in_portions_too() -> None:
    count = MAX_NAMED + 10
    progress = ProgressCollector("w", 1)
    quiet = [collector(f"c{number}", partitions=1) for number in range(count)]
    for each in quiet:
        progress.open(each.commits)
    progress.records(AT, 0.0)
    for each in quiet:
        each.commits.advance({"services": "30"})
    told = []
    for now in (
        QUIET_SECONDS,
        BOOKMARK_SECONDS,
        BOOKMARK_SECONDS + QUIET_SECONDS,
        BOOKMARK_SECONDS + 2 * QUIET_SECONDS,
    ):
        (record_,) = progress.records(AT, now)
        told.append(len(read_progress(record_).clusters))
    assert told == [0, MAX_NAMED, 10, 0]


def test_a_partition_hears_soon_of_changes_in_the_others_and_late_of_bookmarks() -> None:
    progress, made = ProgressCollector("w", 2), collector("east")
    cluster = progress.open(made.commits)
    assert [len(read_progress(each).clusters) for each in progress.records(AT, 0.0)] == [1, 1]
    assert progress.records(AT, NEWS_SECONDS) == []
    assert all(read_progress(each).clusters == [] for each in progress.records(AT, QUIET_SECONDS))
    # A commit to partition 0 alone.
    now = QUIET_SECONDS
    cluster.wrote(made.heartbeat(AT, [0]), now)
    assert progress.records(AT, now + NEWS_SECONDS / 2) == []
    (told,) = progress.records(AT, now := now + NEWS_SECONDS)
    assert (told.partition, [each.seq for each in read_progress(told).clusters]) == (1, [made.commits.seq])
    # Something was seen that concerns no partition.
    made.commits.advance({"services": "30"})
    cluster.has_news = True
    told_all = progress.records(AT, now := now + NEWS_SECONDS)
    assert [read_progress(each).clusters[0].frontier["services"] for each in told_all] == ["30", "30"]
    made.commits.advance({"services": "31"})
    assert all(not read_progress(each).clusters for each in progress.records(AT, now + QUIET_SECONDS))
    told_all = progress.records(AT, now + BOOKMARK_SECONDS)
    assert [read_progress(each).clusters[0].frontier["services"] for each in told_all] == ["31", "31"]


def test_nothing_is_told_of_a_cluster_while_its_commits_are_under_way() -> None:
    progress, made = ProgressCollector("w", 2), collector("east")
    cluster = progress.open(made.commits)
    progress.records(AT, 0.0)
    cluster.is_writing = True
    commits = made.heartbeat(AT, [0])
    assert all(not read_progress(each).clusters for each in progress.records(AT, QUIET_SECONDS))
    cluster.wrote(commits, QUIET_SECONDS)
    cluster.is_writing = False
    assert [each.partition for each in progress.records(AT, 2 * QUIET_SECONDS) if read_progress(each).clusters] == [1]


def test_a_cluster_that_is_blocked_or_has_ended_is_no_longer_covered() -> None:
    progress = ProgressCollector("w", 2)
    journal, east, west = Journal(), collector("east"), collector("west")
    journal.open(east, west)
    blocked, ended = progress.open(east.commits), progress.open(west.commits)
    journal.take(progress.records(AT, 0.0), 0)
    blocked.is_blocked = True
    journal.take(progress.records(AT, 3.0), 3000)
    journal.take(progress.records(AT, 6.0), 6000)
    assert journal.heard() == {"east": 3000, "west": 6000}
    blocked.is_blocked = False
    progress.close(ended)
    journal.take(progress.records(AT, 9.0), 9000)
    journal.take(progress.records(AT, 12.0), 12_000)
    assert journal.heard() == {"east": 12_000, "west": 9000}
    late = silences(journal.seals, (MS + 9001) / 1000 + SILENT_AFTER_SECONDS)
    assert list(late) == [(0, "west")]


def read_progress(record: JournalRecord) -> Progress:
    progress = read_journal_record(record.value)
    assert isinstance(progress, Progress)
    return progress


# ---- what the fold makes of it -----------------------------------------------------------------------------


def test_a_process_shows_its_own_clusters_alive_and_no_others() -> None:
    journal = Journal()
    journal.open(collector("east"), collector("west"), collector("north", writer="other"))
    journal.take([record(entry("east"))], 1000)
    journal.take([record()], 4000)
    journal.take([record(writer="other"), record(writer="nobody")], 5000)
    # West is of the same writer, which has not said that it covers it.
    assert journal.heard() == {"east": 4000, "west": 0, "north": 0}
    assert journal.fold.last_heard("east") == AT


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (entry("nobody"), "a cluster that nobody knows"),
        (entry("east", epoch=1), "an older epoch"),
        (entry("east", epoch=3), "an epoch that was never opened"),
        (entry("east", epoch=2, seq=1), "a seq that goes back"),
        (entry("east", epoch=2, version="9"), "a frontier that goes back"),
    ],
)
def test_an_entry_that_does_not_count_is_sealed_and_ignored(bad: ClusterProgress, why: str) -> None:
    journal = Journal()
    journal.open(collector("east", epoch=2))
    before = dict(journal.seals)
    writes = journal.take([record(bad)], 1000)
    assert [write.key for write in writes] == [SEAL_PREFIX] * 3, why
    assert journal.seals == before | {(0, ""): journal.seals[0, ""]}
    assert "nobody" not in journal.fold.clusters


def test_an_entry_moves_seq_and_frontier_on_and_rows_stay() -> None:
    journal = Journal()
    journal.open(collector("east"))
    writes = journal.take([record(entry("east", seq=9, version="77"))], 1000)
    assert [(write.key, b'"more":true}' in (write.value or b"")) for write in writes[::3]] == [
        (b"~seal/east", True), (b"~seal/~w", False),
    ]  # fmt: skip
    seal = journal.seals[0, "east"]
    assert (seal.seq, seal.frontier["services"], seal.phase, seal.covered) == (9, "77", "end", True)
    assert all(write.key.startswith(SEAL_PREFIX) for write in writes)


def test_a_takeover_ends_it_and_deletes_the_key_of_who_has_no_cluster_any_more() -> None:
    journal = Journal()
    journal.open(collector("east"), collector("west"))
    journal.take([record(entry("east"), entry("west"))], 1000)
    journal.open(collector("east", writer="next", epoch=2))
    assert not [write for write in journal.writes if write.value is None]
    journal.take([record()], 5000)
    assert journal.heard() == {"east": 0, "west": 5000}
    journal.open(collector("west", writer="next", epoch=2))
    deleted = [(write.table, write.key) for write in journal.writes if write.value is None]
    assert deleted == [(table, b"~seal/~w") for table in TABLES]
    # Whom it had covered is covered by the next only once that one says so.
    journal.take([record(), record(writer="next")], 9000)
    assert journal.heard() == {"east": 0, "west": 0}


def test_old_records_and_new_ones_mixed_make_the_same_bytes_from_every_restart() -> None:
    journal, east, west = Journal(), collector("east"), collector("west")
    journal.open(east, west)
    values: list[JournalRecord | bytes] = [
        record(entry("east"), entry("west")), *east.heartbeat(AT, [0]), b"{", record(entry("east", covered=False)),
        record(entry("west", seq=60, version="30")), record(),
    ]  # fmt: skip
    journal.take(values)
    logs = {table: [write for write in journal.writes if write.table == table] for table in TABLES}
    for table in TABLES:
        for cut in range(len(logs[table]) + 1):
            again = PartitionFold(0)
            kept = {**logs, table: logs[table][:cut]}
            for name, log in kept.items():
                for write in log:
                    again.load(name, write.key, write.value, write.version)
            resume, _ = again.recover()
            made = [
                w
                for offset in range(resume, len(journal.values))
                for w in again.step(offset, journal.values[offset], MS)
            ]
            assert {(w.version, w.key): w.value for w in (*kept[table], *made) if w.table == table} == {
                (w.version, w.key): w.value for w in logs[table]
            }
            assert not [write for write in made if write.table in TABLES and write.table != table]


def test_what_can_not_be_read_is_a_dead_letter() -> None:
    journal = Journal()
    body = orjson.loads(record(entry("east")))
    for bad in ({**body, "at": "yesterday"}, {**body, "other": 1}, {**body, "clusters": [{}]}):
        writes = journal.take([orjson.dumps(bad)])
        assert [write.table for write in writes] == ["deadletter", *TABLES]


# ---- what subscribers have of it ---------------------------------------------------------------------------


def test_subscribers_are_given_each_clusters_seal_and_that_of_the_process() -> None:
    journal = Journal()
    journal.open(collector("east"), collector("west"))
    journal.take([record(entry("east", seq=60), entry("west", seq=70)), record()], 1000)
    state = Subscription(("frontend", "backend"), 1, EVERYTHING)
    state.ready()
    batches = []
    for position, write in enumerate(journal.writes):
        if write.table in state.tables:
            batches += state.feed(write.table, 0, position, write.key, write.value, write.version)
    assert [(batch.seal.cluster, batch.seal.offset) for batch in batches[-4:]] == [
        ("~w", 4), ("east", 4), ("west", 4), ("~w", 5),
    ]  # fmt: skip
    assert (state.seals[0, "east"].seq, state.seals[0, "west"].seq) == (60, 70)
    newest = alive(state.seals)
    assert newest[0, "east"].appended == newest[0, "west"].appended == of_milliseconds(MS + 1000)


def test_half_of_an_offsets_seals_do_not_count() -> None:
    """A worker was killed between them; a snapshot that is read then has the cluster as it was."""
    journal = Journal()
    journal.open(collector("east"))
    journal.take([record(entry("east", seq=60))], 1000)
    state = Subscription(("frontend",), 1, EVERYTHING)
    log = [write for write in journal.writes if write.table == "frontend"]
    state.gather("frontend", 0, ((at, w.key, w.value, w.version) for at, w in enumerate(log[:-1])))
    assert state.complete()
    state.ready()
    assert (state.cursor.applied, state.seals[0, "east"].seq) == ({0: 1}, 2)
    last = log[-1]
    batches = list(state.feed("frontend", 0, len(log) - 1, last.key, last.value, last.version))
    assert [(batch.seal.cluster, batch.seal.offset) for batch in batches] == [("~w", 2), ("east", 2)]
    assert state.seals[0, "east"].seq == 60


def test_a_deleted_progress_seal_shows_that_its_offset_was_sealed() -> None:
    """A reader of the newest records only: the deletion has replaced the last seal of the offset before."""
    journal = Journal()
    journal.open(collector("east"))
    journal.take([record(entry("east", seq=60))], 1000)
    before = len(journal.values)
    journal.open(collector("east", writer="next", epoch=2))
    first = [write for write in journal.writes if write.version < before]
    deletions = [write for write in journal.writes if write.version == before and write.value is None]
    newest = {(write.table, write.key): write for write in (*first, *deletions)}
    again = PartitionFold(0)
    for write in newest.values():
        again.load(*write)
    assert again.recover()[0] == before


def test_who_has_lost_a_part_of_the_journal_waits_to_be_told_again() -> None:
    """That the writer gave the cluster up may have been in what is lost; after a snapshot it is told anew."""
    progress, journal, east = ProgressCollector("w", 1), Journal(), collector("east", partitions=1)
    journal.open(east)
    told = progress.open(east.commits)
    journal.take(progress.records(AT, 0.0))
    assert journal.seals[0, "east"].covered
    again = PartitionFold(0)
    for write in journal.writes:
        again.load(*write)
    again.recover()
    first = len(journal.values) + 10
    lost = [write for write in again.expire(first) if write.key == b"~seal/east"]
    assert [(seal.lost, seal.covered) for seal in map(_seal, lost)] == [(True, False)] * len(TABLES)
    writes = again.step(first, record(), MS)
    assert not [write for write in writes if write.key == b"~seal/~w"]
    for offset, each in enumerate(east.snapshot(AT), first + 1):
        again.step(offset, each.value, MS)
    told.tell_again()
    (each,) = progress.records(AT, 1.0)
    (seal, *_) = [w for w in again.step(offset + 1, each.value, MS) if w.key == b"~seal/east"]
    assert (_seal(seal).lost, _seal(seal).covered) == (False, True)


def test_a_restart_after_a_loss_that_one_table_does_not_tell_of_waits_to_be_told_again_too() -> None:
    """Simulation, seed 8937: the table had sealed the offset that the others lost, by another cluster's seal."""
    progress, journal, east = ProgressCollector("w", 1), Journal(), collector("east", partitions=1)
    journal.open(east)
    progress.open(east.commits)
    journal.take(progress.records(AT, 0.0))
    journal.take([record(writer="another")])
    last = len(journal.values) - 1
    kept = [write for write in journal.writes if write.version < last or write.table == "frontend"]
    again = PartitionFold(0)
    for write in kept:
        again.load(*write)
    again.recover()
    lost = again.expire(last + 1)
    assert {write.table for write in lost if write.key == b"~seal/east"} == {"backend", "routing"}
    restarted = PartitionFold(0)
    for write in (*kept, *lost):
        restarted.load(*write)
    restarted.recover()
    for fold in (again, restarted):
        seal = fold.clusters["east"].seal
        assert (seal.lost, seal.covered) == (True, False)


def _seal(write: Write) -> Seal:
    return msgspec.json.decode(write.value or b"", type=Seal)
