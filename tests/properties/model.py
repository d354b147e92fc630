"""The merge of slices as a naive model, written from the documented rules alone, and a row's `change` applied.

- the same Pod (uid) in two slices: the newer resourceVersion wins (endpoints without a Pod count as one Pod);
- different Pods with one address and ports: a serving, non-terminating one wins, then the newer;
- the same address with other ports: two endpoints;
- legacy Endpoints count only while there is no slice.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from streams.objects.normalize import normalize
from tests.properties.strategies import Object

Endpoint = dict[str, Any]
Identity = tuple[str, str, str]
Members = dict[Identity, Endpoint]


def identity_of(endpoint: Endpoint) -> Identity:
    """Family, address and ports in any order."""
    ports = sorted(json.dumps(port, sort_keys=True) for port in endpoint["ports"])
    return endpoint["family"], endpoint["address"], ";".join(ports)


def _claims(item: Object) -> list[Endpoint]:
    """All endpoints that one object names, as the commands print them."""
    normalized = normalize(item["kind"], item, "cluster.local")
    assert normalized is not None
    label = item["metadata"]["name"] if item["kind"] == "EndpointSlice" else f"Endpoints/{item['metadata']['name']}"
    return [
        {**endpoint, "family": group["family"], "ports": group["ports"], "slice": label}
        for group in orjson.loads(normalized.body)["groups"]
        for endpoint in group["endpoints"]
    ]


def winners(slices: Sequence[Object], legacy: Object | None) -> dict[Identity, list[Endpoint]]:
    """For each endpoint of the merged set, what may be said of it: more than one only where the rules leave a tie."""
    sources = list(slices) or ([legacy] if legacy else [])
    rivals: dict[Identity, list[tuple[int, Endpoint]]] = {}
    for item in sources:
        for endpoint in _claims(item):
            rivals.setdefault(identity_of(endpoint), []).append((int(item["metadata"]["resourceVersion"]), endpoint))
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
    for endpoint in change["removed"]:
        assert after.pop(identity_of(endpoint)) == endpoint, "removed, but was not there"
    for endpoint in change["updated"]:
        assert after[identity_of(endpoint)] != endpoint, "updated, but is as it was"
        after[identity_of(endpoint)] = endpoint
    for endpoint in change["added"]:
        assert identity_of(endpoint) not in after, "added, but was there"
        after[identity_of(endpoint)] = endpoint
    return after
