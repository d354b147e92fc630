"""The fold: what it makes of a journal, whatever the order across Services, the batches, the restarts."""

from itertools import pairwise
from typing import Any

import orjson
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from streams.fold.fold import PartitionFold
from streams.objects.normalize import normalize
from streams.wire.keys import SEAL_PREFIX
from streams.wire.records import FOLD_VERSION, decode_row
from tests.properties.folding import (
    TABLES,
    WINDOW,
    Logs,
    accepted,
    compacted,
    content,
    fold,
    is_row,
    logs_of,
    new_fold,
    restarted,
    rows,
)
from tests.properties.journals import (
    Journal,
    encode,
    events_of,
    journals,
    key_of,
    sources_of,
    with_events,
)
from tests.properties.model import Members, apply_change, winners
from tests.properties.strategies import NAMESPACE, SERVICES
from tests.support.endpoints import by_port

Row = dict[str, Any]


# ---- what the rows say -------------------------------------------------------------------------------


def misses(row: Any, world: Any, service: str) -> bool:
    """Whether an object that can't be read may have what the set lacks: one without a good state, or where the set is
    empty any. Legacy Endpoints count only while there are no slices."""
    slices, legacy = sources_of(world, service)
    readable = {("EndpointSlice", item["metadata"]["name"]) for item in slices}
    if legacy is not None:
        readable.add(("Endpoints", legacy["metadata"]["name"]))
    rejected = {(each["kind"], each["name"]) for each in row.get("rejected", ())}
    counted = {each for each in rejected if each[0] == "EndpointSlice" or (each[0] == "Endpoints" and not slices)}
    return bool(counted - readable if row["endpoints"] else counted)


@given(journals())
def test_the_tables_end_as_the_clusters_do(journal: Journal) -> None:
    """Against the normalized objects and the merge's model: nothing is lost, nothing stays, rejected objects keep
    their last good state."""
    logs = logs_of(fold(journal.values))
    frontends, backends = rows(logs, "frontend"), rows(logs, "backend")
    for cluster, world in journal.worlds.items():
        for service in SERVICES:
            key = key_of(cluster, service)
            item = world.get(("Service", service))
            assert (key in frontends) == (item is not None) == (key in backends)
            if item is None:
                continue
            expected = normalize("Service", item, "cluster.local")
            assert expected is not None
            body = orjson.loads(expected.body)
            assert {name: frontends[key][name] for name in body} == body
            backend = decode_row("backend", orjson.dumps(backends[key]))
            is_external = item["spec"].get("type") == "ExternalName"
            members = by_port(backend["endpoints"])
            wanted = {} if is_external else winners(*sources_of(world, service))
            assert members.keys() == wanted.keys()
            assert all(endpoint in wanted[identity] for identity, endpoint in members.items())
            known = "ready" if members else "empty"
            assert backend["state"] in {
                "stale",
                "unknown" if not is_external and misses(backend, world, service) else known,
            }


@given(journals(length=8))
def test_each_row_follows_the_one_before_and_says_what_it_changes(journal: Journal) -> None:
    """Guarantee 3: `previous` chains; `change` alone leads from set to set."""
    held: dict[tuple[str, bytes], int] = {}
    members: dict[bytes, Members] = {}
    for write in fold(journal.values):
        if not is_row(write) or write.table not in TABLES:
            continue
        if write.value is None:
            assert write.version >= held.pop((write.table, write.key))
            assert not members.pop(write.key, {})
            continue
        row = decode_row(write.table, write.value)
        assert row["previous"] == held.get((write.table, write.key))
        assert row["version"] == write.version
        held[write.table, write.key] = write.version
        if write.table == "backend":
            after = by_port(row["endpoints"])
            assert apply_change(row["change"], members.get(write.key, {})) == after
            assert after == {} or row["state"] in {"ready", "stale"}
            members[write.key] = after


@given(journals())
def test_every_offset_is_sealed_once_after_its_rows(journal: Journal) -> None:
    instance = new_fold()
    for offset, value in enumerate(journal.values):
        writes = instance.step(offset, value)
        seals = [write for write in writes if write.key.startswith(SEAL_PREFIX) and write.value is not None]
        assert [write.table for write in seals] == list(TABLES)
        assert [write.table for write in writes][-len(TABLES) :] == list(TABLES)
        assert {write.version for write in writes} == {offset}
        if offset in journal.stale:
            assert all(write.key.startswith(SEAL_PREFIX) or write.table == "deadletter" for write in writes)


@given(journals(garbage=False))
def test_a_stale_writer_changes_nothing(journal: Journal) -> None:
    silent = [
        with_events(commit, []) if offset in journal.stale else commit for offset, commit in enumerate(journal.commits)
    ]
    assert fold(journal.values) == fold([encode(commit) for commit in silent])


# ---- order -------------------------------------------------------------------------------------------


@given(journals())
def test_a_service_is_decided_by_its_own_events_alone(journal: Journal) -> None:
    """Its rows are the same, byte for byte, whatever is said of other Services in between."""
    together = fold(journal.values)
    for service in SERVICES[:2]:
        own = [
            with_events(commit, [event for event in events_of(commit) if event["service"] == service])
            for commit in journal.commits
        ]
        alone = fold([encode(commit) for commit in own])
        key = f"/{NAMESPACE}/{service}".encode()
        assert [write for write in alone if is_row(write) and write.table != "deadletter"] == [
            write for write in together if write.key.endswith(key) and is_row(write) and write.table != "deadletter"
        ]


@given(journals(), st.randoms(use_true_random=False))
def test_the_order_across_services_in_a_commit_does_not_matter(journal: Journal, random: Any) -> None:
    mixed = []
    for commit in journal.commits:
        queues = [[event for event in events_of(commit) if event["service"] == service] for service in SERVICES]
        events = []
        while any(queues):
            events.append(random.choice([queue for queue in queues if queue]).pop(0))
        mixed.append(encode(with_events(commit, events)))
    ours, theirs = (logs_of(fold(values)) for values in (journal.values, mixed))
    assert ours == theirs


@given(journals(rejects=False, garbage=False), st.data())
def test_how_events_are_put_into_commits_does_not_change_the_outcome(journal: Journal, data: st.DataObject) -> None:
    """Live commits are split at any event, and neighbours joined: the same rows, but for the stamps."""
    repacked = []
    for offset, commit in enumerate(journal.commits):
        events = events_of(commit)
        if isinstance(commit, bytes) or commit["phase"] not in {"live", "snapshot"} or offset in journal.stale:
            repacked.append(commit)
            continue
        cut = data.draw(st.integers(0, len(events)))
        before = repacked[-1] if repacked else None
        joins = (
            isinstance(before, dict)
            and before["phase"] == commit["phase"]
            and before["epoch"] == commit["epoch"]
            and before["cluster"] == commit["cluster"]
            and before.get("staleSince") == commit.get("staleSince")
            and data.draw(st.booleans())
        )
        if joins and isinstance(before, dict):
            repacked[-1] = {**commit, "events": [*before["events"], *events[:cut]]}
        else:
            repacked.append({**commit, "events": events[:cut]})
        repacked.append({**commit, "events": events[cut:]})
    for commit in repacked:
        assert isinstance(commit, dict)
    renumbered = [encode({**commit, "seq": seq}) for seq, commit in enumerate(repacked, 1) if isinstance(commit, dict)]
    one, other = (logs_of(fold(values)) for values in (journal.values, renumbered))
    for table in TABLES:
        assert {key: content(row) for key, row in rows(one, table).items()} == {
            key: content(row) for key, row in rows(other, table).items()
        }


@given(journals(clusters=("east",), rejects=False))
def test_a_snapshot_replaces_whatever_was_held(journal: Journal) -> None:
    """From the last snapshot's begin on, the journal alone makes the same rows: it is always replayable."""
    begins = [
        offset
        for offset, commit in enumerate(journal.commits)
        if isinstance(commit, dict) and commit["phase"] == "begin" and offset not in journal.stale
    ]
    assume(len(begins) > 1)
    values = journal.values
    whole, tail = logs_of(fold(values)), logs_of(fold(values[begins[-1] :], begins[-1]))
    for table in TABLES:
        assert {key: content(row) for key, row in rows(whole, table).items()} == {
            key: content(row) for key, row in rows(tail, table).items()
        }


# ---- restarts ----------------------------------------------------------------------------------------


def _run_with_crashes(values: list[bytes], crashes: list[tuple[int, dict[str, int]]], logs: Logs | None = None) -> Logs:
    """The tables' topics (those of before, if any, written on) after a worker that was killed so often: each time
    after some steps, with the last records of each table not written any more (a producer's partitions are
    independent, the order within one is kept)."""
    logs = logs or {table: [] for table in TABLES}
    for steps, lost in crashes:
        instance, offset, writes = restarted(logs)
        for each in range(offset, min(offset + steps, len(values))):
            writes += instance.step(each, values[each])
        for table, log in logs_of(writes).items():
            logs[table] += log[: max(0, len(log) - lost[table])]
    instance, offset, writes = restarted(logs)
    for each in range(offset, len(values)):
        writes += instance.step(each, values[each])
    for table, log in logs_of(writes).items():
        logs[table] += log
    return logs


_crashes = st.lists(
    st.tuples(st.integers(0, 20), st.fixed_dictionaries({table: st.integers(0, 12) for table in TABLES})),
    min_size=1,
    max_size=3,
)


@settings(max_examples=150)
@given(journals(), _crashes)
def test_a_worker_killed_between_any_two_writes_leaves_no_trace(
    journal: Journal, crashes: list[tuple[int, dict[str, int]]]
) -> None:
    """Guarantees 1 and 5: what a subscriber takes, and what compaction leaves, are byte for byte those of an
    undisturbed run; no version of a row has two contents."""
    values = journal.values
    calm, rough = logs_of(fold(values)), _run_with_crashes(values, crashes)
    said: dict[tuple[str, bytes, int], bytes | None] = {}
    for table in TABLES:
        for write in (*calm[table], *rough[table]):
            if not write.key.startswith(SEAL_PREFIX):
                assert said.setdefault((table, write.key, write.version), write.value) == write.value
    assert accepted(rough) == accepted(calm)
    assert compacted(rough) == compacted(calm)


@given(journals(), st.integers(0, 30))
def test_a_restart_goes_on_from_compacted_tables_alike(journal: Journal, cut: int) -> None:
    values = journal.values
    cut = min(cut, len(values))
    calm = logs_of(fold(values))
    before = logs_of(fold(values[:cut]))
    kept: Logs = {table: [] for table in TABLES}
    for table, log in before.items():
        last = {write.key: index for index, write in enumerate(log)}
        kept[table] = [write for index, write in enumerate(log) if last[write.key] == index and write.value is not None]
    instance, offset, writes = restarted(kept)
    assert writes == []
    for each in range(offset, len(values)):
        writes += instance.step(each, values[each])
    after: Logs = {table: [*before[table], *log] for table, log in logs_of(writes).items()}
    assert accepted(after) == accepted(calm)
    assert compacted(after) == compacted(calm)


def _aged(logs: Logs) -> Logs:
    """The tables as an older version of the fold left them: another number in the seals, other reasons in the rows of
    Services that exist, routes decided otherwise, endpoints in another order, and none that lost some of its ports."""
    aged: Logs = {}
    for table, log in logs.items():
        aged[table] = []
        for write in log:
            value = write.value
            if value is not None and write.key.startswith(SEAL_PREFIX):
                value = orjson.dumps({**orjson.loads(value), "fold": FOLD_VERSION - 1})
            elif value is not None and is_row(write):
                row = orjson.loads(value)
                if row["state"] != "deleted":
                    value = orjson.dumps({**row, **_of_old(row)})
            aged[table].append(write._replace(value=value))
    return aged


def _of_old(row: Row) -> Row:
    if "gateway" in row:
        return {"gateway": {**row["gateway"], "reason": "NoClusterIP"}}
    if any(group.get("partial") for group in row.get("groups", ())):
        return {"groups": [_unshadowed(group) for group in row["groups"] if not group.get("partial")]}
    if "groups" in row and len(row["groups"]) > 1:
        return {"groups": row["groups"][::-1]}
    return {"reason": "OfOld"}


def _unshadowed(group: Row) -> Row:
    return {**group, "endpoints": [*group["endpoints"], *group.get("shadowed", ())], "shadowed": []}


@given(journals(garbage=False), st.integers(0, 20), _crashes)
def test_after_a_change_of_the_folds_version_the_next_commit_writes_what_differs(
    journal: Journal, cut: int, crashes: list[tuple[int, dict[str, int]]]
) -> None:
    """Whatever crashes: each cluster's rows end as this version makes them, in an unbroken chain, and a second restart
    finds nothing to renew. Those of a cluster that says nothing any more stay."""
    values = journal.values
    cut = min(cut, len(values))
    logs = _aged(logs_of(fold(values[:cut])))
    _run_with_crashes(values, crashes, logs)
    calm = logs_of(fold(values))
    heard = {orjson.loads(value)["cluster"] for value in values[cut:]}
    for table in TABLES:
        ends = rows(logs, table)
        for key, row in rows(calm, table).items():
            if key.split("/")[0] in heard:
                assert content(ends[key]) == content(row), key
            else:
                assert content(ends[key]) == {**content(row), **_of_old(row)}
        assert set(ends) == set(rows(calm, table))
    for (_, key), taken in accepted(logs).items():
        for (version, before), (_, value) in pairwise(taken):
            if value is not None and not key.startswith(b"~"):
                assert orjson.loads(value)["previous"] == (None if before is None else version)
    again, offset, _ = restarted(logs)
    assert offset == len(values)
    assert all(set(again.clusters[name].outdated) == set() for name in heard)


@given(journals(), st.sampled_from(SERVICES))
def test_a_services_rows_are_the_same_where_only_it_is_wanted(journal: Journal, service: str) -> None:
    """Whatever the journal holds of others, garbage and snapshots among it: its rows and tombstones, and all seals'
    offsets."""
    instance = PartitionFold(
        0, window_seconds=WINDOW, selects=lambda _, namespace, name: (namespace, name) == (NAMESPACE, service)
    )
    stepped = [write for offset, value in enumerate(journal.values) for write in instance.step(offset, value)]
    end = f"/{NAMESPACE}/{service}".encode()
    seals, own = [], []
    for writes in (stepped, fold(journal.values)):
        tables = [write for write in writes if write.table in TABLES]
        seals.append([(write.table, write.version) for write in tables if write.key.startswith(SEAL_PREFIX)])
        own.append([write for write in tables if write.key.endswith(end)])
    assert own[0] == own[1]
    assert seals[0] == seals[1]
    assert all(write.key.endswith(end) or not is_row(write) for write in stepped if write.table in TABLES)


@given(journals(garbage=False), journals(length=0, garbage=False, rejects=False), st.integers(0, 12))
def test_after_an_expired_journal_a_complete_snapshot_sets_all_right(
    journal: Journal, fresh: Journal, lost: int
) -> None:
    """The worker's next offset is gone: rows are unknown, and stay so over restarts; deleted Services stay deleted.
    The next complete snapshot of a newer epoch makes the tables what the cluster says."""
    assume(set(fresh.worlds) >= set(journal.worlds))
    logs = logs_of(fold(journal.values))
    instance, offset, _ = restarted(logs)
    first = offset + 1 + lost
    for table, log in logs_of(instance.expire(first)).items():
        logs[table] += log
    for table in TABLES:
        for key, row in rows(logs, table).items():
            assert row["state"] == "unknown", key
    instance, resume, writes = restarted(logs)
    assert resume == first
    newer = []
    for commit in fresh.commits:
        assert isinstance(commit, dict)
        events = [{**each, "resourceVersion": str(int(each["resourceVersion"]) + 1000)} for each in commit["events"]]
        newer.append(encode({**commit, "epoch": commit["epoch"] + 100, "events": events}))
    for each, value in enumerate(newer, first):
        writes += instance.step(each, value)
    for table, log in logs_of(writes).items():
        logs[table] += log
    anew = logs_of(fold(newer))
    for table in TABLES:
        assert {key: content(row) for key, row in rows(logs, table).items()} == {
            key: content(row) for key, row in rows(anew, table).items()
        }
