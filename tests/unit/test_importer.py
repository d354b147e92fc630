"""What is imported into a cluster: of one set, case by case."""

import asyncio
from copy import deepcopy
from typing import Any

import pytest

from streams.importer.conditions import Verdict, conditions, export_verdicts
from streams.importer.difference import differences
from streams.importer.holdings import Holdings
from streams.importer.listing import documents, lines
from streams.importer.names import derived_service_name, label_value
from streams.importer.plan import Held, SetState, Target, plan
from streams.importer.work_queue import WorkQueue
from streams.objects.normalize import normalize
from streams.objects.reflector import Kind, ReflectorEvent
from streams.runtime.retry import RetryPolicy
from streams.wire.clusterset_records import ClusterExport
from tests.support.server_side_apply import ModelCluster

NOW, BEFORE = "2026-11-24T12:00:00Z", "2026-11-23T12:00:00Z"
Json = dict[str, Any]


def endpoint(cluster: str, address: str, **more: Any) -> Json:
    ports = [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": None}]
    return {
        "cluster": cluster, "family": "IPv4", "slice": "s", "address": address, "ports": ports, "ready": True,
        "serving": True, "terminating": False, "zone": "z1", "node": "n1", "hints": {"zones": ["z1"]},
        "target": {"kind": "Pod", "namespace": "shop", "name": "p", "uid": "u"}, **more,
    }  # fmt: skip


def export(cluster: str, **more: Any) -> Json:
    return {
        "cluster": cluster, "id": cluster, "created": NOW, "state": "ready", "reason": "", "valid": "Valid",
        "conflict": "NoConflicts", "counted": True, **more,
    }  # fmt: skip


def joined(*exports: Json, endpoints: tuple[Json, ...] = (), **more: Any) -> Json:
    return {
        "namespace": "shop", "name": "cart", "state": "ready", "type": "ClusterSetIP",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP", "appProtocol": None, "clusters": {}}],
        "sessionAffinity": "None", "sessionAffinityTimeoutSeconds": None, "internalTrafficPolicy": "Cluster",
        "trafficDistribution": None, "ipFamilies": ["IPv4"], "labels": {}, "annotations": {}, "exports": list(exports),
        "conflicts": [], "endpoints": list(endpoints), **more,
    }  # fmt: skip


def known(row: Json | None, *clusters: str) -> SetState:
    return SetState(row, {}, frozenset(clusters), all_known=True)


def write(model: ModelCluster, state: SetState, *, derived: bool = False) -> None:
    while actions := planned(model, state, derived=derived):
        for action in actions:
            model.execute(action)


def planned(model: ModelCluster, state: SetState, *, derived: bool = False) -> Any:
    held = model.held("cart", derived_service_name("shop", "cart"))
    return plan("shop", "cart", state, held, Target("east", derived, NOW)).actions


def test_nothing_is_written_without_the_namespace() -> None:
    made = plan("shop", "cart", known(joined(export("east")), "east"), Held(), Target("east", False, NOW))
    assert made.actions == ()


def test_labels_that_are_exported_no_more_go_and_others_stay() -> None:
    model = ModelCluster()
    write(model, known(joined(export("east"), labels={"team": "web", "service-facets.io/imported-by": "me"}), "east"))
    item = model.objects["ServiceImport", "cart"]
    assert item["metadata"]["labels"] == {"team": "web", "service-facets.io/imported-by": "facets-import"}
    item["metadata"]["labels"]["by"] = "hand"
    write(model, known(joined(export("east")), "east"))
    labels = model.objects["ServiceImport", "cart"]["metadata"]["labels"]
    assert labels == {"by": "hand", "service-facets.io/imported-by": "facets-import"}


def test_labels_that_no_server_takes_stop_nothing() -> None:
    labels = {"team": "web", "": "x", "/a": "x", "a/b/c": "x", "UP.example/x": "1", "long": "x" * 64, "sp ace": "1"}
    labels |= {"ok.example/x": "", "value": "-x"}
    model = ModelCluster()
    write(model, known(joined(export("east"), labels=labels, annotations={"a b": "1", "note": "any text\n"}), "east"))
    meta = model.objects["ServiceImport", "cart"]["metadata"]
    assert meta["labels"].keys() == {"team", "ok.example/x", "service-facets.io/imported-by"}
    assert meta["annotations"] == {"note": "any text\n", "service-facets.io/clusters": "east"}


def test_what_somebody_changed_of_it_is_put_back() -> None:
    model, state = ModelCluster(), known(joined(export("east"), endpoints=(endpoint("east", "10.1.0.1"),)), "east")
    write(model, state)
    wanted = {key: item["endpoints"] for key, item in model.objects.items() if key[0] == "EndpointSlice"}
    for key in wanted:
        model.objects[key]["endpoints"] = []
    model.objects["ServiceImport", "cart"]["spec"]["type"] = "Headless"
    write(model, state)
    assert {key: model.objects[key]["endpoints"] for key in wanted} == wanted
    assert model.objects["ServiceImport", "cart"]["spec"]["type"] == "ClusterSetIP"


def test_nodes_pods_and_hints_are_of_their_own_cluster_alone() -> None:
    model = ModelCluster()
    both = (endpoint("east", "10.1.0.1"), endpoint("west", "10.2.0.1"))
    write(model, known(joined(export("east"), export("west"), endpoints=both), "east", "west"))
    found = {
        each["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"]: each["endpoints"][0]
        for key, each in model.objects.items()
        if key[0] == "EndpointSlice"
    }
    assert found["west"].keys() == {"addresses", "conditions", "zone"}
    assert found["east"].keys() == {"addresses", "conditions", "zone", "nodeName", "hints", "targetRef"}


def test_the_derived_service_has_the_ip_and_the_slices() -> None:
    model = ModelCluster()
    state = known(
        joined(export("east"), endpoints=(endpoint("east", "10.1.0.1"),), ipFamilies=["IPv4", "IPv6"]), "east"
    )
    write(model, state, derived=True)
    (name,) = (each for kind, each in model.objects if kind == "Service")
    (slice_,) = (each for (kind, _), each in model.objects.items() if kind == "EndpointSlice")
    assert slice_["metadata"]["labels"]["kubernetes.io/service-name"] == name
    spec = model.objects["ServiceImport", "cart"]["spec"]
    assert (spec["ips"], spec["ipFamilies"]) == (["10.96.0.9", "10.96.0.10"], ["IPv4", "IPv6"])
    assert "selector" not in model.objects["Service", name]["spec"]
    write(model, known(joined(type="x", exports=[], state="deleted") | {"type": None}, "east"), derived=True)
    assert model.objects == {}


def test_a_derived_service_that_the_server_refuses_is_said_so_and_tried_no_more() -> None:
    model, state = ModelCluster(), known(joined(export("east")), "east")
    write(model, state, derived=False)
    held = model.held()._replace(refused="spec.ipFamilies[0]: IPv6 is not configured on this cluster")
    (action,) = plan("shop", "cart", state, held, Target("east", True, NOW)).actions
    assert action.status
    assert action.body is not None
    (condition,) = action.body["status"]["conditions"]
    assert (condition["status"], condition["reason"]) == ("False", "IPFamilyNotSupported")


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        (known(joined(export("east"), export("west", state="unknown")), "east", "west"), True),
        (known(joined(export("east"), export("west")), "east", "west"), False),
        (known(joined(export("east")), "east"), True),
        (known(joined(export("east")), "east", "west"), False),
        (known(joined(export("east"), export("west", state="unknown", counted=False)), "east", "west"), False),
        (known(None, "east"), True),
        (known(None, "east", "west"), False),
        (SetState(None, {}, frozenset({"east", "west"}), all_known=False), True),
        (known(joined(export("west", state="unknown"), type=None), "east", "west"), True),
    ],
)
def test_slices_go_when_it_is_known_that_their_cluster_has_none(state: SetState, kept: bool) -> None:
    model = ModelCluster()
    both = (endpoint("east", "10.1.0.1"), endpoint("west", "10.2.0.1"))
    write(model, known(joined(export("east"), export("west"), endpoints=both), "east", "west"))
    write(model, state)
    sources = {
        each["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"]
        for (kind, _), each in model.objects.items()
        if kind == "EndpointSlice"
    }
    assert ("west" in sources) == kept
    if kept:
        assert ("ServiceImport", "cart") in model.objects


def test_an_export_that_the_row_has_not_seen_is_not_judged_yet() -> None:
    row = joined(export("east"))
    content = ClusterExport(created=NOW, uid="uid-1", labels={"team": "web"})
    held = {"metadata": {"name": "cart", "uid": "uid-1", "generation": 3, "resourceVersion": "1"}, "spec": {}}
    state = SetState(row, {"east": content}, frozenset({"east"}), all_known=True)

    def judged(item: Json) -> list[int]:
        made = plan("shop", "cart", state, Held(True, None, item), Target("east", False, NOW))
        statuses = [each.body["status"] for each in made.actions if each.body and each.kind == "ServiceExport"]
        return [each["observedGeneration"] for status in statuses for each in status["conditions"]]

    assert judged(held) == []
    held["spec"] = {"exportedLabels": {"team": "web"}}
    assert judged(held) == [3, 3, 3]
    held["metadata"]["uid"] = "uid-2"
    assert judged(held) == []


def test_conditions_that_others_set_are_left_alone() -> None:
    content = ClusterExport(created=NOW, uid="uid-1")
    state = SetState(joined(export("east")), {"east": content}, frozenset({"east"}), all_known=True)
    theirs = {"f:status": {"f:conditions": {'k:{"type":"Valid"}': {".": {}, "f:status": {}}}}}
    meta: Json = {"name": "cart", "uid": "uid-1", "generation": 1, "resourceVersion": "1"}
    held = Held(True, None, {"metadata": meta, "spec": {}})

    def of_export() -> tuple[list[str], bool]:
        made = plan("shop", "cart", state, held, Target("east", False, NOW))
        return [each.name for each in made.actions if each.kind == "ServiceExport"], "ServiceExport" in made.foreign

    assert of_export() == (["cart"], False)
    meta["managedFields"] = [{"manager": "other", "operation": "Update", "subresource": "status", "fieldsV1": theirs}]
    assert of_export() == ([], True)
    meta["managedFields"][0]["manager"] = "facets-import"
    assert of_export() == (["cart"], False)


def test_a_condition_keeps_its_time_while_its_status_is_the_same() -> None:
    held = [{"type": "Valid", "status": "True", "reason": "Old", "lastTransitionTime": BEFORE}]
    (same,) = conditions([Verdict("Valid", "True", "Valid", "")], held, 2, NOW)
    assert (same["lastTransitionTime"], same["observedGeneration"]) == (BEFORE, 2)
    (other,) = conditions([Verdict("Valid", "False", "NoService", "")], held, None, NOW)
    assert (other["lastTransitionTime"], "observedGeneration" in other) == (NOW, False)


@pytest.mark.parametrize(
    ("said", "verdicts"),
    [
        ({}, {"Valid": ("True", "Valid"), "Ready": ("True", "Exported"), "Conflict": ("False", "NoConflicts")}),
        (
            {"conflict": "PortConflict,LabelsConflict"},
            {
                "Valid": ("True", "Valid"),
                "Ready": ("True", "Exported"),
                "Conflict": ("True", "PortConflict,LabelsConflict"),
            },
        ),
        ({"valid": "NoService", "conflict": ""}, {"Valid": ("False", "NoService"), "Ready": ("False", "Pending")}),
        (
            {"valid": "InvalidServiceType", "conflict": ""},
            {"Valid": ("False", "InvalidServiceType"), "Ready": ("False", "Failed")},
        ),
        (
            {"valid": "ClusterIDConflict", "conflict": ""},
            {"Valid": ("False", "ClusterIDConflict"), "Ready": ("False", "Failed")},
        ),
        (
            {"counted": False, "unavailable": {"action": "dropped", "since": NOW}},
            {"Valid": ("True", "Valid"), "Ready": ("False", "Pending"), "Conflict": ("False", "NoConflicts")},
        ),
    ],
)
def test_the_conditions_of_an_export(said: Json, verdicts: dict[str, tuple[str, str]]) -> None:
    row = joined(export("east", **said), conflicts=[{"message": "They differ."}])
    found = export_verdicts(row, row["exports"][0])
    assert {each.type: (each.status, each.reason) for each in found} == verdicts
    assert all(each.message for each in found)


def test_what_would_be_written_is_listed_field_by_field() -> None:
    model, state = ModelCluster(), known(joined(export("east")), "east")
    made = plan("shop", "cart", state, model.held(), Target("east", False, NOW))
    assert list(lines("east", [made]))[:1] == ["east: create ServiceImport shop/cart"]
    assert '  spec.type: "ClusterSetIP"' in list(lines("east", [made]))
    assert [each["action"] for each in documents("east", [made])] == ["create"]
    write(model, state)
    item = model.objects["ServiceImport", "cart"]
    changed = deepcopy(item)
    changed["spec"]["type"] = "Headless"
    assert list(differences(item, changed)) == [("spec.type", "ClusterSetIP", "Headless")]


def test_a_long_id_is_a_valid_label() -> None:
    assert label_value("east") == "east"
    ids = {label_value(f"{'a' * 80}{i}") for i in range(2)}
    assert {len(each) for each in ids} == {63}
    assert len(ids) == 2


# ---- what a cluster has --------------------------------------------------------------------------------------


def listed(*items: Json) -> list[ReflectorEvent]:
    applied = [ReflectorEvent(Kind.INIT_APPLY, item, "1") for item in items]
    return [ReflectorEvent(Kind.INIT, None, ""), *applied, ReflectorEvent(Kind.INIT_DONE, None, "1")]


def an_import(name: str, version: int = 1) -> Json:
    meta = {"namespace": "shop", "name": name, "uid": f"u-{name}", "resourceVersion": str(version)}
    return {"kind": "ServiceImport", "metadata": meta}


def test_holdings_are_complete_when_every_type_is_listed_and_drop_what_a_list_lacks() -> None:
    holdings = Holdings(derived=False)
    assert len(holdings.missing) == 4
    for resource in holdings.resources:
        holdings.take(resource.kind, listed())
    assert holdings.missing == []
    holdings.take("Namespace", [ReflectorEvent(Kind.APPLY, {"metadata": {"name": "shop"}}, "1")])
    assert holdings.take("ServiceImport", listed(an_import("a"), an_import("b"))) == {("shop", "a"), ("shop", "b")}
    assert holdings.take("ServiceImport", listed(an_import("b"))) >= {("shop", "a")}
    assert holdings.keys() == {("shop", "b")}
    assert holdings.held(("shop", "b"), "").is_active


def test_an_answer_is_not_undone_by_an_older_event() -> None:
    holdings = Holdings(derived=False)
    holdings.put("ServiceImport", an_import("a", 5))
    assert holdings.take("ServiceImport", [ReflectorEvent(Kind.APPLY, an_import("a", 4), "5")]) == set()
    assert holdings.imports()["shop", "a"]["metadata"]["resourceVersion"] == "5"


def test_a_namespace_that_ends_takes_nothing() -> None:
    holdings = Holdings(derived=False)
    for status in ({"metadata": {"deletionTimestamp": NOW}}, {"status": {"phase": "Terminating"}}):
        item = {"metadata": {"name": "shop", **status.get("metadata", {})}, "status": status.get("status", {})}
        assert holdings.take("Namespace", [ReflectorEvent(Kind.APPLY, item, "1")]) == {("shop", "")}
        assert not holdings.held(("shop", "a"), "").is_active


# ---- the queue -----------------------------------------------------------------------------------------------


async def test_a_service_is_with_one_worker_at_a_time_and_comes_again_if_it_changes_meanwhile() -> None:
    sizes: list[int] = []
    queue = WorkQueue(sizes.append)
    queue.add([("shop", "a"), ("shop", "a"), ("shop", "b")])
    async with queue.next() as first:
        queue.add([first])
        async with queue.next() as second:
            assert (first, second) == (("shop", "a"), ("shop", "b"))
        waiting = asyncio.create_task(anext_of(queue))
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting == ("shop", "a")
    assert sizes[-1] == 0


async def test_a_failure_comes_again_after_a_pause() -> None:
    queue = WorkQueue(lambda _: None, RetryPolicy(first=0.001, longest=0.001))
    queue.retry(("shop", "a"))
    async with asyncio.timeout(10):
        assert await anext_of(queue) == ("shop", "a")


async def anext_of(queue: WorkQueue) -> tuple[str, str]:
    async with queue.next() as key:
        return key


# ---- the other direction -------------------------------------------------------------------------------------


@pytest.mark.parametrize("derived", [False, True])
def test_a_watcher_does_not_take_what_was_imported_for_the_clusters_own(derived: bool) -> None:
    model = ModelCluster()
    write(model, known(joined(export("west"), endpoints=(endpoint("west", "10.2.0.1"),)), "west"), derived=derived)
    imported = [item for (kind, _), item in model.objects.items() if kind in {"Service", "EndpointSlice"}]
    assert len(imported) == 1 + derived
    for item in imported:
        assert normalize(item["kind"], item, "cluster.local") is None
