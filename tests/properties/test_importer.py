"""What `facets import` writes: whatever clusters did, a cluster then has what the KEP's words make of their objects;
a second look writes nothing; and what is not the importer's own is as it was."""

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from streams.importer.conditions import conditions, export_verdicts
from streams.importer.desired import MAX_ENDPOINTS, slices
from streams.importer.names import derived_service_name
from streams.importer.plan import Plan, SetState, Target, plan
from streams.importer.sets import Sets
from streams.subscription.rows import Row
from streams.wire.keys import SEAL_PREFIX, is_row, parse_row_key
from streams.wire.records import Seal
from tests.properties.clustersets import NAMES, History, dropped_from, folded, histories, outages
from tests.support.clustersets import Journal
from tests.support.naive_clusterset import naive_claims, naive_set
from tests.support.server_side_apply import ModelCluster

NOW = "2026-11-24T12:00:00Z"
Json = dict[str, Any]


def follow(sets: Sets, journal: Journal, version: int) -> None:
    """Take what the fold made of one journal record, as a subscriber gets it."""
    writes = [write for write in journal.writes if write.table == "clusterset" and write.version == version]
    rows = [
        Row("clusterset", *parse_row_key(write.key.decode()), write.version, write.value or b"")
        for write in writes
        if is_row(write.key)
    ]
    for write in writes:
        if write.key.startswith(SEAL_PREFIX) and write.value is not None:
            sets.apply(rows, msgspec.json.decode(write.value, type=Seal), 0)
            rows = []


def planned(sets: Sets, model: ModelCluster, name: str, *, derived: bool = False) -> Plan:
    held = model.held(name, derived_service_name("shop", name))
    return plan("shop", name, sets.state(("shop", name)), held, Target("east", derived, NOW))


def reconcile(sets: Sets, model: ModelCluster, name: str, *, derived: bool = False) -> None:
    """Write until nothing differs: the object, its status, and with `derived` both again for the IP."""
    for _ in range(3 if derived else 2):
        for action in planned(sets, model, name, derived=derived).actions:
            model.execute(action)
    assert planned(sets, model, name, derived=derived).actions == ()


def claims_in(model: ModelCluster, name: str) -> list[tuple[str, str, str, str, int]]:
    return sorted(
        (item["metadata"]["annotations"]["service-facets.io/clusters"], endpoint["addresses"][0],
         port["name"], port["protocol"], port["port"])
        for (kind, _), item in model.objects.items()
        if kind == "EndpointSlice" and item["metadata"]["labels"]["multicluster.kubernetes.io/service-name"] == name
        for endpoint in item["endpoints"]
        for port in item["ports"]
    )  # fmt: skip


def check_kep(drawn: History, derived: bool = False) -> None:
    """At the end a cluster has what the KEP's words make of all clusters' objects."""
    journal, members = folded(drawn)
    sets, model = Sets(), ModelCluster()
    for version in range(len(journal.values)):
        follow(sets, journal, version)
        for name in NAMES:
            reconcile(sets, model, name, derived=derived)
    naive = [member.naive for member in members]
    for name in NAMES:
        wanted, row = naive_set(naive, ("shop", name)), sets.state(("shop", name)).row
        is_there = ("ServiceImport", name) in model.objects
        assert is_there == (wanted is not None and wanted["type"] is not None)
        assert claims_in(model, name) == naive_claims(naive, ("shop", name), dropped_from(row or {"exports": []}))
        if wanted is not None and is_there:
            spec = model.objects["ServiceImport", name]["spec"]
            ports = [
                {k: v for k, v in port.items() if k != "clusters" and v not in (None, "")} for port in wanted["ports"]
            ]
            assert (spec["type"], spec["ports"]) == (wanted["type"], ports)
            wants_ip = derived and wanted["type"] == "ClusterSetIP"
            assert len(spec.get("ips", ())) == (len(spec["ipFamilies"]) if wants_ip else 0)
            assert (("Service", derived_service_name("shop", name)) in model.objects) == wants_ip


def check_outages(drawn: History) -> None:
    """A cluster that is not heard of counts as the row says."""
    journal, _ = folded(drawn)
    sets, model = Sets(), ModelCluster()
    for version in range(len(journal.values)):
        follow(sets, journal, version)
        reconcile(sets, model, "cart")
        row = sets.state(("shop", "cart")).row
        if row is None:
            continue
        counted = {each["cluster"] for each in row["exports"] if each["counted"]}
        assert {claim[0] for claim in claims_in(model, "cart")} <= counted
        assert claims_in(model, "cart") == sorted(
            (endpoint["cluster"], endpoint["address"], port["name"], port["protocol"], port["port"])
            for endpoint in row["endpoints"]
            for port in endpoint["ports"]
        )
        if row["type"] is not None:
            status = model.objects["ServiceImport", "cart"]["status"]
            assert {each["cluster"] for each in status["clusters"]} == counted


def check_conditions(drawn: History) -> None:
    """Each export is told what it is."""
    journal, members = folded(drawn)
    sets, model = Sets(), ModelCluster()
    for version in range(len(journal.values)):
        follow(sets, journal, version)
    east = members[0].naive
    for name in NAMES:
        if ("shop", name) not in east.exports:
            continue
        export = east.exports["shop", name]
        theirs = {"type": "Other", "status": "True", "reason": "Theirs", "lastTransitionTime": NOW}
        model.put("ServiceExport", {**export, "status": {"conditions": [theirs]}})
        reconcile(sets, model, name)
        said = {each["type"]: each for each in model.objects["ServiceExport", name]["status"]["conditions"]}
        assert said.pop("Other") == theirs
        wanted = naive_set([member.naive for member in members], ("shop", name))
        assert wanted is not None
        valid, conflict = next((row[3], row[4]) for row in wanted["exports"] if row[0] == "east")
        assert (said["Valid"]["status"], said["Valid"]["reason"]) == (str(valid == "Valid"), valid)
        assert said["Valid"].get("observedGeneration") == 1
        if valid == "Valid":
            is_conflict = str(conflict != "NoConflicts")
            assert (said["Conflict"]["status"], said["Conflict"]["reason"]) == (is_conflict, conflict)
        else:
            assert "Conflict" not in said


def check_others(drawn: History) -> None:
    """What is not the importer's own is left alone."""
    journal, _ = folded(drawn)
    sets, model = Sets(), ModelCluster()
    for name in NAMES:
        model.put("ServiceImport", {"metadata": {"name": name, "labels": {"by": "hand"}}, "spec": {"type": "Headless"}})
        labels = {"multicluster.kubernetes.io/service-name": name}
        model.put("EndpointSlice", {"metadata": {"name": f"{name}-theirs", "labels": labels}, "endpoints": []})
    before = deepcopy(model.objects)
    for version in range(len(journal.values)):
        follow(sets, journal, version)
        for name in NAMES:
            made = planned(sets, model, name)
            assert made.foreign
            assert made.actions == ()
    assert model.objects == before


def check_unknown(drawn: History, missing: int = 0) -> None:
    """Whoever starts over an empty journal, or while a cluster has not been listed, deletes nothing of it."""
    journal, members = folded(drawn)
    sets, model = Sets(), ModelCluster()
    for version in range(len(journal.values)):
        follow(sets, journal, version)
    for name in NAMES:
        reconcile(sets, model, name)
    nothing = Sets()
    nothing.replace([], {}, 1)
    absent = members[missing].naive.name
    incomplete = {
        (0, member.naive.name): Seal(member.naive.name, 0, 1, "w", 1, NOW, "live", {"services": "1"}, fold=1)
        for member in members
        if member.naive.name != absent
    }
    partly = Sets()
    partly.replace([], incomplete, 1)
    for name in NAMES:
        assert planned(nothing, model, name).actions == ()
        if ("ServiceImport", name) in model.objects:
            held = model.objects["ServiceImport", name]["metadata"]["annotations"]["service-facets.io/clusters"]
            deleted = [action for action in planned(partly, model, name).actions if action.body is None]
            assert not deleted or absent not in held.split(",")


@given(histories, st.booleans())
def test_a_cluster_has_what_the_kep_makes_of_all_clusters(drawn: History, derived: bool) -> None:
    check_kep(drawn, derived)


@given(outages)
def test_a_cluster_that_is_not_heard_of_counts_as_the_row_says(drawn: History) -> None:
    check_outages(drawn)


@given(histories)
def test_each_export_is_told_what_it_is(drawn: History) -> None:
    check_conditions(drawn)


@given(histories)
def test_what_is_not_its_own_is_left_alone(drawn: History) -> None:
    check_others(drawn)


@given(histories, st.integers(0, 2))
def test_nothing_is_taken_back_because_nothing_is_known(drawn: History, missing: int) -> None:
    check_unknown(drawn, missing)


PLANNER = "streams.importer.plan"
FAULTS: dict[str, tuple[Callable[[History], None], Any, str, Any]] = {
    "everything-counts-as-its-own": (check_others, histories, f"{PLANNER}.is_own", lambda item: item is not None),
    "nothing-is-recognized-as-its-own": (check_kep, histories, f"{PLANNER}.is_own", lambda item: False),
    "written-again-each-time": (check_kep, histories, f"{PLANNER}.differences", lambda *_: iter([("x", 1, 2)])),
    "never-changed": (
        check_kep, histories, f"{PLANNER}.differences", lambda held, wanted: iter([("x", 1, 2)] if held is None else [])
    ),
    "leftovers-stay": (check_kep, histories, f"{PLANNER}._Planner._is_gone", lambda *_: False),
    "deleted-though-not-known": (check_unknown, histories, f"{PLANNER}._Planner._is_unheard", lambda *_: False),
    "slices-of-exports-taken-back-stay": (check_kep, histories, f"{PLANNER}._Planner._is_kept", lambda *_: True),
    "imported-though-no-export-is-valid": (check_kep, histories, "streams.importer.desired.exists", lambda row: True),
    "dropped-clusters-in-the-status": (
        check_outages, outages, "streams.importer.desired.counted", lambda row: row["exports"]
    ),
    "conditions-of-another-cluster": (
        check_conditions, histories, f"{PLANNER}.export_verdicts",
        lambda row, export: export_verdicts(row, row["exports"][-1]),
    ),
    "conditions-while-the-row-is-older": (
        check_conditions, histories, f"{PLANNER}._Planner._conditions",
        lambda self, verdicts, held, generation: conditions(verdicts, (), None, NOW),
    ),
}  # fmt: skip
"""What is planted: which check must see it, over which histories, and what is in whose place."""


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_seen(name: str) -> None:
    check, drawn_from, place, fault = FAULTS[name]

    @seed(1)
    @settings(max_examples=400, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
    @given(drawn_from)
    def violated(drawn: History) -> None:
        check(drawn)

    with patch(place, fault), pytest.raises(AssertionError):
        violated()


@st.composite
def joined_sets(draw: st.DrawFn) -> Json:
    """A set with many endpoints, in slices of two clusters."""
    ports = [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": None}]
    addresses = draw(st.sets(st.integers(0, 2000), max_size=400))
    return {
        "namespace": "shop", "name": "cart",
        "exports": [{"cluster": each, "id": each, "counted": True} for each in ("east", "west")],
        "endpoints": [
            {
                "cluster": ("east", "west")[number % 2], "family": "IPv4", "slice": f"s{number % 3 // 2}",
                "address": f"10.{number >> 8}.{number & 255}.1", "ports": ports, "ready": True, "serving": True,
                "terminating": False, "zone": None, "node": None, "hints": None, "target": None,
            }
            for number in sorted(addresses)
        ],
    }  # fmt: skip


@given(joined_sets(), st.integers(0, 2000))
def test_slices_divide_the_endpoints_and_one_that_goes_moves_no_other(row: Json, choice: int) -> None:
    whole = slices(row, "east", {}, derived=False)
    places = {(source_of(each), end["addresses"][0]): name for name, each in whole.items() for end in each["endpoints"]}
    assert all(0 < len(each["endpoints"]) <= MAX_ENDPOINTS for each in whole.values())
    assert sum(len(each["endpoints"]) for each in whole.values()) == len(row["endpoints"])
    assert places.keys() == {(each["cluster"], each["address"]) for each in row["endpoints"]}
    if not row["endpoints"]:
        return
    gone = row["endpoints"][choice % len(row["endpoints"])]
    fewer = {**row, "endpoints": [each for each in row["endpoints"] if each is not gone]}
    rest = slices(fewer, "east", {}, derived=False)
    changed = {name for name in whole if rest.get(name) != whole[name]}
    mine = Counter(places.values())[places[gone["cluster"], gone["address"]]]
    # Unless two halves fit into one slice again, the one that it was in is all that changes.
    merged = {name for name in rest if name not in whole}
    assert len(changed) == 1 or merged
    assert merged or changed == {places[gone["cluster"], gone["address"]]}
    assert mine <= MAX_ENDPOINTS


def source_of(item: Json) -> str:
    return str(item["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"])


def test_the_state_of_a_service_that_is_not_known() -> None:
    assert Sets().state(("shop", "cart")) == SetState()
