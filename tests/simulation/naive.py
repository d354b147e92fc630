"""What the rows must say, recomputed from the API server's history alone, in the plainest way (README's guarantee 2).

Nothing here comes from the code under test. An object that can't be read counts as what was last known of it: which
of its versions that is depends on what the watcher happened to see, so all that are possible are kept.
"""

from collections import Counter
from typing import Any, NamedTuple

import orjson

from tests.simulation.world import LABEL, NAMESPACE, ODD_ADDRESS, ApiServer, Object, is_bad

FRONTIERS = {
    "Service": "services",
    "EndpointSlice": "endpointslices.discovery.k8s.io",
    "Endpoints": "endpoints",
    "Namespace": "namespaces",
    "Gateway": "gateways.gateway.networking.k8s.io",
    "ReferenceGrant": "referencegrants.gateway.networking.k8s.io",
    "HTTPRoute": "httproutes.gateway.networking.k8s.io",
    "GRPCRoute": "grpcroutes.gateway.networking.k8s.io",
    "ServiceExport": "serviceexports.multicluster.x-k8s.io",
    "ClusterProperty": "clusterproperties.about.k8s.io",
    "XBackendTrafficPolicy": "xbackendtrafficpolicies.gateway.networking.x-k8s.io",
}

Revisions = dict[str, int]


def revisions(frontier: dict[str, str]) -> Revisions:
    """A frontier's revisions by kind, of those that are followed."""
    return {kind: int(frontier[name]) for kind, name in FRONTIERS.items() if name in frontier}


class Known(NamedTuple):
    """An object that bears on a Service: as it is now, and as what it may count (None: as nothing)."""

    kind: str
    name: str
    now: Object
    possible: tuple[Object | None, ...]


def bearing_on(server: ApiServer, service: str, at: Revisions) -> list[tuple[str, str, Object]]:
    """The objects that decide a Service's endpoints, at these revisions."""
    found = [("Service", service, server.get("Service", service, at["Service"]))]
    found += [
        ("EndpointSlice", name, item)
        for name in sorted(server.history["EndpointSlice"])
        if (item := server.get("EndpointSlice", name, at["EndpointSlice"])) is not None
        and item["metadata"].get("labels", {}).get(LABEL) == service
    ]
    found.append(("Endpoints", service, server.get("Endpoints", service, at["Endpoints"])))
    return [(kind, name, item) for kind, name, item in found if item is not None]


def itself(server: ApiServer, service: str, at: Revisions) -> list[tuple[str, str, Object]]:
    """The Service alone, at its revision."""
    item = server.get("Service", service, at["Service"])
    return [] if item is None else [("Service", service, item)]


def known(
    server: ApiServer,
    objects: list[tuple[str, str, Object]],
    at: Revisions,
    before: Revisions,
    held: dict[Any, Any],
) -> list[Known]:
    """The objects, with what unreadable ones may count as. `held` is what they counted as at `before`."""
    out = []
    for kind, name, item in objects:
        possible: tuple[Object | None, ...] = (item,)
        if is_bad(item):
            since = server.versions(kind, name, before[kind], at[kind])
            possible = held.get((kind, name), (None,))
            possible += tuple(each for _, each in since if each is None or not is_bad(each))
        out.append(Known(kind, name, item, possible))
    return out


# ---- frontend ----------------------------------------------------------------------------------------


def frontend(service: Object) -> dict[str, Any]:
    """A Service's frontend, in the fields that a row has."""
    spec, meta = service["spec"], service["metadata"]
    kind = spec.get("type", "ClusterIP")
    headless = spec.get("clusterIP") == "None"
    return {
        "uid": meta["uid"],
        "type": kind,
        "clusterIPs": [] if headless or kind == "ExternalName" else spec["clusterIPs"],
        "dnsName": f"{meta['name']}.{NAMESPACE}.svc.cluster.local",
        "externalName": spec.get("externalName"),
        "headless": headless,
        "ports": [
            {
                "name": each["name"],
                "port": each["port"],
                "protocol": "TCP",
                "appProtocol": None,
                "targetPort": each["targetPort"],
            }
            for each in spec["ports"] or ()
        ],
        "selector": spec.get("selector"),
        "trafficDistribution": spec.get("trafficDistribution"),
    }


# ---- backend -----------------------------------------------------------------------------------------


def _ports(ports: list[Object]) -> list[Object]:
    return [
        {
            "name": each.get("name", ""),
            "port": each["port"],
            "protocol": each.get("protocol", "TCP"),
            "appProtocol": each.get("appProtocol"),
        }
        for each in ports
    ]


def _target(reference: Object | None) -> Object | None:
    if reference is None:
        return None
    return {
        "kind": reference["kind"],
        "namespace": reference.get("namespace", NAMESPACE),
        "name": reference["name"],
        "uid": reference["uid"],
    }


def _of_slice(item: Object) -> list[Object]:
    out = []
    for each in item["endpoints"]:
        if each["addresses"] == [ODD_ADDRESS]:
            continue
        says = each["conditions"]
        ready = says.get("ready", True)
        hints = [zone["name"] for zone in each.get("hints", {}).get("forZones", [])]
        out.append(
            {
                "address": each["addresses"][0],
                "family": item["addressType"],
                "ports": _ports(item["ports"]),
                "ready": ready,
                "serving": says.get("serving", ready),
                "terminating": says.get("terminating", False),
                "zone": each.get("zone"),
                "node": each.get("nodeName"),
                "hints": {"zones": hints} if hints else None,
                "target": _target(each.get("targetRef")),
                **({"hostname": each["hostname"]} if "hostname" in each else {}),
                "slice": item["metadata"]["name"],
            }
        )
    return out


def _of_legacy(item: Object) -> list[Object]:
    return [
        {
            "address": each["ip"],
            "family": "IPv4",
            "ports": _ports(subset["ports"]),
            "ready": ready,
            "serving": ready,
            "terminating": False,
            "zone": None,
            "node": None,
            "hints": None,
            "target": _target(each.get("targetRef")),
            "slice": f"Endpoints/{item['metadata']['name']}",
        }
        for subset in item["subsets"]
        for field, ready in (("addresses", True), ("notReadyAddresses", False))
        for each in subset[field]
    ]


Claim = tuple[Any, ...]


def by_claim(endpoints: list[Object]) -> list[tuple[Claim, Object]]:
    """What can be there only once - family, address, port name, protocol, port number, or the address alone where there
    are no ports - with the endpoint as this port of it."""
    return [
        (
            (each["family"], each["address"], *([port["name"], port["protocol"], port["port"]] if port else ())),
            {**each, "ports": [port] if port else []},
        )
        for each in endpoints
        for port in each["ports"] or [None]
    ]


def twice(endpoints: list[Object]) -> list[Claim]:
    """What is there more than once."""
    counts = Counter(claim for claim, _ in by_claim(endpoints))
    return [claim for claim, count in counts.items() if count > 1]


def union(slices: list[Object], legacy: Object | None) -> list[Object]:
    """The endpoint set of a Service's slices, each endpoint with the ports that it wins; legacy Endpoints count only
    where there is no slice."""
    said: list[tuple[int, Object]] = [
        (int(item["metadata"]["resourceVersion"]), endpoint)
        for item in slices or ([legacy] if legacy else [])
        for endpoint in (_of_slice(item) if slices else _of_legacy(item))
    ]
    rivals: dict[Claim, list[int]] = {}
    for number, (_, endpoint) in enumerate(said):
        for claim, _ in by_claim([endpoint]):
            rivals.setdefault(claim, []).append(number)
    winners = {claim: _winner(said, numbers) for claim, numbers in rivals.items()}
    out = []
    for number, (_, endpoint) in enumerate(said):
        own = [alone for claim, alone in by_claim([endpoint]) if winners[claim] == number]
        if own:
            out.append({**endpoint, "ports": [port for alone in own for port in alone["ports"]]})
    return out


def _winner(said: list[tuple[int, Object]], rivals: list[int]) -> int:
    """Which of them has the better claim: of the same Pod what is newer; of different ones what serves, then what is
    newer."""

    def lives(number: int) -> bool:
        return bool(said[number][1]["serving"]) and not said[number][1]["terminating"]

    newest: dict[str, int] = {}
    for number in rivals:
        target = said[number][1]["target"]
        pod = target["uid"] if target else ""
        # One object may say it twice (Endpoints have subsets): what serves, then what is first.
        if pod not in newest or (said[newest[pod]][0], lives(newest[pod])) < (said[number][0], lives(number)):
            newest[pod] = number
    return max(newest.values(), key=lambda number: (lives(number), said[number][0]))


def in_order(endpoints: list[Object]) -> list[Object]:
    """Endpoints in one order, to compare sets of them."""
    return sorted(endpoints, key=lambda each: orjson.dumps(each, option=orjson.OPT_SORT_KEYS))


def spread(groups: list[Object]) -> list[Object]:
    """Whole endpoints from the groups that a row holds on the wire."""
    return [
        {**endpoint, "family": group["family"], "ports": group["ports"], "slice": group["slice"]}
        for group in groups
        for endpoint in group["endpoints"]
    ]


def difference(old: list[Object], new: list[Object]) -> dict[str, list[Object]]:
    """What changed from one set to another, as a row's `change` says it, port by port."""
    before, after = dict(by_claim(old)), dict(by_claim(new))
    return {
        "added": in_order([each for key, each in after.items() if key not in before]),
        "removed": in_order([each for key, each in before.items() if key not in after]),
        "updated": in_order([each for key, each in after.items() if key in before and before[key] != each]),
    }
