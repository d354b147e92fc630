"""`facets index` on a real Kafka: the commands say the same from it as from a replay, it follows, it survives kill -9,
and whatever is wrong with its file it is built again."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.history.collectors import AllRows
from streams.history.queries import Until, holders, place
from streams.history.replay import Replay
from streams.index.build import catch_up, load_indexer, read_kafka
from streams.index.database import IndexUnusable
from streams.index.past import open_index
from streams.index.reader import IndexReader
from streams.index.run import IndexSettings, run_index
from streams.index.writer import IndexWriter, create_index
from streams.kafka.range_reader import RangeReader
from streams.serve.http.past import StoredPast
from streams.subscription.rows import EVERYTHING, Filter
from streams.wire.records import FOLDED_TABLES, JOURNAL
from streams.wire.row_codec import is_deleted
from tests.integration.journal import PARTITIONS, Churn, clean_topics, publish
from tests.support.facets_processes import DEADLINE, Facets
from tests.support.past import TIMES, Past, facets

QUESTIONS = [
    ("who", "10.9.0.1", "--at", TIMES[1]),
    ("who", "10.96.0.7", "--at", TIMES[2], "-o", "json"),
    ("who", "10.9.0.1", "--at", TIMES[2]),
    ("get", "backend", "s1", "-n", "shop", "--at", TIMES[1], "-o", "json"),
    ("get", "frontend", "-A", "--at", TIMES[2], "-o", "json"),
    ("get", "backend", "s1x", "-n", "shop", "--at", TIMES[1]),
    ("history", "s1", "-n", "shop", "-o", "json"),
    ("history", "s1", "-n", "shop", "--since", TIMES[1], "--until", TIMES[2], "--table", "backend"),
    ("history", "--last", "7", "-o", "json"),
    ("diff", "s1", "-n", "shop"),
    ("diff", "s1", "-n", "shop", "--from", TIMES[0], "--to", TIMES[2], "-o", "json"),
    ("replay", "--at", TIMES[1], "-n", "shop", "--service", "s1", "-o", "json"),
    ("replay", "--at", TIMES[2], "-o", "json"),
    ("get", "backend", "-A", "--at", "2026-11-20T00:00:00Z"),
    ("get", "backend", "-A", "--at", "2026-11-25T00:00:00Z"),
]


def build(bootstrap: str, path: Path, processes: int = 1) -> list[str]:
    """Bring the index up to date, as `facets index --once` does; what it says."""
    said: list[str] = []
    settings = IndexSettings(bootstrap, path, processes, once=True)
    asyncio.run(run_index(settings, asyncio.Event(), no_progress, said.append))
    return said


def same_as_replayed(bootstrap: str, path: Path) -> None:
    """Every row of the index is a replay's, and none is missing."""
    with Replay(bootstrap) as replay, open_index(path, bootstrap, Until()) as reader:
        for until in (Until(), *(Until(at=at) for at in TIMES[:4])):
            newest = replay.tables(until, tables=FOLDED_TABLES).values()
            wanted = sorted((row for row in newest if not is_deleted(row.value)), key=place)
            rows = reader.rows_at(FOLDED_TABLES, EVERYTHING, until)
            assert sorted((row for row in rows if not is_deleted(row.value)), key=place) == wanted
        every = [row for collector in replay.collect(AllRows, Until(), tables=FOLDED_TABLES) for row in collector.rows]
        assert sorted(reader.history(FOLDED_TABLES, EVERYTHING, Until())) == sorted(every)


def until_it_has(bootstrap: str, path: Path, is_there: Callable[[IndexReader], bool]) -> None:
    """Wait until another process has written something to the index."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        try:
            with open_index(path, bootstrap, Until()) as reader:
                if is_there(reader):
                    return
        except IndexUnusable:
            pass
        time.sleep(0.05)
    raise TimeoutError(path)


@pytest.mark.parametrize("question", QUESTIONS, ids=" ".join)
def test_commands_say_the_same_from_it(past: Past, tmp_path: Path, question: tuple[str, ...]) -> None:
    path = tmp_path / "facets.index"
    folded = facets(past, *question, "--index", str(path))
    assert "the journal is folded for this; an index would be faster: facets index" in folded.stderr
    build(past.bootstrap, path)
    answered = facets(past, *question, "--index", str(path))
    assert (answered.stdout, answered.exit_code) == (folded.stdout, folded.exit_code)
    assert str(answered.exception) == str(folded.exception)
    of_folding = ("facets: the journal is folded", "folding ")
    rest = [line for line in folded.stderr.splitlines(keepends=True) if not line.startswith(of_folding)]
    assert answered.stderr == "".join(rest)


def test_it_goes_on_where_it_ended_and_says_when_it_is_behind(past: Past, tmp_path: Path) -> None:
    path = tmp_path / "facets.index"
    assert build(past.bootstrap, path) == [f"the index {path} is up to date"]
    same_as_replayed(past.bootstrap, path)
    publish(past.bootstrap, Churn(6, epoch=2).start())
    past.move("10.9.0.9", TIMES[5])
    behind = facets(past, "get", "backend", "s1", "-n", "shop", "--at", TIMES[5], "--index", str(path))
    assert "records behind the journal: the journal is folded instead" in behind.stderr
    # What it has it answers.
    had = facets(past, "get", "backend", "s1", "-n", "shop", "--at", TIMES[1], "--index", str(path))
    assert (had.exit_code, had.stderr) == (0, "")
    build(past.bootstrap, path)
    same_as_replayed(past.bootstrap, path)


def test_several_processes_build_what_one_builds(past: Past, tmp_path: Path) -> None:
    log, bounds = read_kafka(past.bootstrap)
    path = tmp_path / "facets.index"
    create_index(path, log)
    reports: list[int] = []
    assert catch_up(path, log, past.bootstrap, bounds, 2, reports.append, pay_from=0) == sum(bounds.ends.values())
    assert reports
    same_as_replayed(past.bootstrap, path)


def test_killed_and_started_again_it_follows(past: Past, tmp_path: Path) -> None:
    path = tmp_path / "index" / "facets.index"
    parts = Facets(tmp_path, past.bootstrap)
    chosen = Filter(frozenset(), frozenset({"shop"}), frozenset({"s1"}))
    try:
        for address in ("10.9.1.1", "10.9.1.2", "10.9.1.3"):
            parts.start("index", "index")
            for _ in range(20):
                past.write(past.tables.churn.change())
            past.move(address, TIMES[6])

            def has_moved(reader: IndexReader, address: str = address) -> bool:
                (row,) = reader.rows_at(("backend",), chosen, Until())
                return address.encode() in row.value

            until_it_has(past.bootstrap, path, has_moved)
            assert parts.end("index", signal.SIGKILL) == -signal.SIGKILL
        same_as_replayed(past.bootstrap, path)
        parts.start("index", "index")
        past.write(past.tables.churn.change())
        until_it_has(past.bootstrap, path, lambda _: True)
        second = facets(past, "index", "--index", str(path))
        assert "is kept already by process" in str(second.exception)
        assert parts.end("index", signal.SIGTERM) == 0
        same_as_replayed(past.bootstrap, path)
    finally:
        for name in list(parts.running):
            parts.end(name, signal.SIGKILL)


def test_the_server_answers_from_it(past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "facets.index"
    build(past.bootstrap, path)
    chosen = Filter(frozenset(), frozenset({"shop"}), frozenset({"s1"}))
    unknown = Filter(frozenset(), frozenset({"shop"}), frozenset({"s1x"}))

    def answers(reader: StoredPast) -> list[object]:
        told: list[object] = []
        for selection in (EVERYTHING, chosen, unknown):
            for at in TIMES[:3]:
                rows, *rest = reader.rows_at(at, selection, FOLDED_TABLES, no_progress)
                told.append((sorted(rows), *rest))
            told.append(reader.history(selection, FOLDED_TABLES, TIMES[1], TIMES[2], 5, no_progress))
            told.append(reader.history(selection, FOLDED_TABLES, "", "", 1000, no_progress))
        for address in ("10.9.0.1", "10.96.0.7", "fd00::1"):
            told += [holders(address, sorted(reader.owners(address, at, no_progress).rows)) for at in TIMES[:3]]
        return [sorted(each) if isinstance(each, Iterator) else each for each in told]

    # More than is there: whether the index has all is then asked of Kafka.
    ends = partial(dict.fromkeys, range(PARTITIONS), 2**62)
    folded = answers(StoredPast(past.bootstrap, None, ends))

    def no_replay(*_: object) -> None:
        raise AssertionError("the index was not asked")

    monkeypatch.setattr("streams.serve.http.past.Replay", no_replay)
    assert answers(StoredPast(past.bootstrap, path, ends)) == folded


def no_progress(_: str, __: float | None) -> None:
    """A build or an answer goes on."""


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 3)
        file.write(b"damage! " * (path.stat().st_size // 24))


def _another_version(path: Path) -> None:
    with IndexWriter(path) as writer:
        writer._connection.execute("PRAGMA user_version = 99")


def _another_fold(path: Path) -> None:
    with IndexWriter(path) as writer:
        writer.describe(writer.log()._replace(fold_version=1))


def _no_index(path: Path) -> None:
    path.write_bytes(b"not an index\n" * 1000)


@pytest.mark.parametrize("damage", [_cut, _overwrite, _another_version, _another_fold, _no_index])
def test_a_damaged_one_is_not_believed_and_built_again(
    past: Past, tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "facets.index"
    question = ("who", "10.9.0.1", "--at", TIMES[1], "--index", str(path))
    folded = facets(past, *question)
    build(past.bootstrap, path)
    damage(path)
    asked = facets(past, *question)
    assert asked.stdout == folded.stdout if asked.exit_code == 0 else "damaged" in str(asked.exception)
    logging.getLogger("facets.index").addHandler(caplog.handler)
    build(past.bootstrap, path)
    assert "it is built again" in caplog.text
    same_as_replayed(past.bootstrap, path)


def test_that_of_other_topics_is_not_taken(past: Past, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "facets.index"
    build(past.bootstrap, path)
    clean_topics(past.bootstrap)
    publish(past.bootstrap, Churn(8, services=3).start())
    with pytest.raises(IndexUnusable):
        open_index(path, past.bootstrap, Until())
    build(past.bootstrap, path)
    assert "it is built again" in caplog.text
    same_as_replayed(past.bootstrap, path)


def test_a_full_disk_is_said_and_leaves_it_whole(past: Past, tmp_path: Path) -> None:
    path = tmp_path / "facets.index"
    log, before = read_kafka(past.bootstrap)
    build(past.bootstrap, path)
    publish(past.bootstrap, Churn(9, services=400, epoch=2).start())
    _, bounds = read_kafka(past.bootstrap)
    with IndexWriter(path) as writer, RangeReader(past.bootstrap) as reader:
        indexer = load_indexer(writer, log, 0, 0)
        for record in reader.records(JOURNAL, 0, indexer.resume, bounds.ends[0]):
            indexer.take(record.offset, record.value, record.timestamp)
        (pages,) = writer._connection.execute("PRAGMA page_count").fetchone()
        writer._connection.execute(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(FacetsError, match="the disk is full") as full:
            writer.write(0, indexer.batch())
        assert full.value.exit_code == ExitCode.IO_ERROR
        position = writer.position(0)
        assert position is not None
        assert position.next == before.ends[0]
    build(past.bootstrap, path)
    same_as_replayed(past.bootstrap, path)
