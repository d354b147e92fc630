"""Journal records for tests of the fold."""

from collections.abc import Iterable
from typing import Any

import orjson

from streams.fold.fold import PartitionFold
from streams.fold.table import Write

FRONTIER = {"services": "9"}


def commit(phase: str, seq: int, *names: str, cluster: str = "east", epoch: int = 1) -> bytes:
    """A commit that applies Services with these names."""
    return orjson.dumps(
        {
            "cluster": cluster,
            "epoch": epoch,
            "writer": f"w{epoch}",
            "seq": seq,
            "at": f"2026-11-24T12:00:{seq:02d}.000Z",
            "phase": phase,
            "frontier": FRONTIER,
            "events": [service(name, seq) for name in names],
        }
    )


def service(name: str, version: int) -> dict[str, Any]:
    content = {
        "uid": f"u-{name}",
        "type": "ClusterIP",
        "clusterIPs": [f"10.96.0.{version}"],
        "ipFamilies": ["IPv4"],
        "dnsName": f"{name}.shop.svc.cluster.local",
        "externalName": None,
        "headless": False,
        "ports": [],
        "selector": None,
        "sessionAffinity": "None",
        "sessionAffinityTimeoutSeconds": None,
        "trafficDistribution": None,
        "internalTrafficPolicy": None,
        "externalTrafficPolicy": None,
        "publishNotReadyAddresses": False,
    }
    head = {"op": "apply", "kind": "Service", "namespace": "shop", "name": name, "service": name, "uid": f"u-{name}"}
    return {**head, "resourceVersion": str(version), "object": content}


def with_endpoints(value: bytes) -> bytes:
    """The commit with legacy Endpoints in place of its events."""
    endpoint = {
        "address": "10.1.0.7", "ready": True, "serving": True, "terminating": False, "zone": None, "node": None,
        "hints": None, "target": None,
    }  # fmt: skip
    legacy = {**service("cart", 4), "kind": "Endpoints"}
    legacy["object"] = {"groups": [{"family": "IPv4", "ports": [], "endpoints": [endpoint]}]}
    return orjson.dumps({**orjson.loads(value), "events": [legacy]})


def written(fold: PartitionFold, values: Iterable[bytes], start: int = 0) -> list[Write]:
    return [write for offset, value in enumerate(values, start) for write in fold.step(offset, value)]


TWO_CLUSTERS = [
    commit("begin", 1),
    commit("snapshot", 2, "cart"),
    commit("end", 3),
    commit("begin", 1, cluster="west"),
    commit("snapshot", 2, "cart", cluster="west"),
    commit("end", 3, cluster="west"),
]
