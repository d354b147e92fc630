"""`facets fold`: every way to give it objects, and the recordings folded both as a stream and as a list."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from streams.cli.past.fold import fold_command
from streams.local.demo_server import load, recordings
from tests.support.endpoints import Claim, Endpoint, by_port
from tests.support.recordings import final_objects

VOLATILE = ("version", "previous", "asOf", "cause", "change")

SERVICE = {
    "kind": "Service",
    "metadata": {"name": "cart", "namespace": "shop", "uid": "u1", "resourceVersion": "5"},
    "spec": {
        "type": "ClusterIP",
        "clusterIP": "10.96.0.7",
        "clusterIPs": ["10.96.0.7"],
        "selector": {"app": "cart"},
        "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP", "appProtocol": "http"}],
    },
}
SLICE = {
    "kind": "EndpointSlice",
    "metadata": {
        "name": "cart-x7k2p",
        "namespace": "shop",
        "uid": "u2",
        "resourceVersion": "7",
        "labels": {"kubernetes.io/service-name": "cart"},
    },
    "addressType": "IPv4",
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}],
    "endpoints": [
        {
            "addresses": ["10.1.2.3"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "zone": "z1",
            "nodeName": "n1",
            "hints": {"forZones": [{"name": "z1"}]},
            "targetRef": {"kind": "Pod", "namespace": "shop", "name": "cart-5d9", "uid": "p1"},
        }
    ],
}
ENDPOINT = {
    "address": "10.1.2.3",
    "family": "IPv4",
    "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "http"}],
    "ready": True,
    "serving": True,
    "terminating": False,
    "zone": "z1",
    "node": "n1",
    "hints": {"zones": ["z1"]},
    "target": {"kind": "Pod", "namespace": "shop", "name": "cart-5d9", "uid": "p1"},
    "slice": "cart-x7k2p",
}


def fold(text: str, *options: str, exit_code: int = 0) -> Any:
    result = CliRunner().invoke(fold_command, list(options), input=text)
    assert (result.exit_code if exit_code == 0 else bool(result.exit_code)) == bool(exit_code), result.output
    if "--changes" in options:
        return [json.loads(line) for line in result.stdout.splitlines()]
    return json.loads(result.stdout)


def event(kind: str, item: dict[str, Any]) -> str:
    return json.dumps({"type": kind, "object": item})


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"kind": "List", "items": [SERVICE, SLICE]}, indent=2),
        json.dumps({"kind": "List", "items": [SLICE, SERVICE]}),
        json.dumps(SERVICE) + "\n" + json.dumps(SLICE),
        event("ADDED", SLICE) + "\n\n" + event("ADDED", SERVICE) + "\n",
    ],
)
def test_one_service_in_every_form_of_input(text: str) -> None:
    tables = fold(text)
    routing = tables["routing"]["shop/cart"]
    assert routing["gateway"] == routing["mesh"]
    assert (routing["state"], routing["mesh"]["decision"], routing["mesh"]["reason"]) == (
        "ready",
        "endpoint",
        "Default",
    )
    frontend = tables["frontend"]["shop/cart"]
    assert {name: frontend[name] for name in ("cluster", "state", "type", "clusterIPs", "dnsName", "headless")} == {
        "cluster": "local",
        "state": "ready",
        "type": "ClusterIP",
        "clusterIPs": ["10.96.0.7"],
        "dnsName": "cart.shop.svc.cluster.local",
        "headless": False,
    }
    assert frontend["ports"] == [
        {"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http", "targetPort": "web"}
    ]
    backend = tables["backend"]["shop/cart"]
    assert (backend["state"], backend["endpoints"]) == ("ready", [ENDPOINT])


def test_changes_are_printed_as_they_are_made() -> None:
    gone = {**SLICE, "metadata": {**SLICE["metadata"], "resourceVersion": "9"}}
    text = "\n".join(
        [event("ADDED", SERVICE), event("ADDED", SLICE), event("DELETED", gone), event("DELETED", SERVICE)]
    )
    rows = [row for row in fold(text, "--changes") if "endpoints" in row]
    assert [(row["state"], row["reason"]) for row in rows] == [
        ("empty", "NoEndpointSlices"),
        ("ready", ""),
        ("empty", "NoEndpointSlices"),
        ("deleted", "ServiceNotFound"),
    ]
    assert [row["previous"] for row in rows] == [None, *[row["version"] for row in rows[:-1]]]
    assert rows[1]["change"] == {"added": [ENDPOINT], "removed": [], "updated": []}
    assert rows[2]["change"] == {"added": [], "removed": [ENDPOINT], "updated": []}
    assert rows[1]["cause"] == [{"kind": "EndpointSlice", "name": "cart-x7k2p", "uid": "u2", "resourceVersion": "7"}]


EXPORT = {
    "apiVersion": "multicluster.x-k8s.io/v1alpha1",
    "kind": "ServiceExport",
    "metadata": {
        "name": "cart", "namespace": "shop", "uid": "u3", "resourceVersion": "8",
        "creationTimestamp": "2026-11-24T12:00:00Z",
    },
}  # fmt: skip


def moved(item: dict[str, Any], address: str, version: str = "7") -> dict[str, Any]:
    """The slice with another address."""
    meta = {**item["metadata"], "resourceVersion": version}
    return {**item, "metadata": meta, "endpoints": [{**item["endpoints"][0], "addresses": [address]}]}


def test_what_several_clusters_export_is_one_set(tmp_path: Path) -> None:
    named = {"apiVersion": "about.k8s.io/v1beta1", "kind": "ClusterProperty"}
    named |= {"metadata": {"name": "cluster.clusterset.k8s.io", "uid": "u4"}, "spec": {"value": "eu-1"}}
    files = {
        "east": [SERVICE, SLICE, EXPORT, named],
        "west": [SERVICE, moved(SLICE, "10.2.2.3"), EXPORT],
        "north": [SERVICE, moved(SLICE, "10.3.2.3")],
    }
    options = []
    for name, items in files.items():
        (tmp_path / name).write_text(json.dumps({"kind": "List", "items": items}))
        options += ["--cluster", f"{name}={tmp_path / name}"]
    tables = fold("", *options)
    row = tables["clusterset"]["shop/cart"]
    assert [(each["cluster"], each["address"]) for each in row["endpoints"]] == [
        ("east", "10.1.2.3"), ("west", "10.2.2.3"),
    ]  # fmt: skip
    assert [each["id"] for each in row["exports"]] == ["eu-1", "west"]
    assert list(tables["backend"]) == ["east/shop/cart", "north/shop/cart", "west/shop/cart"]
    assert "10.3.2.3" not in json.dumps(tables["clusterset"])


def test_a_change_of_an_exported_services_endpoints_is_one_of_its_set() -> None:
    text = json.dumps({"kind": "List", "items": [SERVICE, SLICE, EXPORT]})
    text += event("MODIFIED", moved(SLICE, "10.1.2.4", "9")) + event("DELETED", EXPORT)
    rows = [row for row in fold(text, "--changes", "--cluster", "east") if row["table"] == "clusterset"]
    assert [[each["address"] for each in row["endpoints"]] for row in rows] == [["10.1.2.3"], ["10.1.2.4"], []]
    assert [row["previous"] for row in rows] == [None, rows[0]["version"], rows[1]["version"]]
    assert [row["cause"][0]["kind"] for row in rows] == ["ServiceExport", "EndpointSlice", "ServiceExport"]
    assert fold(text)["clusterset"] == {}


def test_services_that_are_gone_are_left_out() -> None:
    assert fold(event("ADDED", SERVICE) + "\n" + event("DELETED", SERVICE))["frontend"] == {}
    assert fold(json.dumps(SLICE))["backend"] == {}


def test_a_bad_object_and_a_bad_line_stop_nothing() -> None:
    bad = {**SLICE, "metadata": {**SLICE["metadata"], "name": "other"}, "addressType": "IPX"}
    tables = fold("\n".join([json.dumps(SERVICE), json.dumps(bad), json.dumps(SLICE)]))
    assert tables["backend"]["shop/cart"]["endpoints"] == [ENDPOINT]
    assert tables["backend"]["shop/cart"]["rejected"][0]["name"] == "other"
    tables = fold("\n".join(["{nonsense", json.dumps(SERVICE), json.dumps(SLICE)]), exit_code=65)
    assert tables["backend"]["shop/cart"]["endpoints"] == [ENDPOINT]


def settled(tables: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    return {
        table: {key: {name: value for name, value in row.items() if name not in VOLATILE} for key, row in rows.items()}
        for table, rows in tables.items()
    }


def stream(recording: Path) -> Iterator[str]:
    for each in load(recording).events():
        yield json.dumps(each)


@pytest.mark.parametrize("recording", recordings(), ids=lambda path: path.name.partition(".")[0])
def test_a_recording_as_a_stream_ends_as_its_final_list(recording: Path) -> None:
    streamed = fold("\n".join(stream(recording)))
    listed = fold(json.dumps(final_objects(load(recording))))
    assert settled(streamed) == settled(listed)
    assert len(listed["frontend"]) > 10


@pytest.mark.parametrize("recording", recordings(), ids=lambda path: path.name.partition(".")[0])
def test_the_change_of_every_row_leads_from_the_last_set_to_the_next(recording: Path) -> None:
    held: dict[str, dict[Claim, Endpoint]] = {}
    count = 0
    for row in fold("\n".join(stream(recording)), "--changes"):
        if "endpoints" not in row:
            continue
        before = held.setdefault(row["name"] + "." + row["namespace"], {})
        change = {name: by_port(endpoints) for name, endpoints in row["change"].items()}
        for claim, endpoint in change["removed"].items():
            assert before.pop(claim) == endpoint
        assert change["added"].keys().isdisjoint(before)
        before |= change["added"]
        for claim, endpoint in change["updated"].items():
            assert before[claim] != endpoint
            before[claim] = endpoint
        assert before == by_port(row["endpoints"])
        count += 1
    assert count > 100
