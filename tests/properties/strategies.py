"""Kubernetes objects for the properties, out of small pools: addresses collide, slices share endpoints, Services come
and go under the same names."""

import copy
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

from streams.objects.normalize import SERVICE_NAME_LABEL, TRIGGER_ANNOTATION

NAMESPACE = "shop"
SERVICES = ("cart", "pay", "web")
SLICES = ("s1", "s2", "s3")
KINDS = ("Service", "EndpointSlice", "Endpoints")

ADDRESSES = {
    "IPv4": ("10.0.0.1", "10.0.0.2", "10.0.0.3"),
    "IPv6": ("fd00::1", "fd00::2"),
    # The first is a valid DNS name too, and must not be taken for the IPv4 address.
    "FQDN": ("10.0.0.1", "a.example"),
}
_PODS = ("pod-1", "pod-2", "pod-3")
_HTTP = {"name": "http", "port": 8080, "protocol": "TCP"}
_GRPC = {"name": "grpc", "port": 9090, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"}
_PORTS = ([_HTTP], [_HTTP, _GRPC], [_GRPC, _HTTP], [], [{"name": "", "port": None}])

Object = dict[str, Any]

_flags = st.sampled_from((None, True, False))


def _without_none(found: Mapping[str, Any]) -> Object:
    return {key: value for key, value in found.items() if value is not None}


def versions(highest: int = 9) -> st.SearchStrategy[str]:
    """resourceVersions that often tie."""
    return st.integers(1, highest).map(str)


_pods = st.none() | st.sampled_from(_PODS)


def _target(pod: str | None) -> Object | None:
    return None if pod is None else {"kind": "Pod", "namespace": NAMESPACE, "name": pod, "uid": f"uid-{pod}"}


@st.composite
def slice_endpoints(draw: st.DrawFn, family: str) -> Object:
    """An endpoint of an EndpointSlice, with and without each optional field."""
    conditions = _without_none({name: draw(_flags) for name in ("ready", "serving", "terminating")})
    return _without_none(
        {
            "addresses": [draw(st.sampled_from(ADDRESSES[family]))],
            "conditions": conditions or None,
            "zone": draw(st.sampled_from((None, "z1", "z2"))),
            "nodeName": draw(st.sampled_from((None, "n1"))),
            "hints": draw(st.sampled_from((None, {"forZones": [{"name": "z1"}]}))),
            "targetRef": _target(draw(_pods)),
        }
    )


@st.composite
def endpoint_slices(
    draw: st.DrawFn,
    name: str = SLICES[0],
    service: str = SERVICES[0],
    families: tuple[str, ...] = ("IPv4", "IPv4", "IPv6", "FQDN"),
    version: str = "1",
) -> Object:
    """An EndpointSlice as an API server serves it. Ports are mostly one set, so that slices claim each other's."""
    family = draw(st.sampled_from(families))
    endpoints = draw(st.lists(slice_endpoints(family), max_size=4))
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{name}",
            "resourceVersion": version,
            "labels": {SERVICE_NAME_LABEL: service},
            **draw(st.sampled_from(({}, {"annotations": {TRIGGER_ANNOTATION: "2026-11-23T22:39:32Z"}}))),
        },
        "addressType": family,
        "ports": copy.deepcopy(draw(st.sampled_from(_PORTS[:1] * 3 + _PORTS))),
        "endpoints": endpoints if endpoints or draw(st.booleans()) else None,
    }


@st.composite
def legacy_endpoints(draw: st.DrawFn, service: str = SERVICES[0], version: str = "1") -> Object:
    """A legacy Endpoints object; subsets may repeat an address as ready and as not ready."""
    pool = ADDRESSES["IPv4"] + ADDRESSES["IPv6"]
    addresses = st.lists(
        st.builds(lambda ip, pod: _without_none({"ip": ip, "targetRef": _target(pod)}), st.sampled_from(pool), _pods),
        max_size=3,
    )
    subsets = draw(
        st.lists(
            st.fixed_dictionaries(
                {"addresses": addresses, "ports": st.sampled_from(_PORTS).map(copy.deepcopy)},
                optional={"notReadyAddresses": addresses},
            ),
            max_size=2,
        )
    )
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": service,
            "namespace": NAMESPACE,
            "uid": f"uid-endpoints-{service}",
            "resourceVersion": version,
        },
        "subsets": subsets,
    }


@st.composite
def services(draw: st.DrawFn, name: str = SERVICES[0], version: str = "1") -> Object:
    """A Service of any type, headless or not, with one family or two; sometimes made again under a new uid."""
    kind = draw(st.sampled_from((None, "ClusterIP", "NodePort", "LoadBalancer", "ExternalName")))
    spec: Object = {"type": kind} if kind else {}
    if kind == "ExternalName":
        spec["externalName"] = draw(st.sampled_from(("a.example", "b.example")))
    else:
        ips = draw(st.sampled_from((["10.96.0.1"], ["10.96.0.2", "fd00:96::2"], ["None"], None)))
        if ips:
            spec |= {"clusterIP": ips[0], "clusterIPs": ips}
    spec["ports"] = draw(
        st.sampled_from(([], [{"port": 80}], [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]))
    )
    if draw(st.booleans()):
        spec |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
    spec |= _without_none(
        {
            "selector": draw(st.sampled_from((None, {"app": name}))),
            "trafficDistribution": draw(st.sampled_from((None, "PreferClose"))),
            "internalTrafficPolicy": draw(st.sampled_from((None, "Cluster", "Local"))),
            "publishNotReadyAddresses": draw(_flags),
        }
    )
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{name}-{draw(st.integers(1, 2))}",
            "resourceVersion": version,
        },
        "spec": spec,
    }


def objects(kind: str, name: str, service: str, version: str) -> st.SearchStrategy[Object]:
    """An object of a kind."""
    if kind == "Service":
        return services(service, version)
    if kind == "Endpoints":
        return legacy_endpoints(service, version)
    return endpoint_slices(name, service, version=version)


_BREAKS: dict[str, tuple[tuple[tuple[str, ...], Any], ...]] = {
    "Service": (
        (("spec",), "no object"),
        (("spec", "type"), "Imaginary"),
        (("spec", "clusterIPs"), ["10.96.0.300"]),
        (("spec", "ports"), [{"port": 70000}]),
        (("spec", "ports"), [{"port": 80, "targetPort": 1.5}]),
        (("spec", "selector"), {"app": 1}),
        (("spec", "publishNotReadyAddresses"), "yes"),
    ),
    "EndpointSlice": (
        (("addressType",), "IPv5"),
        (("endpoints",), {}),
        (("endpoints",), [{"addresses": []}]),
        (("endpoints",), [{"addresses": ["::1%eth0"]}]),
        (("endpoints",), [{"addresses": ["10.0.0.1"], "conditions": {"ready": "true"}}]),
        (("ports",), [{"port": -1}]),
        (("ports",), ["http"]),
    ),
    "Endpoints": (
        (("subsets",), {}),
        (("subsets",), [None]),
        (("subsets",), [{"addresses": [{"ip": "localhost"}]}]),
        (("subsets",), [{"ports": [{"port": "80"}]}]),
    ),
}


def malformed(item: Object) -> st.SearchStrategy[Object]:
    """The object with one field broken; its name, namespace and version stay."""

    def broken(at: tuple[tuple[str, ...], Any]) -> Object:
        path, value = at
        out = copy.deepcopy(item)
        holder: Any = out
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = copy.deepcopy(value)
        return out

    return st.sampled_from(_BREAKS[item["kind"]]).map(broken)


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value."""
    leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(max_size=8)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
        max_leaves=8,
    )


@st.composite
def mutated(draw: st.DrawFn, item: Any) -> Any:
    """The document with one value somewhere in it replaced by any JSON, or dropped."""
    out = copy.deepcopy(item)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys: Any = node.keys() if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            walk(node[key])

    walk(out)
    if not places:
        return draw(json_values())
    holder, key = draw(st.sampled_from(places))
    if draw(st.booleans()):
        holder[key] = draw(json_values())
    else:
        del holder[key]
    return out
