"""Converts endpoints of discovery.k8s.io/v1beta1, which API servers served until Kubernetes 1.24, to those of v1.

A watcher asks for v1, so this is about dumps. `topology` became `zone` and, where there is no `nodeName` (a field since
1.20), `nodeName`. (kubernetes pkg/apis/discovery/v1beta1/conversion.go)
"""

from typing import Any

API_VERSION = "discovery.k8s.io/v1beta1"

_ZONE = "topology.kubernetes.io/zone"
_NODE = "kubernetes.io/hostname"


def as_v1(endpoint: Any) -> Any:
    """The endpoint as v1 has it. What is no endpoint is returned as it is."""
    topology = endpoint.get("topology") if isinstance(endpoint, dict) else None
    if not isinstance(topology, dict):
        return endpoint
    return {
        **endpoint,
        "zone": endpoint.get("zone") or topology.get(_ZONE),
        "nodeName": endpoint.get("nodeName") or topology.get(_NODE),
    }
