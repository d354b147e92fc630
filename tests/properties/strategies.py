"""Kubernetes objects for the properties, out of small pools: addresses collide, slices share endpoints, Services come
and go under the same names."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

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
_HOSTNAMES = (None, None, "web-0", "web-1")
_HTTP = {"name": "http", "port": 8080, "protocol": "TCP"}
_GRPC = {"name": "grpc", "port": 9090, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"}
_PORTS = ([_HTTP], [_HTTP, _GRPC], [_GRPC, _HTTP], [], [{"name": "", "port": None}])

Object = dict[str, Any]
_T = TypeVar("_T")

_FLAGS = (None, True, False)
_POD_NAMES = (None, *_PODS)


def _without_none(found: Mapping[str, Any]) -> Object:
    return {key: value for key, value in found.items() if value is not None}


def versions(highest: int = 9) -> st.SearchStrategy[str]:
    """resourceVersions that often tie."""
    return st.integers(1, highest).map(str)


def combinations(make: Callable[..., _T], *choices: Sequence[Any]) -> st.SearchStrategy[_T]:
    """What is made of one of each of the choices; all that they are is one draw, which is what drawing costs."""

    def made(number: int) -> _T:
        chosen = []
        for options in choices:
            number, at = divmod(number, len(options))
            chosen.append(options[at])
        return make(*chosen)

    return st.integers(0, math.prod(map(len, choices)) - 1).map(made)


def _target(pod: str | None) -> Object | None:
    return None if pod is None else {"kind": "Pod", "namespace": NAMESPACE, "name": pod, "uid": f"uid-{pod}"}


def _endpoint(
    address: str,
    ready: bool | None,
    serving: bool | None,
    terminating: bool | None,
    zone: str | None,
    node: str | None,
    hinted: bool,
    pod: str | None,
    hostname: str | None,
) -> Object:
    conditions = _without_none({"ready": ready, "serving": serving, "terminating": terminating})
    return _without_none(
        {
            "addresses": [address],
            "conditions": conditions or None,
            "zone": zone,
            "nodeName": node,
            "hints": {"forZones": [{"name": "z1"}]} if hinted else None,
            "targetRef": _target(pod),
            "hostname": hostname,
        }
    )


def _endpoints(addresses: Sequence[str]) -> st.SearchStrategy[list[Object]]:
    """Of an EndpointSlice, with and without each optional field."""
    zones, nodes, flags = (None, "z1", "z2"), (None, "n1"), (_FLAGS, _FLAGS, _FLAGS)
    one = combinations(_endpoint, addresses, *flags, zones, nodes, (False, True), _POD_NAMES, _HOSTNAMES)
    return st.lists(one, max_size=4)


_ENDPOINTS = {family: _endpoints(addresses) for family, addresses in ADDRESSES.items()}


_SLICE_ADDRESSES = ("IPv4", "IPv4", "IPv6", "FQDN")
_slice_fields = combinations(
    lambda ports, triggered, is_null: (copy.deepcopy(ports), triggered, is_null),
    _PORTS[:2] * 2 + _PORTS,
    (False, True),
    (False, True),
)


@st.composite
def endpoint_slices(
    draw: st.DrawFn,
    name: str = SLICES[0],
    service: str = SERVICES[0],
    families: tuple[str, ...] = _SLICE_ADDRESSES,
    version: str = "1",
) -> Object:
    """An EndpointSlice as an API server serves it. Ports are mostly one set, so that slices claim each other's."""
    family = draw(st.sampled_from(families))
    endpoints = draw(_ENDPOINTS[family])
    ports, is_triggered, is_null = draw(_slice_fields)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "uid": f"uid-{name}",
            "resourceVersion": version,
            "labels": {SERVICE_NAME_LABEL: service},
            **({"annotations": {TRIGGER_ANNOTATION: "2026-11-23T22:39:32Z"}} if is_triggered else {}),
        },
        "addressType": family,
        "ports": ports,
        "endpoints": None if is_null and not endpoints else endpoints,
    }


_legacy_addresses = st.lists(
    combinations(
        lambda ip, pod, hostname: _without_none({"ip": ip, "targetRef": _target(pod), "hostname": hostname}),
        ADDRESSES["IPv4"] + ADDRESSES["IPv6"],
        _POD_NAMES,
        _HOSTNAMES,
    ),
    max_size=3,
)
_subsets = st.lists(
    st.fixed_dictionaries(
        {"addresses": _legacy_addresses, "ports": st.sampled_from(_PORTS).map(copy.deepcopy)},
        optional={"notReadyAddresses": _legacy_addresses},
    ),
    max_size=2,
)


@st.composite
def legacy_endpoints(draw: st.DrawFn, service: str = SERVICES[0], version: str = "1") -> Object:
    """A legacy Endpoints object; subsets may repeat an address as ready and as not ready."""
    subsets = draw(_subsets)
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


def _service_spec(
    kind: str | None,
    ips: list[str] | None,
    external_name: str,
    ports: list[Object],
    is_sticky: bool,
    is_selecting: bool,
    distribution: str | None,
    policy: str | None,
    publishes: bool | None,
) -> Object:
    spec: Object = {"type": kind} if kind else {}
    if kind == "ExternalName":
        spec["externalName"] = external_name
    elif ips:
        spec |= {"clusterIP": ips[0], "clusterIPs": ips}
    spec["ports"] = copy.deepcopy(ports)
    if is_sticky:
        spec |= {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
    return spec | _without_none(
        {
            "selector": {} if is_selecting else None,
            "trafficDistribution": distribution,
            "internalTrafficPolicy": policy,
            "publishNotReadyAddresses": publishes,
        }
    )


_services = combinations(
    lambda uid, *spec: (uid, _service_spec(*spec)),
    (1, 2),
    (None, "ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
    (["10.96.0.1"], ["10.96.0.2", "fd00:96::2"], ["None"], None),
    ("a.example", "b.example"),
    ([], [{"port": 80}], [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]),
    (False, True),
    (False, True),
    (None, "PreferClose"),
    (None, "Cluster", "Local"),
    _FLAGS,
)


@st.composite
def services(draw: st.DrawFn, name: str = SERVICES[0], version: str = "1") -> Object:
    """A Service of any type, headless or not, with one family or two; sometimes made again under a new uid."""
    uid, spec = draw(_services)
    if "selector" in spec:
        spec["selector"] = {"app": name}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}-{uid}", "resourceVersion": version},
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
        (("endpoints",), [{"addresses": ["10.0.0.1"], "hostname": "web.0"}]),
        (("ports",), [{"port": -1}]),
        (("ports",), ["http"]),
    ),
    "Endpoints": (
        (("subsets",), {}),
        (("subsets",), [None]),
        (("subsets",), [{"addresses": [{"ip": "localhost"}]}]),
        (("subsets",), [{"addresses": [{"ip": "10.0.0.1", "hostname": "Web-0"}]}]),
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
