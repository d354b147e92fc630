"""The whole spine on real parts: a control plane under churn, `facets watch`, Kafka, `facets work`, a subscriber.

At quiet points the tables must be what the API server itself lists, field by field. What they must be is worked out
here from the listed objects, by code that shares nothing with the fold.
"""

import asyncio
import signal
from typing import Any

from streams.kafka.admin import ensure
from streams.subscription.client import Subscriber
from streams.wire.records import TABLES
from tests.support.controlplane import ControlPlane, Workload
from tests.support.controlplane.demo_churn import populate, steps
from tests.support.endpoints import Claim, Endpoint, by_port
from tests.support.facets_processes import Facets, free_port

DEADLINE = 60
SERVICE_LABEL = "kubernetes.io/service-name"


def expected_frontend(service: dict[str, Any]) -> dict[str, Any]:
    spec, meta = service["spec"], service["metadata"]
    headless = spec.get("clusterIP") == "None"
    return {
        "uid": meta["uid"],
        "type": spec["type"],
        "clusterIPs": [] if headless or spec["type"] == "ExternalName" else spec["clusterIPs"],
        "dnsName": f"{meta['name']}.{meta['namespace']}.svc.cluster.local",
        "externalName": spec.get("externalName"),
        "headless": headless,
        "ports": [
            {
                "name": port.get("name", ""),
                "port": port["port"],
                "protocol": port["protocol"],
                "appProtocol": port.get("appProtocol"),
                "targetPort": port["targetPort"],
            }
            for port in spec.get("ports", [])
        ],
        "selector": spec.get("selector"),
        "sessionAffinity": spec["sessionAffinity"],
        "trafficDistribution": spec.get("trafficDistribution"),
        "internalTrafficPolicy": spec.get("internalTrafficPolicy"),
        "externalTrafficPolicy": spec.get("externalTrafficPolicy"),
        "publishNotReadyAddresses": spec.get("publishNotReadyAddresses", False),
    }


def expected_endpoints(
    service: dict[str, Any], slices: list[dict[str, Any]], legacy: dict[str, Any] | None
) -> dict[Claim, Endpoint]:
    """By port, what the newest of these slices (the last) says of it."""
    found: dict[Claim, Endpoint] = {}
    if service["spec"].get("type") == "ExternalName":
        return found
    for each in slices:
        ports = [_port(port) for port in each.get("ports") or []]
        for endpoint in each.get("endpoints") or []:
            conditions = endpoint.get("conditions") or {}
            ready = conditions.get("ready", True)
            hints = endpoint.get("hints") or {}
            shown = {
                "address": endpoint["addresses"][0],
                "family": each["addressType"],
                "ports": ports,
                "ready": ready,
                "serving": conditions.get("serving", ready),
                "terminating": conditions.get("terminating", False),
                "zone": endpoint.get("zone"),
                "node": endpoint.get("nodeName"),
                "hints": {"zones": [zone["name"] for zone in hints["forZones"]]} if hints.get("forZones") else None,
                "target": _target(endpoint.get("targetRef")),
                **({"hostname": endpoint["hostname"]} if endpoint.get("hostname") else {}),
                "slice": each["metadata"]["name"],
            }
            found |= by_port([shown])
    if not slices and legacy is not None:
        for subset in legacy.get("subsets") or []:
            for field, ready in (("addresses", True), ("notReadyAddresses", False)):
                for address in subset.get(field) or []:
                    shown = {
                        "address": address["ip"],
                        "family": "IPv6" if ":" in address["ip"] else "IPv4",
                        "ports": [_port(port) for port in subset.get("ports") or []],
                        "ready": ready,
                        "serving": ready,
                        "terminating": False,
                        "zone": None,
                        "node": address.get("nodeName"),
                        "hints": None,
                        "target": _target(address.get("targetRef")),
                        **({"hostname": address["hostname"]} if address.get("hostname") else {}),
                        "slice": f"Endpoints/{legacy['metadata']['name']}",
                    }
                    found |= by_port([shown])
    return found


def _port(port: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": port.get("name", ""),
        "port": port.get("port"),
        "protocol": port.get("protocol", "TCP"),
        "appProtocol": port.get("appProtocol"),
    }


def _target(reference: dict[str, Any] | None) -> dict[str, Any] | None:
    return reference and {field: reference.get(field, "") for field in ("kind", "namespace", "name", "uid")}


async def assert_tables_are_what_the_server_lists(plane: ControlPlane, facets: Facets) -> int:
    """Wait for the frontier of what is listed now, then compare all Services."""
    listed = {path: plane.api.get(path) for path in (
        "/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices", "/api/v1/endpoints",
    )}  # fmt: skip
    services, slices, legacy = (listed[path]["items"] for path in listed)
    async with asyncio.timeout(DEADLINE), Subscriber(facets.bootstrap, tables=TABLES) as subscriber:
        for resource, items in (
            ("services", services),
            ("endpointslices.discovery.k8s.io", slices),
            ("endpoints", legacy),
        ):
            newest = max((int(item["metadata"]["resourceVersion"]) for item in items), default=0)
            await subscriber.wait(str(newest), cluster=plane.name, resource=resource)
        rows = (await subscriber.snapshot()).rows
    tables: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
    for row in rows:
        tables[row.table][f"{row.namespace}/{row.name}"] = row.decode()
    wanted = {f"{each['metadata']['namespace']}/{each['metadata']['name']}": each for each in services}
    assert set(tables["frontend"]) == set(wanted)
    assert set(tables["backend"]) == set(wanted)
    for key, service in wanted.items():
        frontend = expected_frontend(service)
        assert {name: tables["frontend"][key][name] for name in frontend} == frontend, key
        namespace, name = key.split("/")
        mine = [
            each
            for each in slices
            if each["metadata"]["namespace"] == namespace
            and (each["metadata"].get("labels") or {}).get(SERVICE_LABEL) == name
        ]
        mine.sort(key=lambda each: int(each["metadata"]["resourceVersion"]))
        old = next(
            (each for each in legacy if f"{each['metadata']['namespace']}/{each['metadata']['name']}" == key), None
        )
        endpoints = expected_endpoints(service, mine, old)
        row = tables["backend"][key]
        assert by_port(row["endpoints"]) == endpoints, key
        assert row["state"] == ("ready" if endpoints else "empty"), key
    return len(wanted)


async def test_the_tables_are_what_the_api_server_lists_after_churn_and_kills(
    control_plane: ControlPlane, workload: Workload, facets: Facets
) -> None:
    port = free_port()
    watch = ("watch", "--kubeconfig", str(control_plane.kubeconfig), "--cluster", control_plane.name)
    work = ("work", "--http-port", port, "--instance", "e2e")
    ensure(facets.bootstrap)
    facets.start("work", *work)
    facets.start("watch", *watch)
    try:
        await asyncio.to_thread(populate, workload, dual_stack=True)
        assert await assert_tables_are_what_the_server_lists(control_plane, facets) > 10
        for number, act in enumerate(steps(workload)):
            await asyncio.to_thread(act)
            if number == 2:
                facets.end("work", signal.SIGKILL)
                facets.start("work", *work)
            if number == 5:
                facets.end("watch", signal.SIGKILL)
                facets.start("watch", *watch)
            if number == 8:
                await asyncio.to_thread(control_plane.compact)
        await assert_tables_are_what_the_server_lists(control_plane, facets)
    except BaseException:
        print(facets.logs())
        raise
    assert facets.end("watch", signal.SIGTERM) == 0
    assert facets.end("work", signal.SIGTERM) == 0
