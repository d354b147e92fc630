"""From Kubernetes objects as an API server serves them to what a facet uses of them.

A field that is absent gets the meaning that the API documents for its absence (v1 Service,
discovery.k8s.io/v1 EndpointSlice, v1 Endpoints): nil ready is true, nil serving is the value of ready, nil
terminating is false. What can't be read raises `MalformedObject`, naming the field.
"""

import re
from collections.abc import Callable, Mapping, Sized
from ipaddress import ip_address
from typing import Annotated, Any, NamedTuple

import orjson
from msgspec import Meta, Struct, ValidationError, convert
from msgspec.json import encode as _encode

from streams.wire.name_syntax import KUBERNETES_NAME
from streams.wire.records import Hints, SliceEndpoint, Target
from streams.wire.validation import DNS_NAME, IPV4

SERVICE_NAME_LABEL = "kubernetes.io/service-name"
TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"
HEADLESS_MARK = "None"

_NAME = KUBERNETES_NAME.expression
_IPV4 = re.compile(IPV4)
_SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_FAMILIES = ("IPv4", "IPv6", "FQDN")
_MAX_ENDPOINTS = 20_000

Json = Mapping[str, Any]
_Text = Annotated[str, Meta(max_length=1024)] | None


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
    """An EndpointSlice's endpoint, as far as it is used, with what the API lets be absent."""

    addresses: list[Any]
    conditions: _Conditions | None = None
    hints: _Hints | None = None
    zone: _Text = None
    node_name: _Text = None
    target_ref: _Reference | None = None


_NO_CONDITIONS = _Conditions()


class MalformedObject(ValueError):
    """An object that breaks its API's schema; the text names the field and what stands in it."""


class Normalized(NamedTuple):
    """An object as the journal carries it. `service` is the Service that it bears on; `body` canonical JSON."""

    kind: str
    namespace: str
    name: str
    service: str
    uid: str
    resource_version: str
    trigger: str
    body: bytes


def normalize(kind: str, item: Any, cluster_domain: str) -> Normalized | None:
    """The normalized object, or None for one that bears on no Service (a slice without the label).

    Raises MalformedObject.
    """
    meta = identify(item)
    labels = _mapping(meta, "metadata.labels", "labels")
    annotations = _mapping(meta, "metadata.annotations", "annotations")
    name = meta["name"]
    namespace = meta["namespace"]
    service = name
    trigger = ""
    if kind != "Service":
        trigger = annotations.get(TRIGGER_ANNOTATION, "")
        if kind == "EndpointSlice":
            service = labels.get(SERVICE_NAME_LABEL, "")
            if service == "":
                return None
            if not isinstance(service, str) or not _NAME.fullmatch(service):
                raise MalformedObject(f"metadata.labels[{SERVICE_NAME_LABEL}]: {service!r} is not a Service's name")
    if not isinstance(trigger, str):
        raise MalformedObject(f"metadata.annotations[{TRIGGER_ANNOTATION}]: {trigger!r} is not a string")
    body = _BODIES[kind](item, namespace, name, cluster_domain)
    return Normalized(kind, namespace, name, service, meta["uid"], meta["resourceVersion"], trigger, orjson.dumps(body))


def identify(item: Any, namespaced: bool = True) -> Json:
    """The object's metadata, with name, namespace ("" for what has none), uid and resourceVersion in their place.
    Raises MalformedObject."""
    if not isinstance(item, dict):
        raise MalformedObject(f"{item!r:.80} is not a JSON object")
    meta = item.get("metadata")
    if not isinstance(meta, dict):
        raise MalformedObject("metadata: is missing")
    if not namespaced:
        meta["namespace"] = ""
    for field in ("name", "namespace") if namespaced else ("name",):
        value = meta.get(field)
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise MalformedObject(f"metadata.{field}: {value!r:.80} is not a name")
    for field in ("uid", "resourceVersion"):
        value = meta.setdefault(field, "")
        if not isinstance(value, str) or len(value) > 128:
            raise MalformedObject(f"metadata.{field}: {value!r:.80} is not a string of at most 128 characters")
    if not (meta["resourceVersion"] == "" or (meta["resourceVersion"].isascii() and meta["resourceVersion"].isdigit())):
        raise MalformedObject(f"metadata.resourceVersion: {meta['resourceVersion']!r} is not a decimal number")
    return meta


def _service(item: Json, namespace: str, name: str, cluster_domain: str) -> dict[str, Any]:
    spec = _mapping(item, "spec", "spec")
    meta = item["metadata"]
    kind = _one_of(spec, "spec.type", "type", _SERVICE_TYPES, "ClusterIP")
    cluster_ip = _text(spec, "spec.clusterIP", "clusterIP") or ""
    listed = _list(spec, "spec.clusterIPs", "clusterIPs") or ([cluster_ip] if cluster_ip else [])
    headless = HEADLESS_MARK in listed
    addresses = (
        [] if headless or kind == "ExternalName" else [_ip("spec.clusterIPs", value) for value in listed if value]
    )
    affinity = _one_of(spec, "spec.sessionAffinity", "sessionAffinity", ("None", "ClientIP"), "None")
    timeout = None
    if affinity == "ClientIP":
        config = _mapping(_mapping(spec, "spec.sessionAffinityConfig", "sessionAffinityConfig"), "clientIP", "clientIP")
        timeout = _integer(config, "spec.sessionAffinityConfig.clientIP.timeoutSeconds", "timeoutSeconds", 10800)
    selector = _mapping(spec, "spec.selector", "selector")
    for key, value in selector.items():
        if not isinstance(value, str):
            raise MalformedObject(f"spec.selector[{key}]: {value!r:.80} is not a string")
    families = [
        _in(f"spec.ipFamilies[{i}]", value, ("IPv4", "IPv6"))
        for i, value in enumerate(_list(spec, "spec.ipFamilies", "ipFamilies"))
    ] or list(dict.fromkeys(family_of(value) for value in addresses))
    return {
        "uid": meta["uid"],
        "type": kind,
        "clusterIPs": addresses,
        "ipFamilies": families,
        "dnsName": f"{name}.{namespace}.svc.{cluster_domain}",
        "externalName": _text(spec, "spec.externalName", "externalName"),
        "headless": headless,
        "ports": [_service_port(i, port) for i, port in enumerate(_list(spec, "spec.ports", "ports"))],
        "selector": selector or None,
        "sessionAffinity": affinity,
        "sessionAffinityTimeoutSeconds": timeout,
        "trafficDistribution": _text(spec, "spec.trafficDistribution", "trafficDistribution"),
        "internalTrafficPolicy": _text(spec, "spec.internalTrafficPolicy", "internalTrafficPolicy"),
        "externalTrafficPolicy": _text(spec, "spec.externalTrafficPolicy", "externalTrafficPolicy"),
        "publishNotReadyAddresses": _flag(spec, "spec.publishNotReadyAddresses", "publishNotReadyAddresses", False),
    }


def _service_port(index: int, port: Any) -> dict[str, Any]:
    at = f"spec.ports[{index}]"
    if not isinstance(port, dict):
        raise MalformedObject(f"{at}: {port!r:.80} is not an object")
    number = _port_number(f"{at}.port", port.get("port"))
    target = port.get("targetPort")
    if target is None or target in (0, ""):
        target = number
    if isinstance(target, bool) or not isinstance(target, int | str):
        raise MalformedObject(f"{at}.targetPort: {target!r:.80} is neither a number nor a name")
    return {
        "name": _text(port, f"{at}.name", "name") or "",
        "port": number,
        "protocol": _text(port, f"{at}.protocol", "protocol") or "TCP",
        "appProtocol": _text(port, f"{at}.appProtocol", "appProtocol"),
        "targetPort": target,
    }


def _slice(item: Json, namespace: str, name: str, cluster_domain: str) -> dict[str, Any]:
    family = _in("addressType", item.get("addressType"), _FAMILIES)
    served = _list(item, "endpoints", "endpoints")
    try:
        endpoints = _endpoints_bytes(served, family, namespace)
    except (MalformedObject, ValidationError):
        # Once more, for the place in the error's text.
        endpoints = [
            _encode(_slice_endpoint(f"endpoints[{i}]", each, family, namespace)) for i, each in enumerate(served)
        ]
    ports = [_endpoint_port(f"ports[{i}]", port) for i, port in enumerate(_list(item, "ports", "ports"))]
    _check_size(endpoints)
    endpoints.sort()
    return {"groups": [{"family": family, "ports": ports, "endpoints": list(map(orjson.Fragment, endpoints))}]}


def _endpoints_bytes(endpoints: list[Any], family: str, namespace: str) -> list[bytes]:
    """The endpoints of a slice as JSON, read and checked all at once: a first list is mostly this."""
    found = []
    for each in convert(endpoints, list[_Endpoint]):
        if not each.addresses:
            raise MalformedObject("addresses: is empty")
        conditions, hints, target = each.conditions or _NO_CONDITIONS, each.hints, each.target_ref
        ready = conditions.ready is not False
        zones = [zone.name for zone in hints.for_zones or ()] if hints else []
        nodes = [node.name for node in hints.for_nodes or ()] if hints else []
        endpoint = SliceEndpoint(
            _address("addresses[0]", each.addresses[0], family),
            ready,
            ready if conditions.serving is None else conditions.serving,
            bool(conditions.terminating),
            each.zone or None,
            each.node_name or None,
            Hints(zones, nodes) if zones or nodes else None,
            Target(target.kind or "", target.namespace or namespace, target.name or "", target.uid or "")
            if target
            else None,
        )
        found.append(_encode(endpoint))
    return found


def _slice_endpoint(at: str, endpoint: Any, family: str, namespace: str) -> dict[str, Any]:
    if not isinstance(endpoint, dict):
        raise MalformedObject(f"{at}: {endpoint!r:.80} is not an object")
    addresses = _list(endpoint, f"{at}.addresses", "addresses")
    if not addresses:
        raise MalformedObject(f"{at}.addresses: is empty")
    conditions = _mapping(endpoint, f"{at}.conditions", "conditions")
    ready = _flag(conditions, f"{at}.conditions.ready", "ready", True)
    hints = _mapping(endpoint, f"{at}.hints", "hints")
    found: dict[str, Any] = {}
    for field, key in (("forZones", "zones"), ("forNodes", "nodes")):
        named = [_named(f"{at}.hints.{field}", each) for each in _list(hints, f"{at}.hints.{field}", field)]
        if named:
            found[key] = named
    return {
        "address": _address(f"{at}.addresses[0]", addresses[0], family),
        "ready": ready,
        "serving": _flag(conditions, f"{at}.conditions.serving", "serving", ready),
        "terminating": _flag(conditions, f"{at}.conditions.terminating", "terminating", False),
        "zone": _text(endpoint, f"{at}.zone", "zone"),
        "node": _text(endpoint, f"{at}.nodeName", "nodeName"),
        "hints": found or None,
        "target": _target(f"{at}.targetRef", endpoint.get("targetRef"), namespace),
    }


def _endpoints(item: Json, namespace: str, name: str, cluster_domain: str) -> dict[str, Any]:
    """Legacy Endpoints (v1): one group for each subset and family; not-ready addresses neither ready nor serving."""
    groups = []
    for i, subset in enumerate(_list(item, "subsets", "subsets")):
        if not isinstance(subset, dict):
            raise MalformedObject(f"subsets[{i}]: {subset!r:.80} is not an object")
        ports = [_endpoint_port(f"subsets[{i}].ports", port) for port in _list(subset, f"subsets[{i}].ports", "ports")]
        by_family: dict[str, list[dict[str, Any]]] = {}
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for j, address in enumerate(_list(subset, f"subsets[{i}].{field}", field)):
                at = f"subsets[{i}].{field}[{j}]"
                if not isinstance(address, dict):
                    raise MalformedObject(f"{at}: {address!r:.80} is not an object")
                ip = _ip(f"{at}.ip", address.get("ip"))
                by_family.setdefault(family_of(ip), []).append(
                    {
                        "address": ip,
                        "ready": ready,
                        "serving": ready,
                        "terminating": False,
                        "zone": None,
                        "node": _text(address, f"{at}.nodeName", "nodeName"),
                        "hints": None,
                        "target": _target(f"{at}.targetRef", address.get("targetRef"), namespace),
                    }
                )
        groups += [
            {"family": family, "ports": ports, "endpoints": _in_order(endpoints)}
            for family, endpoints in sorted(by_family.items())
        ]
    return {"groups": groups}


_BODIES: dict[str, Callable[[Json, str, str, str], dict[str, Any]]] = {
    "Service": _service,
    "EndpointSlice": _slice,
    "Endpoints": _endpoints,
}


def family_of(address: str) -> str:
    """`IPv6` where the address has a colon, else `IPv4`."""
    return "IPv6" if ":" in address else "IPv4"


def _in_order(endpoints: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A set has no order, so equal sets must have equal bytes."""
    _check_size(endpoints)
    return sorted(endpoints, key=orjson.dumps)


def _check_size(endpoints: Sized) -> None:
    if len(endpoints) > _MAX_ENDPOINTS:
        raise MalformedObject(f"endpoints: {len(endpoints)} of them, more than {_MAX_ENDPOINTS}")


def _endpoint_port(at: str, port: Any) -> dict[str, Any]:
    if not isinstance(port, dict):
        raise MalformedObject(f"{at}: {port!r:.80} is not an object")
    number = port.get("port")
    return {
        "name": _text(port, f"{at}.name", "name") or "",
        "port": None if number is None else _port_number(f"{at}.port", number),
        "protocol": _text(port, f"{at}.protocol", "protocol") or "TCP",
        "appProtocol": _text(port, f"{at}.appProtocol", "appProtocol"),
    }


def _target(at: str, reference: Any, namespace: str) -> dict[str, str] | None:
    if reference is None:
        return None
    if not isinstance(reference, dict):
        raise MalformedObject(f"{at}: {reference!r:.80} is not an object")
    found = {field: _text(reference, f"{at}.{field}", field) or "" for field in ("kind", "namespace", "name", "uid")}
    found["namespace"] = found["namespace"] or namespace
    return found


def _named(at: str, each: Any) -> str:
    if not isinstance(each, dict) or not isinstance(each.get("name"), str):
        raise MalformedObject(f"{at}: {each!r:.80} has no name")
    return str(each["name"])


def _address(at: str, value: Any, family: str) -> str:
    if family != "FQDN":
        return _ip(at, value, family)
    if not isinstance(value, str) or not DNS_NAME.fullmatch(value):
        raise MalformedObject(f"{at}: {value!r:.80} is not a DNS name")
    return value


def _ip(at: str, value: Any, family: str | None = None) -> str:
    if family != "IPv6" and isinstance(value, str) and _IPV4.fullmatch(value):
        return value
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        parsed = ip_address(value)
    except ValueError:
        raise MalformedObject(f"{at}: {value!r:.80} is not an IP address") from None
    if family is not None and f"IPv{parsed.version}" != family:
        raise MalformedObject(f"{at}: {value!r:.80} is not of the family {family}")
    return str(parsed)


def _port_number(at: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 65535:
        raise MalformedObject(f"{at}: {value!r:.80} is not a port number")
    return value


def _in(at: str, value: Any, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise MalformedObject(f"{at}: {value!r:.80} is not one of {', '.join(choices)}")
    return str(value)


def _one_of(holder: Json, at: str, field: str, choices: tuple[str, ...], absent: str) -> str:
    value = holder.get(field)
    return absent if value is None or value == "" else _in(at, value, choices)


def _mapping(holder: Json, at: str, field: str) -> Json:
    value = holder.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedObject(f"{at}: {value!r:.80} is not an object")
    return value


def _list(holder: Json, at: str, field: str) -> list[Any]:
    value = holder.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise MalformedObject(f"{at}: {value!r:.80} is not a list")
    return value


def _text(holder: Json, at: str, field: str) -> str | None:
    value = holder.get(field)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 1024:
        raise MalformedObject(f"{at}: {value!r:.80} is not a string of at most 1024 characters")
    return value


def _flag(holder: Json, at: str, field: str, absent: bool) -> bool:
    value = holder.get(field)
    if value is None:
        return absent
    if not isinstance(value, bool):
        raise MalformedObject(f"{at}: {value!r:.80} is neither true nor false")
    return value


def _integer(holder: Json, at: str, field: str, absent: int) -> int:
    value = holder.get(field)
    if value is None:
        return absent
    if isinstance(value, bool) or not isinstance(value, int):
        raise MalformedObject(f"{at}: {value!r:.80} is not a whole number")
    return value
