"""Holds the clusterset's rows against the API servers' objects: each cluster's contribution as of a frontier, and, once
all is through, the sets, by the oracle of `naive_clusterset`."""

from typing import Any

from tests.simulation import naive
from tests.simulation.world import LABEL, NAMESPACE, ApiServer, Object, is_bad, is_odd
from tests.support.naive_availability import decisions_in
from tests.support.naive_clusterset import ID_PROPERTY, NaiveCluster, naive_set


def contribution_problem(server: ApiServer, name: str, row: Any, at: naive.Revisions, stale: str) -> str:
    """What is wrong with a cluster's row ("": nothing). Where something that can't be read bears on it, only whether it
    says more than it may."""
    if "ServiceExport" not in at:
        return ""
    export = server.get("ServiceExport", name, at["ServiceExport"])
    if export is None:
        held = row and (row["export"], row["service"], row["groups"])
        return f"it is not exported, and has {held}" if row and held != (None, None, []) else ""
    service = server.get("Service", name, at["Service"])
    slices = [
        item
        for item in server.listed("EndpointSlice", at["EndpointSlice"])
        if item["metadata"].get("labels", {}).get(LABEL) == name
    ]
    held_id = server.get("ClusterProperty", ID_PROPERTY, at["ClusterProperty"])
    if any(is_bad(each) for each in (export, service, held_id, *slices)) or any(map(is_odd, slices)):
        return ""
    if row is None or row["export"] is None:
        return "it is exported, and has no row that says so"
    wanted = export["metadata"]["uid"], held_id["spec"]["value"] if held_id else ""
    if (has := (row["export"]["uid"], row["export"].get("clusterID", ""))) != wanted:
        return f"the export is {has}, it should be {wanted}"
    uid = service and service["metadata"]["uid"]
    if (row["service"] and row["service"]["uid"]) != uid:
        return f"the Service is {row['service']}, it should be {uid}"
    counts = service is not None and service["spec"].get("type") != "ExternalName"
    endpoints = naive.in_order(naive.union(slices, None)) if counts else []
    if (shown := naive.in_order(naive.spread(row["groups"]))) != endpoints:
        return f"the endpoints are {shown}, they should be {endpoints}"
    state = "stale" if stale else "ready" if endpoints else "empty"
    return "" if row["state"] == state else f"the state is {row['state']}, it should be {state}"


def set_problem(servers: dict[str, ApiServer], name: str, row: Any) -> str:
    """What is wrong with a set once everything is in ("": nothing, or something that can't be read bears on it)."""
    clusters = []
    for server in servers.values():
        items = {kind: server.listed(kind) for kind in ("Service", "ServiceExport", "ClusterProperty")}
        own = [item for kind in items for item in items[kind] if kind == "ClusterProperty" or _name(item)[1] == name]
        if any(map(is_bad, (*own, *items["Service"]))):
            return ""
        clusters.append(
            NaiveCluster(
                server.cluster,
                {_name(item): _plain(item) for item in items["Service"]},
                {},
                {_name(item): item for item in items["ServiceExport"]},
                {item["metadata"]["name"]: item for item in items["ClusterProperty"]},
            )
        )
    wanted = naive_set(clusters, (NAMESPACE, name))
    if wanted is None or row is None or row["state"] == "deleted":
        is_there = row is not None and row["state"] != "deleted"
        return "" if is_there == (wanted is not None) else f"the set is {row}, it should be {wanted}"
    # Who was dropped may have to wait for a while; that it is right is checked at each seal.
    dropped = {cluster for cluster, decision in decisions_in(row).items() if decision["action"] == "dropped"}
    exports = [
        (
            *(each[field] for field in ("cluster", "id", "created", "valid", "conflict")),
            each["counted"] or each["cluster"] in dropped,
        )
        for each in row["exports"]
    ]
    has = {**row, "exports": exports, "conflicts": [(each["reason"], each["clusterID"]) for each in row["conflicts"]]}
    for field, value in wanted.items():
        if has[field] != value:
            return f"{field} is {has[field]}, it should be {value}"
    return ""


def _name(item: Object) -> tuple[str, str]:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _plain(service: Object) -> Object:
    """A Service with the defaults that an API server fills in."""
    spec = service["spec"]
    ports = [
        {"name": each["name"], "port": each["port"], "protocol": "TCP", "appProtocol": None}
        for each in spec.get("ports") or ()
    ]
    families = ["IPv4"] if spec.get("clusterIP", "None") != "None" else []
    return {**service, "spec": {**spec, "ports": ports, "ipFamilies": families}}
