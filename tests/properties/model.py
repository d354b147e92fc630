"""The merge of slices as a naive model, written from the documented rules alone, and a row's `change` applied.

- one winner for each (family, address, port name, protocol, port number); one without ports claims its address alone;
- the same Pod (uid) in two slices: the newer resourceVersion wins (endpoints without a Pod count as one Pod);
- different Pods: a serving, non-terminating one wins, then the newer;
- an ExternalName has no endpoints;
- legacy Endpoints count only while there is no slice.
"""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from tests.properties.strategies import NAMESPACE, Object
from tests.support.endpoints import Claim, Endpoint, by_port

Members = dict[Claim, Endpoint]
"""By identity, an endpoint with the one port of it (or none, where it has none)."""


def _claims(item: Object) -> list[Endpoint]:
    """All endpoints that one object names, as the commands print them."""
    if item["kind"] == "EndpointSlice":
        label, ports = item["metadata"]["name"], _ports(item.get("ports"))
        return [
            {**_of_slice(endpoint), "family": item["addressType"], "ports": ports, "slice": label}
            for endpoint in item.get("endpoints") or ()
        ]
    label = f"Endpoints/{item['metadata']['name']}"
    claims = []
    for subset in item.get("subsets") or ():
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(field) or ():
                family = "IPv6" if ":" in address["ip"] else "IPv4"
                shared = {"family": family, "ports": _ports(subset.get("ports")), "slice": label}
                claims.append({**_of_endpoints(address, ready), **shared})
    # Of one subset and family that names an endpoint twice in the same words, one is no news.
    return [claim for i, claim in enumerate(claims) if claim not in claims[:i]]


def _ports(ports: Sequence[Object] | None) -> list[dict[str, Any]]:
    return [
        {
            "name": port.get("name") or "",
            "port": port.get("port"),
            "protocol": port.get("protocol") or "TCP",
            "appProtocol": port.get("appProtocol") or None,
        }
        for port in ports or ()
    ]


def _of_slice(endpoint: Object) -> Endpoint:
    conditions, hints = endpoint.get("conditions") or {}, endpoint.get("hints") or {}
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    named = {"zones": hints.get("forZones"), "nodes": hints.get("forNodes")}
    shown = {field: [each["name"] for each in values] for field, values in named.items() if values}
    return {
        "address": _canonical(endpoint["addresses"][0]),
        "ready": ready,
        "serving": ready if serving is None else serving,
        "terminating": bool(conditions.get("terminating")),
        "zone": endpoint.get("zone") or None,
        "node": endpoint.get("nodeName") or None,
        "hints": shown or None,
        "target": _target(endpoint.get("targetRef")),
        **_hostname(endpoint),
    }


def _of_endpoints(address: Object, ready: bool) -> Endpoint:
    return {
        "address": _canonical(address["ip"]),
        "ready": ready,
        "serving": ready,
        "terminating": False,
        "zone": None,
        "node": address.get("nodeName") or None,
        "hints": None,
        "target": _target(address.get("targetRef")),
        **_hostname(address),
    }


def _hostname(named: Object) -> dict[str, str]:
    return {"hostname": named["hostname"]} if named.get("hostname") else {}


def _target(reference: Object | None) -> dict[str, str] | None:
    if reference is None:
        return None
    fields = {field: reference.get(field) or "" for field in ("kind", "namespace", "name", "uid")}
    return {**fields, "namespace": fields["namespace"] or NAMESPACE}


def _canonical(address: str) -> str:
    try:
        return str(ip_address(address))
    except ValueError:  # A DNS name.
        return address


def winners(slices: Sequence[Object], legacy: Object | None) -> dict[Claim, list[Endpoint]]:
    """For each port of an address in the merged set, what may be said of it: more than one only where the rules leave a
    tie."""
    sources = list(slices) or ([legacy] if legacy else [])
    rivals: dict[Claim, list[tuple[int, Endpoint]]] = {}
    for item in sources:
        for endpoint in _claims(item):
            for identity, member in by_port([endpoint]).items():
                rivals.setdefault(identity, []).append((int(item["metadata"]["resourceVersion"]), member))
    return {identity: _best(claims) for identity, claims in rivals.items()}


def _best(claims: list[tuple[int, Endpoint]]) -> list[Endpoint]:
    by_pod: dict[str, list[tuple[int, Endpoint]]] = {}
    for version, endpoint in claims:
        by_pod.setdefault((endpoint["target"] or {}).get("uid", ""), []).append((version, endpoint))
    newest = []
    for same_pod in by_pod.values():
        top = max(version for version, _ in same_pod)
        newest += [each for each in same_pod if each[0] == top]
    live = [each for each in newest if each[1]["serving"] and not each[1]["terminating"]] or newest
    top = max(version for version, _ in live)
    return [endpoint for version, endpoint in live if version == top]


def apply_change(change: Mapping[str, Sequence[Endpoint]], before: Members) -> Members:
    """The set after a row, from the set before it and the row's `change` alone."""
    after = dict(before)
    for identity, endpoint in by_port(change["removed"]).items():
        assert after.pop(identity) == endpoint, "removed, but was not there"
    for identity, endpoint in by_port(change["updated"]).items():
        assert after[identity] != endpoint, "updated, but is as it was"
        after[identity] = endpoint
    for identity, endpoint in by_port(change["added"]).items():
        assert identity not in after, "added, but was there"
        after[identity] = endpoint
    return after
