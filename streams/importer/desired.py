"""What of a set a cluster shall have: KEP-1645's ServiceImport, and EndpointSlices with the endpoints of each cluster.

The fields are those of mcs-api v1beta1 and discovery.k8s.io/v1. A set is as `subscription/set_rows` joins it.
"""

from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any

from streams.importer.names import (
    API_VERSION,
    CLUSTERS,
    K8S_SERVICE_NAME,
    MANAGED_BY,
    MANAGED_BY_VALUE,
    OWN_LABELS,
    RESERVED,
    SERVICE_NAME,
    SOURCE_CLUSTER,
    Json,
    derived_service_name,
    is_label,
    is_qualified,
    joined,
    label_value,
    slice_name,
)

MAX_ENDPOINTS = 100
"""In a slice, as Kubernetes' own controller has it (kube-controller-manager --max-endpoints-per-slice)."""

_DUAL_STACK = 2


def exists(row: Json | None) -> bool:
    """Whether there is something to import: some export is valid."""
    return row is not None and row.get("type") is not None


def counted(row: Json) -> list[Json]:
    """The exports whose clusters' endpoints are in the set."""
    return [export for export in row["exports"] if export["counted"]]


def service_import(row: Json, ips: Sequence[str], ip_families: Sequence[str], also: Iterable[str] = ()) -> Json:
    """The ServiceImport of a set. `ips` are those that a derived Service has, of the `ip_families`; `also` are clusters
    that the set may be of, beside those of the row."""
    spec: Json = {
        "type": row["type"],
        "ports": [_port(port) for port in row["ports"]],
        "ipFamilies": list(ip_families),
        **_service_properties(row),
    }
    if ips:
        spec["ips"] = list(ips)
    exporting = {export["cluster"] for export in row["exports"]}.union(also)
    return {
        "apiVersion": API_VERSION,
        "kind": "ServiceImport",
        "metadata": {
            "name": row["name"],
            "namespace": row["namespace"],
            "labels": {**_exported_labels(row), **OWN_LABELS},
            "annotations": {**_exported_annotations(row), CLUSTERS: joined(exporting)},
        },
        "spec": {field: value for field, value in spec.items() if value not in (None, [])} | {"ports": spec["ports"]},
    }


def derived_service(row: Json, ip_families: Sequence[str], owner: Json) -> Json:
    """The Service without selector that has the ClusterSetIP in a cluster: kube-proxy routes it to the slices."""
    name, namespace = row["name"], row["namespace"]
    spec = {
        "type": "ClusterIP",
        "ports": [_port(port) for port in row["ports"]],
        "ipFamilyPolicy": "PreferDualStack" if len(row["ipFamilies"]) == _DUAL_STACK else "SingleStack",
        "ipFamilies": list(ip_families),
        **_service_properties(row),
    }
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": derived_service_name(namespace, name),
            "namespace": namespace,
            "labels": {SERVICE_NAME: name, **OWN_LABELS},
            "annotations": {CLUSTERS: joined(export["cluster"] for export in row["exports"])},
            "ownerReferences": [owner],
        },
        "spec": {field: value for field, value in spec.items() if value not in (None, [])},
    }


def owner_reference(service: str, uid: str) -> Json:
    """The ServiceImport as the owner of what follows from it."""
    return {"apiVersion": API_VERSION, "kind": "ServiceImport", "name": service, "uid": uid}


def slices(row: Json, cluster: str, owner: Json, *, derived: bool) -> dict[str, Json]:
    """The EndpointSlices of a set in a cluster, by name. With `derived` they are the derived Service's, too.

    Each has endpoints of one cluster, address family and slice of that cluster, with the same ports: so a change of a
    slice there changes one here. More than fit are spread by a hash of their address, so that one which comes or goes
    moves none of the others until a slice is full.
    """
    ids = {export["cluster"]: export["id"] for export in row["exports"]}
    made: dict[str, Json] = {}
    by_source: dict[tuple[str, str, str], dict[Any, list[Json]]] = {}
    for endpoint in row["endpoints"]:
        origin = endpoint["cluster"], endpoint["family"], endpoint["slice"]
        ports = tuple(tuple(sorted(_slice_port(port).items())) for port in endpoint["ports"])
        by_source.setdefault(origin, {}).setdefault(tuple(sorted(ports, key=repr)), []).append(endpoint)
    for (source, family, of_slice), groups in sorted(by_source.items()):
        # Those with all of the slice's ports keep their slice's name when its ports change.
        for number, (ports, endpoints) in enumerate(sorted(groups.items(), key=lambda it: (-len(it[0]), repr(it[0])))):
            part = repr(ports) if number else ""
            for prefix, some in _spread(endpoints):
                name = slice_name(row["name"], ids[source], family, of_slice, part, prefix)
                made[name] = {
                    "apiVersion": "discovery.k8s.io/v1",
                    "kind": "EndpointSlice",
                    "metadata": _slice_metadata(row, name, source, ids[source], owner, derived=derived),
                    "addressType": family,
                    "ports": [dict(port) for port in ports],
                    "endpoints": [_endpoint(each, is_own=source == cluster) for each in some],
                }
    return made


def _slice_metadata(row: Json, name: str, source: str, source_id: str, owner: Json, *, derived: bool) -> Json:
    labels = {
        SERVICE_NAME: row["name"],
        SOURCE_CLUSTER: label_value(source_id),
        MANAGED_BY: MANAGED_BY_VALUE,
        **OWN_LABELS,
    }
    if derived:
        labels[K8S_SERVICE_NAME] = derived_service_name(row["namespace"], row["name"])
    return {
        "name": name,
        "namespace": row["namespace"],
        "labels": labels,
        "annotations": {CLUSTERS: source},
        "ownerReferences": [owner],
    }


def _spread(endpoints: Sequence[Json], prefix: str = "") -> Iterator[tuple[str, Sequence[Json]]]:
    """The endpoints in groups that fit into a slice, each with the bits that its addresses' hashes begin with."""
    if len(endpoints) <= MAX_ENDPOINTS:
        yield prefix, endpoints
        return
    halves: dict[str, list[Json]] = {"0": [], "1": []}
    for endpoint in endpoints:
        bits = int.from_bytes(sha256(endpoint["address"].encode()).digest(), "big")
        halves[str(bits >> (255 - len(prefix)) & 1)].append(endpoint)
    for bit, half in halves.items():
        if half:
            yield from _spread(half, prefix + bit)


def _endpoint(endpoint: Json, *, is_own: bool) -> Json:
    """An endpoint of a slice. Nodes and Pods are those of one cluster, and so are hints, which its controller computes
    from its zones: elsewhere they would mean others."""
    found: Json = {
        "addresses": [endpoint["address"]],
        "conditions": {name: endpoint[name] for name in ("ready", "serving", "terminating")},
    }
    if "hostname" in endpoint:
        found["hostname"] = endpoint["hostname"]
    if endpoint["zone"]:
        found["zone"] = endpoint["zone"]
    if not is_own:
        return found
    if endpoint["node"]:
        found["nodeName"] = endpoint["node"]
    hints = {
        field: [{"name": name} for name in names]
        for field, names in (
            ("forZones", (endpoint["hints"] or {}).get("zones")),
            ("forNodes", (endpoint["hints"] or {}).get("nodes")),
        )
        if names
    }
    if hints:
        found["hints"] = hints
    if endpoint["target"]:
        found["targetRef"] = {field: value for field, value in endpoint["target"].items() if value}
    return found


def _service_properties(row: Json) -> Json:
    """What a ServiceImport and a Service have alike; session affinity is nothing to a headless one (v1beta1)."""
    affinity = row["sessionAffinity"] if row["type"] != "Headless" else "None"
    timeout = row["sessionAffinityTimeoutSeconds"]
    config = {"clientIP": {"timeoutSeconds": timeout}} if affinity == "ClientIP" and timeout is not None else None
    return {
        "sessionAffinity": affinity,
        "sessionAffinityConfig": config,
        "internalTrafficPolicy": row["internalTrafficPolicy"],
        "trafficDistribution": row["trafficDistribution"],
    }


def _port(port: Json) -> Json:
    named = {field: port[field] for field in ("name", "appProtocol") if port[field]}
    return {**named, "port": port["port"], "protocol": port["protocol"]}


def _slice_port(port: Json) -> Json:
    """An EndpointSlice's port; without a number it stands for all (discovery/v1)."""
    optional = {field: port[field] for field in ("port", "appProtocol") if port[field] is not None}
    return {"name": port["name"], "protocol": port["protocol"], **optional}


def _exported_labels(row: Json) -> dict[str, str]:
    """Without those that no API server takes: a ServiceExport may have any, and they would stop the whole import."""
    return {key: value for key, value in row["labels"].items() if is_label(key, value) and not _is_reserved(key)}


def _exported_annotations(row: Json) -> dict[str, str]:
    return {key: value for key, value in row["annotations"].items() if is_qualified(key) and not _is_reserved(key)}


def _is_reserved(key: str) -> bool:
    return key.startswith(RESERVED)
