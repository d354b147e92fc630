"""Attaches routes to a Service, or to a ServiceImport (GEP-1294, GEP-1748).

A parent Service is checked as a Gateway is: it must be there, have a cluster IP to be reached by (not headless, no
ExternalName) and the port that is named; no port means all. Routes fall into groups that don't touch each other: the
producer's, of the Service's own namespace, and the consumers' of each other namespace. Within a group one type of route
has a port: GRPCRoute before HTTPRoute before TLSRoute before TCPRoute; UDP is apart. `hostnames` are ignored.

A ServiceImport is a parent by its name, as the clusterset's name is there for every client, with an object in the
cluster or without: nothing is known against it. Its ports are numbers, and 0 stands for all that no route names; a
`sectionName`, whose meaning the API leaves to implementations, names none of them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from streams.objects.fields import Json, mapping, objects, optional_port, text
from streams.objects.gateway_api.attachment import Attachment, Attachments, Binding, RequestClaims, refused
from streams.objects.gateway_api.references import Parent, ServiceKey

_RANKS = {kind: rank for rank, kind in enumerate(("GRPCRoute", "HTTPRoute", "TLSRoute", "TCPRoute"))}
_UDP = "UDPRoute"
_ALL_OTHERS = 0

_Port = tuple[bool, int]
"""Whether it is a UDP port, and its number."""


class ServiceParent(NamedTuple):
    """What decides whether routes can be attached to a Service: its ports are (name, number, protocol)."""

    is_external: bool
    is_headless: bool
    ports: tuple[tuple[str, int, str], ...]


def read_service_parent(item: Json) -> ServiceParent:
    """A Service as a parent. Raises MalformedObject."""
    spec = mapping(item.get("spec"), "spec")
    assigned = spec.get("clusterIPs")
    addresses = [spec.get("clusterIP"), *(assigned if isinstance(assigned, list) else [])]
    ports = [
        (
            text(port.get("name"), f"spec.ports[{i}].name", ""),
            optional_port(port.get("port"), f"spec.ports[{i}].port") or 0,
            text(port.get("protocol"), f"spec.ports[{i}].protocol", "") or "TCP",
        )
        for i, port in enumerate(objects(spec.get("ports"), "spec.ports"))
    ]
    return ServiceParent(spec.get("type") == "ExternalName", "None" in addresses, tuple(ports))


def attach_to_service(key: ServiceKey, service: ServiceParent | None, bindings: Iterable[Binding]) -> Attachments:
    """The outcome of each binding to the Service."""
    return _attach_all(key, bindings, lambda binding: _ports(service, binding))


def attach_to_import(key: ServiceKey, bindings: Sequence[Binding]) -> Attachments:
    """The outcome of each binding to the ServiceImport."""
    named = sorted({binding.parent.port for binding in bindings if binding.parent.port is not None})
    return _attach_all(key, bindings, lambda binding: _ports_of_import(named, binding.parent))


def _attach_all(
    key: ServiceKey, bindings: Iterable[Binding], ports_for: Callable[[Binding], tuple[int, ...] | Attachment]
) -> Attachments:
    attachments: Attachments = {}
    groups: dict[str, list[tuple[Binding, tuple[int, ...]]]] = {}
    for binding in sorted(bindings, key=lambda binding: (binding.route.age, binding.place)):
        ports = ports_for(binding)
        if isinstance(ports, Attachment):
            attachments[binding.route.key, binding.place] = ports
        else:
            namespace = binding.route.namespace
            groups.setdefault("" if namespace == key[0] else namespace, []).append((binding, ports))
    covered: dict[str, set[_Port]] = {}
    for group, bound in groups.items():
        attached = _attach_group(bound)
        attachments.update(attached)
        covered[group] = {port for (key, _), bound_to in attached.items() for port in _ports_of(key[0], bound_to)}
    for binding, _ in groups.get("", ()):
        attachment = attachments[binding.route.key, binding.place]
        if not attachment.attached:
            continue
        own = _ports_of(binding.route.kind, attachment)
        consumers = sorted(group for group in covered if group and covered[group].issuperset(own))
        attachments[binding.route.key, binding.place] = attachment._replace(consumers=tuple(consumers))
    return attachments


def _ports_of(kind: str, attachment: Attachment) -> list[_Port]:
    return [(kind == _UDP, port) for port in attachment.ports]


def _ports(service: ServiceParent | None, binding: Binding) -> tuple[int, ...] | Attachment:
    """The Service's ports that the route may be attached to, or why it is attached to none."""
    if service is None:
        return refused("NoMatchingParent", "there is no such Service")
    if service.is_external:
        return refused("NoMatchingParent", "the Service is an ExternalName: there is nothing to route for")
    if service.is_headless:
        return refused("NoMatchingParent", "the Service is headless: it has no frontend")
    parent = binding.parent
    meant = [
        (number, protocol)
        for name, number, protocol in service.ports
        if parent.section in {None, name} and parent.port in {None, number}
    ]
    transport = "UDP" if binding.route.kind == _UDP else "TCP"
    ports = tuple(sorted({number for number, protocol in meant if protocol == transport}))
    if not ports:
        detail = f"of protocol {transport}" if meant or not service.ports else "of this name and number"
        return refused("NoMatchingParent", f"the Service has no port {detail}")
    return ports


def _ports_of_import(named: Iterable[int], parent: Parent) -> tuple[int, ...] | Attachment:
    if parent.section is not None:
        return refused("NoMatchingParent", "a port of a ServiceImport is named by its number")
    return (_ALL_OTHERS, *named) if parent.port is None else (parent.port,)


def _attach_group(bound: Iterable[tuple[Binding, tuple[int, ...]]]) -> Attachments:
    """The outcome of one group's bindings, which are in order of precedence."""
    bound = list(bound)
    best: dict[int, int] = {}
    for binding, ports in bound:
        if (rank := _RANKS.get(binding.route.kind)) is not None:
            best.update((port, min(rank, best.get(port, rank))) for port in ports)
    claims = RequestClaims()
    return {(binding.route.key, binding.place): _attach(binding, ports, best, claims) for binding, ports in bound}


def _attach(binding: Binding, ports: tuple[int, ...], best: Mapping[int, int], claims: RequestClaims) -> Attachment:
    route = binding.route
    rank = _RANKS.get(route.kind)
    own = tuple(port for port in ports if rank is None or best[port] == rank)
    if not own:
        return refused("Conflicted", "a route of a more specific type has the Service's port")
    shadowed = claims.claim(route, [(port, ("",)) for port in own])
    return Attachment(True, ports=own, shadowed=shadowed)
