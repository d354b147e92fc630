"""From where on, and how far, a journal knows: by folding one as replay does."""

from collections.abc import Iterable

import pytest

from streams.fold.fold import PartitionFold
from streams.history.coverage import (
    Coverage,
    CoverageRecorder,
    NotKnown,
    check_covered,
    check_offset,
    check_since,
    known_at,
)
from streams.history.queries import Until, time_of
from streams.objects.collector import Collector
from streams.objects.commits import JournalRecord
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import RESOURCES
from streams.subscription.names import UnknownName


def at(minute: int, second: int = 0) -> str:
    return f"2026-11-24T12:{minute:02}:{second:02}.000Z"


def cluster(name: str) -> Collector:
    return Collector(name, epoch=1, writer=name, seq=0, partitions=1, resources=RESOURCES)


def snapshot(collector: Collector, begin: str, end: str) -> list[JournalRecord]:
    records = collector.begin(begin)
    for resource in RESOURCES:
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "7"))
    return records + collector.flush(end)


def change(collector: Collector, version: int, when: str) -> list[JournalRecord]:
    metadata = {"name": "cart", "namespace": "shop", "uid": "u", "resourceVersion": str(version)}
    item = {"kind": "Service", "metadata": metadata, "spec": {"type": "ClusterIP", "clusterIP": f"10.0.0.{version}"}}
    collector.ingest("Service", ReflectorEvent(Kind.APPLY, item, str(version)))
    return collector.flush(when)


def fold(records: Iterable[JournalRecord], until: Until = Until(), begin: int = 0) -> Coverage:  # noqa: B008
    """As the replay does it, of a journal whose first records have expired."""
    partition, recorder, begin_at, stopped = PartitionFold(0), CoverageRecorder(), "", False
    values = [record.value for record in records]
    for offset, value in list(enumerate(values))[begin:]:
        begin_at = begin_at or time_of(value)
        if until.beyond(0, offset, value):
            stopped = True
            break
        partition.step(offset, value)
        recorder.note(offset, partition.clusters)
    return Coverage(begin, begin_at, len(values), recorder.clusters(partition), stopped)


@pytest.fixture
def journal() -> list[JournalRecord]:
    """East from 12:01 on, whole at 12:02, silent after 12:10; west from 12:05 on, whole at 12:06, to 12:20."""
    east, west = cluster("east"), cluster("west")
    return [
        *snapshot(east, at(1), at(2)), *change(east, 8, at(3)), *snapshot(west, at(5), at(6)),
        *change(east, 9, at(10)), *change(west, 8, at(15)), *change(west, 9, at(20)),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("until", "clusters", "answer"),
    [
        (Until(), [], []),
        (Until(at=at(3)), [], []),
        (Until(at=at(20, 9)), ["west"], ["cluster east had been silent since 2026-11-24T12:10:00.000Z"]),
        (Until(at=at(5)), [], ["nothing is known of cluster west at", "cluster east had been silent since"]),
        (Until(seqs={"west": 3}), [], []),
        (Until(at=at(0)), [], f"{at(0)} is before the journal's beginning"),
        (Until(at=at(1)), [], f"nothing is known at {at(1)}"),
        (Until(at=at(5)), ["west"], f"nothing is known of cluster west at {at(5)}"),
        (Until(at=at(3)), ["west"], f"nothing is known of cluster west at {at(3)}"),
        (Until(at=at(20, 11)), [], f"{at(20, 11)} is after the journal's end: its newest commit is of {at(20)}"),
        (Until(seqs={"west": 99}), [], "seq 99 is past the journal's end: the newest commit of west is 4"),
        (Until(seqs={"east": 1}), [], "nothing is known there"),
        (Until(offsets={0: 0}), [], "nothing is known there"),
    ],
)  # fmt: skip
def test_a_point_is_known_or_said_not_to_be(
    journal: list[JournalRecord], until: Until, clusters: list[str], answer: str | list[str]
) -> None:
    parts = {0: fold(journal, until)}
    if isinstance(answer, list):
        remarks = check_covered(parts, until, clusters)
        assert [text.startswith(start) for text, start in zip(remarks, answer, strict=True)] == [True] * len(answer)
        return
    with pytest.raises(NotKnown) as raised:
        check_covered(parts, until, clusters)
    assert str(raised.value).startswith(answer)
    assert raised.value.exit_code == 3


def test_a_seq_of_no_cluster_is_an_unknown_name(journal: list[JournalRecord]) -> None:
    until = Until(seqs={"eats": 3})
    with pytest.raises(UnknownName) as raised:
        check_covered({0: fold(journal, until)}, until)
    assert raised.value.remedy == 'did you mean "east"?'


def test_where_the_beginning_has_expired_a_cluster_is_known_from_its_next_snapshot_on(
    journal: list[JournalRecord],
) -> None:
    expired = fold(journal, begin=3)
    assert {name: each.since >= 0 for name, each in expired.clusters.items()} == {"east": False, "west": True}
    remarks = check_covered({0: expired}, Until())
    assert remarks == ["nothing is known of cluster east: no snapshot is complete in the journal"]
    with pytest.raises(NotKnown):
        check_covered({0: expired}, Until(), ["east"])


def test_an_empty_journal_knows_nothing() -> None:
    with pytest.raises(NotKnown) as raised:
        check_covered({0: fold([])}, Until())
    assert raised.value.remedy == "the journal is empty: facets doctor"


@pytest.mark.parametrize(
    ("offset", "begin", "end", "problem"),
    [
        (5, 3, 10, ""), (2, 3, 10, "before the journal's beginning: 3"), (10, 3, 10, "past the journal's end: 9"),
        (0, 0, 0, "is empty"),
    ],
)  # fmt: skip
def test_offsets(offset: int, begin: int, end: int, problem: str) -> None:
    if not problem:
        check_offset(0, offset, begin, end)
        return
    with pytest.raises(NotKnown, match=problem):
        check_offset(0, offset, begin, end)


def test_since(journal: list[JournalRecord]) -> None:
    parts = {0: fold(journal)}
    assert check_since(parts, at(2)) == ""
    assert check_since(parts, at(1)) == f"the journal begins at {at(2)}: what was before is not known"
    with pytest.raises(NotKnown, match="after the journal's end"):
        check_since(parts, at(30))


def test_points_of_a_diff(journal: list[JournalRecord]) -> None:
    part = fold(journal)
    assert known_at(part, 0, -1, at(3), ["east", "west"]) == ["east"]
    assert known_at(part, 0, part.end - 1, "", ["east", "west"]) == ["east", "west"]
    for version, when in ((0, ""), (part.end, ""), (-1, at(0)), (-1, at(40))):
        with pytest.raises(NotKnown):
            known_at(part, 0, version, when, ["east", "west"])
