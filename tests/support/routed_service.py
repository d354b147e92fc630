"""A Service as routes name it."""

from typing import Any

from tests.support.routes import (
    Object,
)


def service(name: str = "cart", in_namespace: str = "shop", **spec: Any) -> Object:
    base = {"type": "ClusterIP", "clusterIP": "10.96.0.7", "ports": [{"name": "http", "port": 80}]}
    meta = {"name": name, "namespace": in_namespace, "uid": f"uid-{name}"}
    return {"kind": "Service", "metadata": meta, "spec": {**base, **spec}}
