"""Normalizes Kubernetes objects, as an API server serves them, to what the facets use.

An absent field gets the meaning that the API documents for its absence (v1 Service,
discovery.k8s.io/v1 EndpointSlice, v1 Endpoints): nil ready is true, nil serving is the value of ready, nil
terminating is false. Malformed fields raise `MalformedObject`, which names the field; but an endpoint or a cluster IP
that can't be read is left out alone, and named.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Annotated, Any, NamedTuple

import orjson
from msgspec import Meta, Struct, ValidationError, convert
from msgspec.json import encode as _encode

from streams.objects import fields, slice_v1beta1
from streams.objects.fields import Json, MalformedObject, Metadata, family_of
from streams.objects.multicluster import IMPORTED_BY
from streams.wire.records import Hints, SliceEndpoint, Target

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"
HEADLESS_MARK = "None"

_SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_FAMILIES = ("IPv4", "IPv6", "FQDN")
_MAX_ENDPOINTS = 20_000
_DEFAULT_AFFINITY_SECONDS = 10800
_MOST_NAMED = 3
_CLUSTER_SCOPED = frozenset({"Node", "Namespace", "PersistentVolume"})
_ERROR_PLACE = re.compile(r"(.*) - at `\$(.*)`", re.DOTALL)

_Text = Annotated[str, Meta(max_length=fields.MAX_TEXT)] | None


class _Conditions(Struct, gc=False):
    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Named(Struct, gc=False):
    name: str


class _Hints(Struct, gc=False, rename="camel"):
    for_zones: list[_Named] | None = None
    for_nodes: list[_Named] | None = None


class _Reference(Struct, gc=False):
    kind: _Text = None
    namespace: _Text = None
    name: _Text = None
    uid: _Text = None


class _Endpoint(Struct, gc=False, rename="camel"):
    """The fields of an EndpointSlice's endpoint that are used; all are optional in the API."""

    addresses: list[Any] | None = None
    conditions: _Conditions | None = None
    hints: _Hints | None = None
    zone: _Text = None
    node_name: _Text = None
    target_ref: _Reference | None = None
    hostname: _Text = None


_NO_CONDITIONS = _Conditions()


class Normalized(NamedTuple):
    """An object as the journal carries it. `service` is the Service that it affects; `body` canonical JSON; `message`
    names what was left out of it because it can't be read ("": nothing)."""

    kind: str
    namespace: str
    name: str
    service: str
    uid: str
    resource_version: str
    trigger: str
    body: bytes
    message: str = ""


def normalize(kind: str, item: Any, cluster_domain: str) -> Normalized | None:
    """The normalized object, or None for one that affects no Service of the cluster: a slice without the label, and
    what was imported from other clusters, which would come back as the cluster's own.

    Raises MalformedObject.
    """
    meta = fields.identify(item)
    labels = fields.mapping(item["metadata"].get("labels"), "metadata.labels")
    if IMPORTED_BY in labels:
        return None
    annotations = fields.mapping(item["metadata"].get("annotations"), "metadata.annotations")
    service, trigger = meta.name, ""
    if kind != "Service":
        trigger = annotations.get(TRIGGER_ANNOTATION, "")
        if kind == "EndpointSlice":
            service = labels.get(SERVICE_NAME_LABEL, "")
            if service == "":
                return None
            if not fields.is_name(service):
                raise MalformedObject(f"metadata.labels[{SERVICE_NAME_LABEL}]: {service!r} is not a Service's name")
    if not isinstance(trigger, str):
        raise MalformedObject(f"metadata.annotations[{TRIGGER_ANNOTATION}]: {trigger!r} is not a string")
    left_out: list[str] = []
    body = orjson.dumps(_CONTENTS[kind](item, meta, cluster_domain, left_out))
    message = _joined(left_out)
    return Normalized(kind, meta.namespace, meta.name, service, meta.uid, meta.resource_version, trigger, body, message)


def _joined(left_out: list[str]) -> str:
    more = len(left_out) - _MOST_NAMED
    return "; ".join([*left_out[:_MOST_NAMED], *([f"and {more} more"] if more > 0 else [])])


# ---- Service -------------------------------------------------------------------------------------------


def _service(item: Json, meta: Metadata, cluster_domain: str, left_out: list[str]) -> dict[str, Any]:
    spec = fields.mapping(item.get("spec"), "spec")
    kind = fields.one_of(spec.get("type"), "spec.type", _SERVICE_TYPES, "ClusterIP")
    assigned = _assigned_ips(spec)
    headless = HEADLESS_MARK in assigned
    addresses = [] if headless or kind == "ExternalName" else _cluster_ips(assigned, left_out)
    affinity = fields.one_of(spec.get("sessionAffinity"), "spec.sessionAffinity", ("None", "ClientIP"), "None")
    families = [
        fields.one_of(family, f"spec.ipFamilies[{i}]", ("IPv4", "IPv6"))
        for i, family in enumerate(fields.array(spec.get("ipFamilies"), "spec.ipFamilies"))
    ]
    text: Callable[[str], str | None] = lambda field: fields.optional_text(spec.get(field), f"spec.{field}")  # noqa: E731
    return {
        "uid": meta.uid,
        "type": kind,
        "clusterIPs": addresses,
        "ipFamilies": families or list(dict.fromkeys(map(family_of, addresses))),
        "dnsName": f"{meta.name}.{meta.namespace}.svc.{cluster_domain}",
        "externalName": text("externalName"),
        "headless": headless,
        "ports": [_service_port(i, port) for i, port in enumerate(fields.array(spec.get("ports"), "spec.ports"))],
        "selector": _selector(spec) or None,
        "sessionAffinity": affinity,
        "sessionAffinityTimeoutSeconds": _affinity_seconds(spec) if affinity == "ClientIP" else None,
        "trafficDistribution": text("trafficDistribution"),
        "internalTrafficPolicy": text("internalTrafficPolicy"),
        "externalTrafficPolicy": text("externalTrafficPolicy"),
        "publishNotReadyAddresses": fields.flag(
            spec.get("publishNotReadyAddresses"), "spec.publishNotReadyAddresses", False
        ),
    }


def _assigned_ips(spec: Json) -> list[Any]:
    """`clusterIPs`; `clusterIP` where an old API server serves only that."""
    first = fields.optional_text(spec.get("clusterIP"), "spec.clusterIP")
    return fields.array(spec.get("clusterIPs"), "spec.clusterIPs") or ([first] if first else [])


def _cluster_ips(assigned: list[Any], left_out: list[str]) -> list[str]:
    addresses = []
    for i, address in enumerate(assigned):
        try:
            if address:
                addresses.append(fields.ip(address, f"spec.clusterIPs[{i}]"))
        except MalformedObject as error:
            left_out.append(str(error))
    return list(dict.fromkeys(addresses))


def _affinity_seconds(spec: Json) -> int:
    config = fields.mapping(spec.get("sessionAffinityConfig"), "spec.sessionAffinityConfig")
    client_ip = fields.mapping(config.get("clientIP"), "spec.sessionAffinityConfig.clientIP")
    at = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
    return fields.integer(client_ip.get("timeoutSeconds"), at, _DEFAULT_AFFINITY_SECONDS)


def _selector(spec: Json) -> Json:
    selector = fields.mapping(spec.get("selector"), "spec.selector")
    for key, value in selector.items():
        if not isinstance(value, str):
            raise MalformedObject(f"spec.selector[{key}]: {value!r:.80} is not a string")
    return selector


def _service_port(index: int, port: Any) -> dict[str, Any]:
    at = f"spec.ports[{index}]"
    if not isinstance(port, dict):
        raise MalformedObject(f"{at}: {port!r:.80} is not an object")
    number = fields.port(port.get("port"), f"{at}.port")
    target = port.get("targetPort")
    if target is None or target in (0, ""):
        target = number
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise MalformedObject(f"{at}.targetPort: {target!r:.80} is neither a number nor a name")
    return {**_port_names(port, at), "port": number, "targetPort": target}


def _port_names(port: Json, at: str) -> dict[str, Any]:
    return {
        "name": fields.text(port.get("name"), f"{at}.name", ""),
        "port": None,
        "protocol": fields.optional_text(port.get("protocol"), f"{at}.protocol") or "TCP",
        "appProtocol": fields.optional_text(port.get("appProtocol"), f"{at}.appProtocol"),
    }


# ---- EndpointSlice and Endpoints -----------------------------------------------------------------------


def _slice(item: Json, meta: Metadata, _: str, left_out: list[str]) -> dict[str, Any]:
    family = fields.one_of(item.get("addressType"), "addressType", _FAMILIES)
    served = fields.array(item.get("endpoints"), "endpoints")
    if item.get("apiVersion") == slice_v1beta1.API_VERSION:
        served = [slice_v1beta1.as_v1(endpoint) for endpoint in served]
    endpoints = sorted(_slice_endpoints(served, family, meta.namespace, left_out))
    ports = [_endpoint_port(port, f"ports[{i}]") for i, port in enumerate(fields.array(item.get("ports"), "ports"))]
    _check_size(endpoints)
    return {"groups": [{"family": family, "ports": ports, "endpoints": list(map(orjson.Fragment, endpoints))}]}


def _slice_endpoints(served: list[Any], family: str, namespace: str, left_out: list[str]) -> Iterator[bytes]:
    """The endpoints of a slice as JSON, read and checked in one pass: most of an initial list's time is spent here."""
    for i, endpoint in _converted(served, left_out):
        try:
            if not endpoint.addresses:
                raise MalformedObject(f"endpoints[{i}].addresses: is empty")
            address = fields.address(endpoint.addresses[0], f"endpoints[{i}].addresses[0]", family)
            hostname = fields.optional_label(endpoint.hostname, f"endpoints[{i}].hostname")
        except MalformedObject as error:
            left_out.append(str(error))
            continue
        conditions, target = endpoint.conditions or _NO_CONDITIONS, endpoint.target_ref
        ready = conditions.ready is not False
        yield _encode(
            SliceEndpoint(
                address,
                ready,
                ready if conditions.serving is None else conditions.serving,
                bool(conditions.terminating),
                endpoint.zone or None,
                endpoint.node_name or None,
                _hints(endpoint.hints),
                _target(target, namespace) if target else None,
                hostname,
            )
        )


def _converted(served: list[Any], left_out: list[str]) -> Iterable[tuple[int, _Endpoint]]:
    """The endpoints that have the API's types, with their places."""
    try:
        return enumerate(convert(served, list[_Endpoint]))
    except ValidationError:
        endpoints = []
    for i, endpoint in enumerate(served):
        try:
            endpoints.append((i, convert(endpoint, _Endpoint)))
        except ValidationError as error:
            left_out.append(_placed(str(error), f"endpoints[{i}]"))
    return endpoints


def _hints(hints: _Hints | None) -> Hints | None:
    if hints is None:
        return None
    zones = [zone.name for zone in hints.for_zones or ()]
    nodes = [node.name for node in hints.for_nodes or ()]
    return Hints(zones, nodes) if zones or nodes else None


def _target(target: _Reference, namespace: str) -> Target:
    """A reference to a Pod without a namespace means the object's own; a Node has none."""
    kind = target.kind or ""
    return Target(
        kind,
        "" if kind in _CLUSTER_SCOPED else target.namespace or namespace,
        target.name or "",
        target.uid or "",
    )


def _placed(text: str, holder: str) -> str:
    """msgspec's error with the place first, as in all other messages."""
    match = _ERROR_PLACE.fullmatch(text)
    return f"{holder}{match[2]}: {match[1]}" if match else f"{holder}: {text}"


def _endpoints(item: Json, meta: Metadata, _: str, left_out: list[str]) -> dict[str, Any]:
    """Legacy Endpoints (v1): one group for each subset and family; not-ready addresses neither ready nor serving."""
    groups = []
    for i, subset in enumerate(fields.objects(item.get("subsets"), "subsets")):
        at = f"subsets[{i}]"
        ports = [
            _endpoint_port(port, f"{at}.ports[{j}]")
            for j, port in enumerate(fields.array(subset.get("ports"), f"{at}.ports"))
        ]
        by_family: dict[str, list[SliceEndpoint]] = {}
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for j, address in enumerate(fields.array(subset.get(field), f"{at}.{field}")):
                try:
                    endpoint = _legacy_endpoint(address, f"{at}.{field}[{j}]", ready, meta.namespace)
                except MalformedObject as error:
                    left_out.append(str(error))
                    continue
                by_family.setdefault(family_of(endpoint.address), []).append(endpoint)
        for family, endpoints in sorted(by_family.items()):
            _check_size(endpoints)
            # A set has no order, so equal sets must have equal bytes.
            ordered = list(map(orjson.Fragment, sorted(map(_encode, endpoints))))
            groups.append({"family": family, "ports": ports, "endpoints": ordered})
    return {"groups": groups}


def _legacy_endpoint(address: Any, at: str, ready: bool, namespace: str) -> SliceEndpoint:
    if not isinstance(address, dict):
        raise MalformedObject(f"{at}: {address!r:.80} is not an object")
    try:
        reference = convert(address.get("targetRef"), _Reference | None)
    except ValidationError as error:
        raise MalformedObject(_placed(str(error), f"{at}.targetRef")) from None
    return SliceEndpoint(
        fields.ip(address.get("ip"), f"{at}.ip"),
        ready,
        ready,
        False,
        None,
        fields.optional_text(address.get("nodeName"), f"{at}.nodeName"),
        None,
        _target(reference, namespace) if reference else None,
        fields.optional_label(address.get("hostname"), f"{at}.hostname"),
    )


def _endpoint_port(port: Any, at: str) -> dict[str, Any]:
    if not isinstance(port, dict):
        raise MalformedObject(f"{at}: {port!r:.80} is not an object")
    return {**_port_names(port, at), "port": fields.optional_port(port.get("port"), f"{at}.port")}


def _check_size(endpoints: Sized) -> None:
    if len(endpoints) > _MAX_ENDPOINTS:
        raise MalformedObject(f"endpoints: {len(endpoints)} of them, more than {_MAX_ENDPOINTS}")


_CONTENTS: dict[str, Callable[[Json, Metadata, str, list[str]], dict[str, Any]]] = {
    "Service": _service,
    "EndpointSlice": _slice,
    "Endpoints": _endpoints,
}
