"""Gateway API objects for tests, as an API server serves them (namespace `shop` where none is named)."""

from collections.abc import Iterable, Sequence
from typing import Any

GROUP = "gateway.networking.k8s.io"
MULTICLUSTER = "multicluster.x-k8s.io"
Object = dict[str, Any]


def named(kind: str, name: str, spec: Object, *, namespace: str = "shop", group: str = GROUP, **meta: Any) -> Object:
    """An object of the Gateway API."""
    version = "v1alpha1" if group != GROUP else "v1"
    metadata = {"name": name, "namespace": namespace, "uid": f"uid-{kind}-{namespace}-{name}", **meta}
    return {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": metadata, "spec": spec}


def gateway(name: str = "edge", *listeners: Object, allowed: Object | None = None, **more: Any) -> Object:
    """A Gateway; without listeners named it has one for HTTP, for routes of its own namespace. `allowed` are the
    namespaces whose ListenerSets it takes."""
    spec: Object = {"gatewayClassName": "any", "listeners": list(listeners) or [listener("http")]}
    if allowed is not None:
        spec["allowedListeners"] = {"namespaces": allowed}
    return named("Gateway", name, spec, **more)


def listener(name: str, port: int = 80, protocol: str = "HTTP", **more: Any) -> Object:
    """A listener of a Gateway or ListenerSet."""
    return {"name": name, "port": port, "protocol": protocol, **more}


def listener_set(name: str, parent: str, *listeners: Object, **more: Any) -> Object:
    """A ListenerSet of a Gateway of its own namespace."""
    parent_ref = {"group": GROUP, "kind": "Gateway", "name": parent}
    return named("ListenerSet", name, {"parentRef": parent_ref, "listeners": list(listeners)}, **more)


def route(
    name: str, parents: Iterable[Object], rules: Sequence[Object], kind: str = "HTTPRoute", **more: Any
) -> Object:
    """A route of any kind."""
    return named(kind, name, {"parentRefs": list(parents), "rules": list(rules)}, **more)


def to_gateway(name: str = "edge", **more: Any) -> Object:
    """A parentRef to a Gateway."""
    return {"group": GROUP, "kind": "Gateway", "name": name, **more}


def to_listener_set(name: str, **more: Any) -> Object:
    """A parentRef to a ListenerSet."""
    return {"group": GROUP, "kind": "ListenerSet", "name": name, **more}


def to_service(name: str = "cart", **more: Any) -> Object:
    """A parentRef to a Service (GAMMA)."""
    return {"group": "", "kind": "Service", "name": name, **more}


def to_import(name: str = "cart", **more: Any) -> Object:
    """A parentRef to a ServiceImport (GEP-1748), or a backendRef."""
    return {"group": MULTICLUSTER, "kind": "ServiceImport", "name": name, **more}


def rule(*backends: str | Object, persistence: Object | None = None, path: str = "/", **more: Any) -> Object:
    """A rule to Services, given by name (port 80) or as backendRefs."""
    listed = [{"name": each, "port": 80} if isinstance(each, str) else each for each in backends]
    asked = {"sessionPersistence": persistence} if persistence else {}
    return {"matches": [{"path": {"type": "PathPrefix", "value": path}}], "backendRefs": listed, **asked, **more}


def by_cookie(name: str, **more: Any) -> Object:
    """Session persistence by a cookie."""
    return {"type": "Cookie", "sessionName": name, **more}


def policy(name: str, *services: str | Object, persistence: Object | None, **more: Any) -> Object:
    """An XBackendTrafficPolicy of these Services, or targetRefs."""
    targets = [to_service(each) if isinstance(each, str) else each for each in services]
    asked = {"sessionPersistence": persistence} if persistence else {}
    spec = {"targetRefs": targets, **asked}
    return named("XBackendTrafficPolicy", name, spec, group="gateway.networking.x-k8s.io", **more)


def backend_tls_policy(
    name: str, service: str, *, section: str = "", certificates: list[Object] | None = None, **more: Any
) -> Object:
    """A BackendTLSPolicy of a Service, or of its port of this name."""
    target = {"group": "", "kind": "Service", "name": service, **({"sectionName": section} if section else {})}
    refs = certificates or [{"group": "", "kind": "ConfigMap", "name": "ca"}]
    validation = {"hostname": f"{service}.example.com", "caCertificateRefs": refs}
    return named("BackendTLSPolicy", name, {"targetRefs": [target], "validation": validation}, **more)


def grant(
    name: str, sources: Iterable[tuple[str, str]], services: Iterable[str] = (), *, imports: bool = False, **more: Any
) -> Object:
    """A ReferenceGrant: routes (kind, namespace) may name these Services, or ServiceImports (all, if none is named)."""
    target = {"group": MULTICLUSTER, "kind": "ServiceImport"} if imports else {"group": "", "kind": "Service"}
    spec = {
        "from": [{"group": GROUP, "kind": kind, "namespace": namespace} for kind, namespace in sources],
        "to": [{**target, "name": each} for each in services] or [target],
    }
    return named("ReferenceGrant", name, spec, **more)


def namespace(name: str, labels: Object | None = None, **annotations: str) -> Object:
    """A Namespace; `gateway` and `mesh` are its operator's choices."""
    meta = {"name": name, "uid": f"uid-{name}", "labels": labels or {}, "annotations": choices(**annotations)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}


def annotated(item: Object, **annotations: str) -> Object:
    """The object with its operator's choices: `gateway`, `mesh`."""
    return {**item, "metadata": {**item["metadata"], "annotations": choices(**annotations)}}


def choices(**annotations: str) -> dict[str, str]:
    """The annotations that say so."""
    return {f"service-facets.io/{way}-routing": said for way, said in annotations.items()}
