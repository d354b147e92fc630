"""ServiceExports on a real API server: the CRD, with as much of a schema as a server needs."""

import time
from collections.abc import Mapping
from typing import Any

from tests.support.controlplane.api import ApiError

GROUP, VERSION = "multicluster.x-k8s.io", "v1beta1"
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
_DEADLINE = 60
_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": f"serviceexports.{GROUP}",
        # The group is of Kubernetes' own namespace of names: without this the server doesn't take it.
        "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
    },
    "spec": {
        "group": GROUP,
        "scope": "Namespaced",
        "names": {"kind": "ServiceExport", "listKind": "ServiceExportList", "plural": "serviceexports",
                  "singular": "serviceexport"},
        "versions": [
            {
                "name": VERSION,
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}  # fmt: skip


def install(api: Any) -> None:
    """Install the CRD; returns when ServiceExports are served."""
    api.post(_CRDS, _CRD)
    deadline = time.monotonic() + _DEADLINE
    while True:
        try:
            api.get(f"/apis/{GROUP}/{VERSION}/serviceexports")
        except ApiError:
            assert time.monotonic() < deadline, "ServiceExports are not served"
            time.sleep(0.1)
        else:
            return


def export(api: Any, namespace: str, name: str, annotations: Mapping[str, str] | None = None) -> None:
    """Export a Service."""
    metadata = {"name": name, "annotations": dict(annotations or {})}
    item = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "ServiceExport", "metadata": metadata}
    api.post(f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/serviceexports", item)
