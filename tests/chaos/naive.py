"""The plain union of slices, from the journal's commits: slow, simple, and without a line of the fold's code."""

from collections.abc import Iterator
from typing import Any

import orjson

Objects = dict[str, dict[tuple[str, str], dict[str, Any]]]
"""By Service, by (kind, name): what the object says."""

_USUAL = {
    "ready": True, "serving": True, "terminating": False, "zone": None, "node": None, "hints": None, "target": None,
}  # fmt: skip
"""What a patch leaves out of an endpoint."""


class Naive:
    """One partition's objects, of one cluster."""

    def __init__(self) -> None:
        self._epoch = 0
        self._writer = ""
        self._seq = 0
        self._objects: Objects = {}
        self._staged: Objects | None = None

    def step(self, commit: dict[str, Any]) -> list[str]:
        """Take a commit; the Services that it may have changed."""
        if commit["phase"] == "progress":
            return []
        if commit["phase"] == "begin" and commit["epoch"] > self._epoch:
            self._writer = commit["writer"]
        elif (commit["epoch"], commit["writer"]) != (self._epoch, self._writer) or commit["seq"] <= self._seq:
            return []
        self._epoch, self._seq = commit["epoch"], commit["seq"]
        if commit["phase"] == "begin":
            self._staged = {}
            return []
        into = self._objects if self._staged is None else self._staged
        touched = {self._apply(into, commit["cluster"], event) for event in commit.get("events", [])}
        if commit["phase"] == "end" and self._staged is not None:
            touched = set(self._objects) | set(self._staged)
            self._objects, self._staged = self._staged, None
        return sorted(touched) if self._staged is None else []

    @staticmethod
    def _apply(into: Objects, cluster: str, event: dict[str, Any]) -> str:
        key = f"{cluster}/{event.get('serviceNamespace') or event['namespace']}/{event['service']}"
        objects = into.setdefault(key, {})
        if event["op"] == "delete":
            objects.pop((event["kind"], event["name"]), None)
        elif event["op"] == "apply":
            objects[event["kind"], event["name"]] = event["object"]
        elif event["op"] == "patch":
            (group,) = objects[event["kind"], event["name"]]["groups"]
            added = [_USUAL | endpoint for endpoint in event["object"].get("endpoints", ())]
            named = {*event["object"].get("removed", ()), *(each["address"] for each in added)}
            kept = [endpoint for endpoint in group["endpoints"] if endpoint["address"] not in named]
            objects[event["kind"], event["name"]] = {"groups": [{**group, "endpoints": kept + added}]}
        return key

    def differs(self, key: str, row: bytes | None) -> Iterator[str]:
        """How a backend row differs from the union of the Service's slices."""
        objects = self._objects.get(key, {})
        service = next((body for (kind, _), body in objects.items() if kind == "Service"), None)
        exists = service is not None
        slices = [body for (kind, _), body in objects.items() if kind == "EndpointSlice"]
        legacy = [body for (kind, _), body in objects.items() if kind == "Endpoints"]
        claims: dict[str, list[dict[str, Any]]] = {}
        for body in (slices or legacy) if service and service["type"] != "ExternalName" else []:
            for group in body["groups"]:
                for endpoint in group["endpoints"]:
                    for claim in _claims(group, endpoint):
                        claims.setdefault(claim, []).append(endpoint)
        if row is None:
            if exists:
                yield "there is a Service, but no row"
            return
        held = orjson.loads(row)
        if (held["state"] == "deleted") == exists:
            yield f"the Service {'exists' if exists else 'is gone'}, and the row's state is {held['state']}"
        found: dict[str, dict[str, Any]] = {}
        for group in held["groups"]:
            for endpoint in group["endpoints"]:
                for claim in _claims(group, endpoint):
                    if claim in found:
                        yield f"{claim} is in it twice"
                    found[claim] = endpoint
        for claim in claims.keys() - found.keys():
            yield f"{claim} is in a slice, but not in the row"
        for claim in found.keys() - claims.keys():
            yield f"{claim} is in no slice"
        for claim in claims.keys() & found.keys():
            if found[claim] not in claims[claim]:
                yield f"{claim} is {found[claim]}, the slices say {claims[claim]}"


def _claims(group: dict[str, Any], endpoint: dict[str, Any]) -> list[str]:
    """What there is only one winner for."""
    address = f"{group['family']} {endpoint['address']}"
    return [f"{address} {port['name']} {port['protocol']} {port['port']}" for port in group["ports"]] or [address]
