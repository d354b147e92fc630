"""A cut over partitions that are sealed one after the other, against a plain replay of the commits."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from streams.serve.http.cut import Cut
from streams.serve.http.feed import Feed, Lost
from streams.subscription.cursor import Cursor
from streams.subscription.rows import Row
from streams.wire.records import Seal

PARTITIONS = 3
NAMES = ("a", "b")
CLUSTERS = ("east", "west")


class Part(NamedTuple):
    """What a commit says in one partition: a Service is there in this state, or deleted (None)."""

    cluster: str
    seq: int
    changes: dict[str, int | None]


Logs = list[list[Part]]


@st.composite
def logs(draw: st.DrawFn) -> Logs:
    """Each partition's commits. One that says nothing in a partition may be there, empty, or not at all; the last one
    of each cluster is in all."""
    made: Logs = [[] for _ in range(PARTITIONS)]
    changes = st.dictionaries(st.sampled_from(NAMES), st.none() | st.integers(0, 9), max_size=2)
    seqs = dict.fromkeys(CLUSTERS, 0)
    for _ in range(draw(st.integers(1, 6))):
        cluster = draw(st.sampled_from(CLUSTERS))
        seqs[cluster] += 1
        for partition in draw(st.sets(st.integers(0, PARTITIONS - 1), min_size=1)):
            made[partition].append(Part(cluster, seqs[cluster], draw(changes)))
    for cluster in CLUSTERS:
        for log in made:
            log.append(Part(cluster, seqs[cluster] + 1, {}))
    return made


def value(part: Part, name: str, version: int, partition: int) -> bytes:
    content = part.changes[name]
    state = "deleted" if content is None else "ready"
    return (
        f'{{"cluster":"{part.cluster}","namespace":"p{partition}","name":"{name}","version":{version},"previous":null,'
        f'"state":"{state}","reason":"{content}"}}'
    ).encode()


def naive(made: Logs, seqs: dict[str, int]) -> dict[tuple[str, int, str], int]:
    """What Services are, with every commit up to these, by cluster, partition and name."""
    rows: dict[tuple[str, int, str], int] = {}
    for partition, log in enumerate(made):
        for part in log:
            if part.seq > seqs[part.cluster]:
                continue
            for name, content in part.changes.items():
                rows.pop((part.cluster, partition, name), None)
                if content is not None:
                    rows[part.cluster, partition, name] = content
    return rows


@given(
    made=logs(),
    order=st.lists(st.integers(0, PARTITIONS - 1)),
    begin=st.integers(0, 12),
    printed=st.lists(st.booleans(), max_size=8),
    ring=st.sampled_from([2, 8192]),
    one=st.booleans(),
)
def test_a_cut_has_all_up_to_one_seq_and_nothing_after(
    made: Logs, order: list[int], begin: int, printed: list[bool], ring: int, one: bool
) -> None:
    feed = Feed(PARTITIONS, ring_events=ring)
    left = [list(log) for log in made]
    clusters = CLUSTERS[:1] if one else ()
    cut: Cut | None = None
    sealed: list[dict[str, int]] = [{} for _ in made]
    due: dict[str, int] = {}
    step = 0
    while any(left):
        partition = next(p for p in [*order[step : step + 1], *range(PARTITIONS)] if left[p])
        part = left[partition].pop(0)
        offset = len(made[partition]) - len(left[partition]) - 1
        rows = tuple(
            Row("frontend", part.cluster, f"p{partition}", name, offset, value(part, name, offset, partition))
            for name in part.changes
        )
        seal = Seal(part.cluster, offset, 1, "w", part.seq, "", "live", {"services": "1"}, 9)
        feed.apply(partition, seal, rows, Cursor("", {}, {}))
        sealed[partition][part.cluster] = part.seq
        if step < len(printed) and printed[step]:  # As for a client that follows.
            for row in feed.printed_rows(("frontend",)):
                _ = row.text
            for _, batch in feed.batches(feed.next - 1 if rows else feed.next):
                assert [row.text for row in batch]
        step += 1
        if cut is None and step <= begin:
            continue
        if cut is None:
            cut, due = Cut(feed, "frontend", clusters), highest(sealed, one)
        try:
            is_complete = cut.advance()
        except Lost:
            cut, due = Cut(feed, "frontend", clusters), highest(sealed, one)
            is_complete = cut.advance()
        assert cut.seqs == due
        assert is_complete == all(at.get(cluster, 0) >= seq for cluster, seq in due.items() for at in sealed)
        if is_complete:
            expected = naive(made, {**dict.fromkeys(CLUSTERS, 0), **due})
            rows_at_cut = [printed_row.text.decode() for printed_row in cut.rows()]
            assert len(rows_at_cut) == len(expected)
            for (cluster, place, name), content in expected.items():
                head = f'{{"table":"frontend","cluster":"{cluster}","namespace":"p{place}","name":"{name}",'
                assert any(text.startswith(head) and f'"reason":"{content}"' in text for text in rows_at_cut)
            return
    assert cut is None or not cut.behind()


def highest(sealed: list[dict[str, int]], one: bool) -> dict[str, int]:
    """The highest seq that some partition has sealed, by cluster."""
    return {
        cluster: max(at.get(cluster, 0) for at in sealed)
        for cluster in CLUSTERS[: 1 if one else None]
        if any(cluster in at for at in sealed)
    }
