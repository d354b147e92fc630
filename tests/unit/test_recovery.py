"""How a partition comes back after a crash, and after its journal has expired: cases that the simulation found."""

import orjson
import pytest

from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from tests.properties.folding import Logs, logs_of, new_fold, restarted, rows
from tests.support.journal_values import TWO_CLUSTERS, commit, with_endpoints, written


def states(logs: Logs) -> dict[str, str]:
    return {f"{table} {key}": row["state"] for table in logs for key, row in rows(logs, table).items()}


def add(logs: Logs, writes: list[Write]) -> None:
    for table, log in logs_of(writes).items():
        logs[table] = [*logs[table], *log]


def test_an_expired_journal_is_said_of_every_cluster_and_not_forgotten_by_a_restart() -> None:
    logs = logs_of(written(new_fold(), TWO_CLUSTERS))
    fold, _, _ = restarted(logs)
    add(logs, fold.expire(20))
    for cluster in ("east", "west"):
        for table in logs:
            (seal,) = [
                write.value for write in logs[table] if write.key.endswith(cluster.encode()) and write.version == 19
            ]
            assert orjson.loads(seal or b"")["lost"]
    fold, resume, _ = restarted(logs)
    assert resume == 20
    late = written(fold, [commit("live", 30, "new"), commit("live", 30, "new", cluster="west")], 20)
    assert [write.key for write in late if not write.key.startswith(b"~")] == []


def test_killed_while_it_says_that_the_journal_expired_a_worker_says_the_rest_alike() -> None:
    before = logs_of(written(new_fold(), TWO_CLUSTERS))
    whole = logs_of(restarted(before)[0].expire(20))
    for lost in range(1, len(whole["backend"])):
        for table in whole:
            logs = {name: [*before[name], *log] for name, log in whole.items()}
            logs[table] = logs[table][:-lost]
            fold, resume, _ = restarted(logs)
            assert resume < 20
            again = logs_of(fold.expire(20))
            said = {(name, write.key, write.version): write.value for name, log in logs.items() for write in log}
            for name, log in again.items():
                assert all(said.get((name, write.key, write.version), write.value) == write.value for write in log)
            for name, log in again.items():
                logs[name] += log
            assert set(states(logs).values()) == {"unknown"}
            assert restarted(logs)[1] == 20


def test_where_only_the_begin_of_a_snapshot_has_expired_its_cluster_alone_is_lost() -> None:
    values = [*TWO_CLUSTERS, commit("begin", 4), commit("snapshot", 5, "cart")]
    logs = logs_of(written(new_fold(), values))
    fold, resume, _ = restarted(logs)
    assert resume == 6
    assert fold.expire(7) == []
    assert fold.next_offset == len(values)
    add(logs, written(fold, [commit("end", 6), commit("live", 4, "cart", cluster="west")], len(values)))
    assert {name.split()[1].split("/")[0] for name, state in states(logs).items() if state == "unknown"} == {"east"}
    assert [state for name, state in states(logs).items() if " east/" in name] == ["unknown"] * len(logs)
    versions = [write.version for write in logs["frontend"]]
    assert versions == sorted(versions)


def test_a_table_that_had_sealed_more_than_expired_says_so_later_also_over_a_restart() -> None:
    values = [*TWO_CLUSTERS[:3], *(commit("live", seq, "cart") for seq in range(4, 8))]
    logs = logs_of(written(new_fold(), values))
    logs["backend"] = [write for write in logs["backend"] if write.version < 3]
    fold, resume, _ = restarted(logs)
    assert resume == 3
    add(logs, fold.expire(5))
    # What the other tables had sealed is lost for the one that was behind.
    assert fold.next_offset == len(values)
    later = [commit("live", 8, "cart"), commit("live", 9, "cart")]
    made = logs_of(written(fold, later, len(values)))
    whole: Logs = {table: [*logs[table], *made[table]] for table in logs}
    assert set(states(whole).values()) == {"unknown"}
    for count in range(1, len(made["backend"]) + 1):
        # However much of it a worker has written to the table that was behind before it ends, the next goes on alike.
        after: Logs = {**logs, "backend": [*logs["backend"], *made["backend"][:count]]}
        fold, resume, _ = restarted(after)
        add(after, written(fold, [*values, *later][resume:], resume))
        assert after["frontend"] == whole["frontend"]
        assert set(states(after).values()) == {"unknown"}


def test_a_lost_cluster_goes_on_from_the_same_commit_whichever_table_a_restart_finds_behind() -> None:
    """Simulation, seed 3156: only the begin of the snapshot has expired, and one table is through with it."""
    values = [b"{", commit("begin", 1), *(commit("snapshot", seq, "cart") for seq in range(2, 7)), commit("end", 7)]
    values += [commit("begin", 8), commit("snapshot", 9, "cart"), commit("end", 10)]
    sealed = {"frontend": 6, "backend": 4, "routing": 8}
    whole = logs_of(written(new_fold(), values))
    logs: Logs = {table: [write for write in whole[table] if write.version <= last] for table, last in sealed.items()}
    fold, resume, _ = restarted(logs)
    assert resume == 1
    add(logs, fold.expire(4))
    made = logs_of(written(fold, values[5:], 5))
    for last in range(5, len(values)):
        until = {table: [write for write in log if write.version <= last] for table, log in made.items()}
        after = {table: [*logs[table], *log] for table, log in until.items()}
        after["frontend"] = logs["frontend"]
        again, resume, _ = restarted(after)
        if resume < 4:
            add(after, again.expire(4))
            resume = again.next_offset or 0
        add(after, written(again, values[resume:], resume))
        assert after == {table: [*logs[table], *log] for table, log in made.items()}


def test_a_table_that_is_ahead_writes_nothing_of_what_it_has_sealed() -> None:
    """Simulation, seed 5501: it had written the tombstone of a row that the others have yet to write."""
    values = [*TWO_CLUSTERS[:3], commit("begin", 4), commit("snapshot", 5, "new"), commit("end", 6)]
    values += [commit("begin", 7, epoch=2), commit("end", 8, epoch=2)]
    values.append(commit("live", 9, epoch=2).replace(b"12:00:09", b"12:59:09"))
    fold = PartitionFold(0, window_seconds=60)
    calm = logs_of(written(fold, values))
    tombstones = [write.key for write in calm["routing"] if write.value is None]
    assert tombstones == [b"~seal/~w1", b"east/shop/cart", b"east/shop/new"]
    for behind in ("frontend", "backend"):
        logs = {table: list(log) for table, log in calm.items()}
        logs[behind] = [write for write in calm[behind] if write.version < 4]
        again = PartitionFold(0, window_seconds=60)
        for table, log in logs.items():
            for write in log:
                again.load(table, write.key, write.value, write.version)
        resume, _ = again.recover()
        add(logs, written(again, values[resume:], resume))
        assert logs == calm


def test_legacy_endpoints_whose_record_a_killed_worker_did_not_write_are_held_as_its_row_shows_them() -> None:
    last = with_endpoints(commit("live", 4))
    logs = logs_of(written(new_fold(), [*TWO_CLUSTERS[:3], last]))
    at = next(at for at, write in enumerate(logs["backend"]) if write.key.startswith(b"~held/"))
    (held,) = [write for write in logs["backend"] if write.key.startswith(b"~held/")]
    logs["backend"] = logs["backend"][:at]
    fold, resume, _ = restarted(logs)
    assert resume == 3
    again = logs_of(fold.expire(20))["backend"]
    assert again[0] == held
    row = orjson.loads(next(write.value or b"" for write in again if write.key == b"east/shop/cart"))
    assert (row["state"], row["change"]) == ("unknown", {"added": [], "removed": [], "updated": []})
    assert [each["address"] for group in row["groups"] for each in group["endpoints"]] == ["10.1.0.7"]


def test_what_was_never_a_cluster_is_not_lost_but_what_was_counted_of_it_is_kept() -> None:
    logs = logs_of(written(new_fold(), [b"{", *TWO_CLUSTERS[:3]]))
    fold, _, _ = restarted(logs)
    seals = [orjson.loads(write.value or b"") for write in fold.expire(20) if write.key == b"~seal/"]
    assert [(seal.get("lost"), seal["deadLetters"], seal["more"]) for seal in seals] == [(None, 1, True)] * len(logs)


@pytest.mark.parametrize("first", [7, 8, 20])
def test_dead_letters_that_only_one_table_had_sealed_are_counted_alike_after_the_journal_expired(first: int) -> None:
    """Simulation, seed 9814. A seal's bytes must not depend on which table was behind when a worker was killed."""
    values = [b"{", *TWO_CLUSTERS[:3], commit("live", 4), b"[", b"{", commit("live", 5)]
    logs = logs_of(written(new_fold(), values))
    logs["backend"] = [write for write in logs["backend"] if write.version < 5]
    fold, resume, _ = restarted(logs)
    assert resume == 5
    add(logs, fold.expire(first))
    first = fold.next_offset or 0
    rest = [*values[first:], *[b"{"] * 12, commit("live", 6), b"{", commit("begin", 7), b"{"]
    made = logs_of(written(fold, rest, first))
    for table in logs:
        for count in range(len(made[table])):
            after = {name: [*logs[name], *log] for name, log in made.items()}
            after[table] = after[table][: len(logs[table]) + count]
            again, resume, _ = restarted(after)
            assert resume >= first
            add(after, written(again, rest[resume - first :], resume))
            assert after == {name: [*logs[name], *log] for name, log in made.items()}


def test_a_loss_that_only_the_table_in_the_middle_has_sealed_is_not_forgotten() -> None:
    values = [*TWO_CLUSTERS[:3], commit("begin", 4), commit("snapshot", 5, "cart"), commit("end", 6, "cart")]
    values += [commit("live", 7, "cart"), commit("live", 8, "cart")]
    sealed = {"frontend": 4, "backend": 5, "routing": 7}
    whole = logs_of(written(new_fold(), values))
    logs: Logs = {table: [write for write in whole[table] if write.version <= last] for table, last in sealed.items()}
    fold, resume, _ = restarted(logs)
    assert resume == 3
    assert fold.expire(4) == []
    later = logs_of(written(fold, values[5:7], 5))
    logs["frontend"] += later["frontend"]
    fold, resume, _ = restarted(logs)
    assert resume == 6
    add(logs, written(fold, [*values[6:], commit("live", 9, "new")], 6))
    assert set(states(logs).values()) == {"unknown"}


def test_a_service_that_a_snapshot_deletes_goes_from_both_tables_over_a_crash_between_them() -> None:
    values = [*TWO_CLUSTERS[:3], commit("begin", 4, epoch=2), commit("end", 5, epoch=2)]
    calm = logs_of(written(new_fold(), values))
    for behind in calm:
        logs = {table: list(log) for table, log in calm.items()}
        logs[behind] = [write for write in calm[behind] if write.version < len(values) - 1]
        fold, resume, _ = restarted(logs)
        add(logs, written(fold, values[resume:], resume))
        assert states(logs) == {}
        assert logs[behind] == calm[behind]


def test_a_cluster_that_ended_ends_in_a_table_that_was_in_a_snapshot_whose_begin_has_expired() -> None:
    values = [*TWO_CLUSTERS[:3], commit("begin", 4), commit("snapshot", 5, "cart"), commit("begin", 6, epoch=2)]
    values.append(commit("close", 7, epoch=2))
    logs = logs_of(written(new_fold(), values))
    logs["frontend"] = [write for write in logs["frontend"] if write.version <= 4]
    fold, resume, _ = restarted(logs)
    assert resume == 3
    assert fold.expire(4) == []
    add(logs, written(fold, values[5:], 5))
    assert states(logs) == {}


def test_legacy_endpoints_without_a_service_that_a_list_no_longer_has_are_forgotten_after_a_restart() -> None:
    first = [commit("begin", 1), with_endpoints(commit("snapshot", 2)), commit("end", 3)]
    logs = logs_of(written(new_fold(), first))
    fold, resume, _ = restarted(logs)
    add(logs, written(fold, [commit("begin", 4, epoch=2), commit("end", 5, epoch=2)], resume))
    fold, resume, _ = restarted(logs)
    add(logs, written(fold, [commit("live", 6, "cart", epoch=2)], resume))
    assert states(logs)["backend east/shop/cart"] == "empty"


def test_who_dies_between_the_seals_of_a_loss_has_lost_the_same_again() -> None:
    """Simulation, seed 21844: the first of these seals does not come after the seals of all offsets before."""
    logs = logs_of(written(new_fold(), TWO_CLUSTERS))
    fold, resume, _ = restarted(logs)
    writes = fold.expire(resume + 5)
    half = [write for write in writes if write.key != b"~seal/west"]
    assert [write for write in half if write.key == b"~seal/east"]
    again, resume_again, _ = restarted({table: [*log, *logs_of(half).get(table, [])] for table, log in logs.items()})
    assert resume_again == resume
    assert [write for write in again.expire(resume + 5) if write not in half] == [
        write for write in writes if write.key == b"~seal/west"
    ]
