"""Patches of EndpointSlices: what a watcher writes, and what becomes of one that does not fit."""

from typing import Any

import orjson
import pytest

from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.objects.collector import Collector
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import RESOURCES
from streams.wire.records import decode_row
from tests.support.journal_values import service

Object = dict[str, Any]
Row = dict[str, Any]


def endpoint(address: str, *, ready: bool = True) -> Object:
    return {
        "address": address, "ready": ready, "serving": ready, "terminating": False, "zone": None, "node": None,
        "hints": None, "target": None,
    }  # fmt: skip


def whole(version: str, *endpoints: Object, uid: str = "u1") -> Object:
    group = {"family": "IPv4", "ports": [], "endpoints": list(endpoints)}
    return {**_head("apply", version, uid), "object": {"groups": [group]}}


def patch(version: str, base: str, *endpoints: Object, removed: tuple[str, ...] = (), uid: str = "u1") -> Object:
    content = {"removed": list(removed), "endpoints": list(endpoints)}
    return {**_head("patch", version, uid), "base": base, "object": content}


def _head(op: str, version: str, uid: str) -> Object:
    name = {"kind": "EndpointSlice", "namespace": "shop", "name": "cart-x", "service": "cart"}
    return {"op": op, **name, "uid": uid, "resourceVersion": version}


class Folded:
    """A fold of one cluster that holds `cart` with one slice of two endpoints, at resourceVersion 10."""

    def __init__(self) -> None:
        self.fold = PartitionFold(0)
        self.seq = 0
        self.dead: list[str] = []
        self.row: Row = {}
        self.commit("begin")
        self.commit("snapshot", service("cart", 4), whole("10", endpoint("10.1.0.1"), endpoint("10.1.0.2")))
        self.commit("end")

    def commit(self, phase: str, *events: Object) -> Row:
        """The backend row after a commit."""
        self.seq += 1
        head = {"cluster": "east", "epoch": 1, "writer": "w", "seq": self.seq, "at": "2026-11-24T12:00:00.000Z"}
        body = {**head, "phase": phase, "frontier": {"services": "9"}, "events": list(events)}
        for write in self.fold.step(self.seq - 1, orjson.dumps(body)):
            self._take(write)
        return self.row

    def _take(self, write: Write) -> None:
        if write.table == "deadletter":
            self.dead.append(orjson.loads(write.value or b"")["reason"])
        elif write.table == "backend" and not write.key.startswith(b"~") and write.value:
            self.row = decode_row("backend", write.value)


def addresses(row: Row) -> list[str]:
    return [each["address"] for each in row["endpoints"]]


def test_endpoints_come_go_and_change() -> None:
    folded = Folded()
    row = folded.commit("live", patch("11", "10", endpoint("10.1.0.10"), endpoint("10.1.0.2", ready=False)))
    assert addresses(row) == ["10.1.0.1", "10.1.0.10", "10.1.0.2"]
    assert [each["ready"] for each in row["endpoints"]] == [True, True, False]
    assert [[each["address"] for each in row["change"][kind]] for kind in ("added", "removed", "updated")] == [
        ["10.1.0.10"], [], ["10.1.0.2"],
    ]  # fmt: skip
    row = folded.commit("live", patch("12", "11", removed=("10.1.0.1",)), patch("13", "12", endpoint("10.1.0.0")))
    assert addresses(row) == ["10.1.0.0", "10.1.0.10", "10.1.0.2"]
    row = folded.commit("live", patch("14", "13", removed=("10.1.0.0", "10.1.0.10", "10.1.0.2")))
    assert (addresses(row), row["state"]) == ([], "empty")
    assert addresses(folded.commit("live", patch("15", "14", endpoint("10.1.0.7")))) == ["10.1.0.7"]
    assert folded.dead == []


@pytest.mark.parametrize("is_patch", [True, False])
def test_another_hostname_is_an_update(is_patch: bool) -> None:
    folded = Folded()

    def commit(version: int, **hostname: str) -> tuple[Row, Row]:
        changed = {**endpoint("10.1.0.1"), **hostname}
        event = (
            patch(str(version), str(version - 1), changed)
            if is_patch
            else whole(str(version), changed, endpoint("10.1.0.2"))
        )
        row = folded.commit("live", event)
        (updated,) = row["change"]["updated"]
        assert (row["change"]["added"], row["change"]["removed"]) == ([], [])
        assert updated == row["endpoints"][0]
        return updated, row["endpoints"][1]

    assert commit(11, hostname="web-0")[0]["hostname"] == "web-0"
    assert commit(12, hostname="web-1")[0]["hostname"] == "web-1"
    assert all("hostname" not in each for each in commit(13))
    assert folded.dead == []


@pytest.mark.parametrize("hostname", ["Web-0", "web.0", "-", "", "w" * 64, "web-0\n", 7])
def test_a_hostname_that_none_can_have_is_not_taken(hostname: Any) -> None:
    folded = Folded()
    folded.commit("live", whole("11", {**endpoint("10.1.0.1"), "hostname": hostname}))
    (reason,) = folded.dead
    assert "hostname" in reason


@pytest.mark.parametrize(
    "bad",
    [
        patch("12", "11", endpoint("10.1.0.3")),
        patch("12", "10", endpoint("10.1.0.3"), uid="u2"),
        patch("12", "", endpoint("10.1.0.3")),
    ],
)
def test_without_its_base_the_set_is_unknown_until_the_object_comes_whole(bad: Object) -> None:
    folded = Folded()
    row = folded.commit("live", bad)
    assert row["state"] == "unknown"
    assert f"the patch is of resourceVersion {bad['base']}, held is resourceVersion 10 of uid u1" in row["reason"]
    assert addresses(row) == ["10.1.0.1", "10.1.0.2"]
    assert folded.dead == []
    # Nothing else makes it known: not a later patch, and not one that can't be read.
    assert folded.commit("live", patch("13", "12", endpoint("10.1.0.4")))["state"] == "unknown"
    reject = {**_head("reject", "14", "u1"), "message": "no"}
    assert folded.commit("live", reject)["state"] == "unknown"
    assert folded.commit("live", service("cart", 15))["state"] == "unknown"
    row = folded.commit("live", whole("16", endpoint("10.1.0.9")))
    assert (row["state"], row["reason"], addresses(row)) == ("ready", "", ["10.1.0.9"])


def test_a_complete_snapshot_makes_it_known_again() -> None:
    folded = Folded()
    assert folded.commit("live", patch("12", "11"))["state"] == "unknown"
    folded.commit("begin")
    folded.commit("snapshot", service("cart", 4), whole("10", endpoint("10.1.0.1"), endpoint("10.1.0.2")))
    row = folded.commit("end")
    assert (row["state"], addresses(row)) == ("ready", ["10.1.0.1", "10.1.0.2"])


def test_of_a_slice_that_is_not_held_the_set_is_unknown() -> None:
    folded = Folded()
    folded.commit("live", {**_head("delete", "11", "u1")})
    row = folded.commit("live", patch("12", "10", endpoint("10.1.0.3")))
    assert (row["state"], addresses(row)) == ("unknown", [])
    assert "held is nothing" in row["reason"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (patch("11", "10", removed=("10.1.0.3",)), "is to be removed, and not there"),
        (patch("11", "10", endpoint("10.1.0.3"), endpoint("10.1.0.3", ready=False)), "names an address twice"),
        (patch("11", "10", endpoint("10.1.0.1"), removed=("10.1.0.1",)), "names an address twice"),
        (patch("11", "10", endpoint("10.1.0.300")), "not of the family IPv4"),
        ({**patch("11", "10"), "object": {"groups": []}}, "unknown field `groups`"),
        ({**patch("11", "10"), "object": None}, "Expected `object`"),
        ({**patch("11", "10"), "kind": "Endpoints", "name": "cart"}, "no patch is made of the kind 'Endpoints'"),
    ],
)
def test_one_that_can_not_be_read_changes_no_endpoint_and_makes_the_set_unknown(bad: Object, message: str) -> None:
    folded = Folded()
    row = folded.commit("live", bad)
    in_itself = "not there" not in message and "family" not in message
    assert [message in reason for reason in folded.dead] == ([True] if in_itself else [])
    assert addresses(row) == ["10.1.0.1", "10.1.0.2"]
    assert [message in rejection["message"] for rejection in row["rejected"]] == [True]
    assert row["state"] == ("unknown" if bad["kind"] == "EndpointSlice" else "ready")


def test_an_address_that_is_there_twice_is_not_patched() -> None:
    folded = Folded()
    folded.commit("live", whole("11", endpoint("10.1.0.1"), endpoint("10.1.0.1", ready=False)))
    folded.commit("live", patch("12", "11", endpoint("10.1.0.1")))
    assert "is there twice" in folded.row["reason"]


def test_a_snapshot_has_whole_objects() -> None:
    folded = Folded()
    folded.commit("begin")
    folded.commit("snapshot", service("cart", 4), patch("11", "10", endpoint("10.1.0.3")))
    row = folded.commit("end")
    assert addresses(row) == ["10.1.0.1", "10.1.0.2"]
    assert [rejection["message"] for rejection in row["rejected"]] == ["a patch in a snapshot, which has whole objects"]
    assert row["state"] == "unknown"


# ---- what a watcher writes -------------------------------------------------------------------------------


def slice_object(version: int, count: int, *, uid: str = "u1", **fields: Any) -> Object:
    labels = {"kubernetes.io/service-name": "cart"}
    return {
        "metadata": {
            "namespace": "shop", "name": "cart-x", "uid": uid, "resourceVersion": str(version), "labels": labels,
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": [f"10.1.0.{i}"], "conditions": {"ready": True}} for i in range(count)],
        **fields,
    }  # fmt: skip


def written(*states: Object | None) -> list[str]:
    """What is written of the states of a slice after the first, which is listed; None is a deletion."""
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=1)
    for resource in RESOURCES:
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
        if resource.kind == "EndpointSlice":
            collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_APPLY, states[0], ""))
        collector.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "5"))
    collector.flush("2026-11-24T12:00:00.000Z")
    operations = []
    held = states[0]
    for state in states[1:]:
        kind, item = (Kind.DELETE, held) if state is None else (Kind.APPLY, state)
        collector.ingest("EndpointSlice", ReflectorEvent(kind, item, "9"))
        for record in collector.flush("2026-11-24T12:00:01.000Z"):
            operations += [event["op"] for event in orjson.loads(record.value).get("events", [])]
        held = state or held
    return operations


def test_a_watcher_writes_what_differs_where_that_is_less() -> None:
    few, many = slice_object(6, 1), slice_object(6, 50)
    assert written(many, slice_object(7, 51), slice_object(8, 49), slice_object(9, 49)) == ["patch"] * 3
    # All of a slice that is another now, of a new one, and of one after an object that could not be read.
    assert written(many, slice_object(7, 50, uid="u2")) == ["apply"]
    assert written(many, slice_object(7, 50, ports=[{"port": 81}])) == ["apply"]
    assert written(many, None, slice_object(8, 51)) == ["delete", "apply"]
    assert written(many, slice_object(7, 50, addressType="IPX"), slice_object(8, 51)) == ["reject", "apply"]
    bad = slice_object(7, 51)
    bad["endpoints"][0] = {"addresses": ["nonsense"]}
    assert written(many, bad, slice_object(8, 50)) == ["apply", "apply"]
    unusual: dict[str, Any] = {
        "conditions": {"ready": False, "serving": False, "terminating": True}, "zone": "a", "nodeName": "n",
        "hints": {"forZones": [{"name": "a"}]}, "targetRef": {"kind": "Pod", "namespace": "x", "name": "p", "uid": "u"},
    }  # fmt: skip
    other = [{"addresses": [f"10.2.0.{i}"], **unusual} for i in range(50)]
    assert written(many, slice_object(7, 50, endpoints=other)) == ["apply"]
    twice = [*many["endpoints"], {"addresses": ["10.1.0.1"], "conditions": {"ready": False}}]
    assert written(many, slice_object(7, 50, endpoints=twice)) == ["apply"]
    assert written(few, slice_object(7, 2)) in (["patch"], ["apply"])
