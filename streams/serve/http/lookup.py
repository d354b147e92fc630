"""Reverse look-ups: which Services have an address, a DNS name, a Pod, a node or a zone."""

from collections.abc import Callable, Collection, Iterable, Iterator
from ipaddress import ip_address
from typing import Any, Literal, NamedTuple

import msgspec

from streams.history.queries import condition, has_port, is_address
from streams.serve.http.printed import Printed, PrintedEndpoint, PrintedPort, decode
from streams.serve.http.query import BadParameter
from streams.wire.address_text import parse_address
from streams.wire.records import CLUSTERSET, EndpointPort, Record, Target

HeldAs = Literal["clusterIP", "dnsName", "externalName", "endpoint"]


class FoundPort(Record):
    """A port of a Service."""

    name: str
    port: int
    protocol: str


class FoundEndpoint(Record):
    """An endpoint that fits. `condition` is ready, draining (serving but terminating), serving, terminating or down;
    `cluster` the one that it is of; `dnsName` its host's own name, where it has one."""

    cluster: str
    address: str
    family: str
    ports: list[EndpointPort]
    condition: Literal["ready", "draining", "serving", "terminating", "down"]
    zone: str | None
    node: str | None
    target: Target | None
    slice: str
    dns_name: str


class Found(Record):
    """A row that fits, and by what it does: its cluster IP, its DNS name, its external name, or endpoints (these then).
    `ports` are the Service's, where it has them by itself."""

    table: str
    cluster: str
    namespace: str
    name: str
    version: int
    state: str
    reason: str
    held_as: HeldAs
    ports: list[FoundPort]
    endpoints: list[FoundEndpoint]


class Question(NamedTuple):
    """What is looked for: `may_fit` rules rows out by their Service's name and their text, without decoding them; one
    of the other two fits a Service itself (and says how), or an endpoint with its row."""

    may_fit: Callable[[str, bytes], bool]
    fits_service: Callable[[str, Printed], HeldAs | None]
    fits_endpoint: Callable[[Printed, PrintedEndpoint], bool]

    def find(self, table: str, text: bytes, clusters: Collection[str] = ()) -> "Match | None":
        """The row, if it fits. `clusters` (none: all) are those whose endpoints of a set count."""
        row = decode(text)
        endpoints = [
            endpoint
            for endpoint in row.endpoints
            if self.fits_endpoint(row, endpoint) and (not clusters or (endpoint.cluster or row.cluster) in clusters)
        ]
        held_as = None if clusters and not row.cluster else self.fits_service(table, row)
        if held_as is None and not endpoints:
            return None
        return Match(table, row, held_as or "endpoint", endpoints)


class Match(NamedTuple):
    """A row that fits, by what it does, and the endpoints that fit."""

    table: str
    row: Printed
    held_as: HeldAs
    endpoints: list[PrintedEndpoint]

    def shown(self) -> Found:
        """As it is answered."""
        row = self.row
        return Found(
            table=self.table,
            cluster=row.cluster,
            namespace=row.namespace,
            name=row.name,
            version=row.version,
            state=row.state,
            reason=row.reason,
            held_as=self.held_as,
            ports=[FoundPort(port.name, port.port or 0, port.protocol) for port in row.ports],
            endpoints=[_found_endpoint(row, endpoint) for endpoint in self.endpoints],
        )


LOOKED_AT = ("frontend", "backend", CLUSTERSET)
"""The tables that say where something is. (A routing row has no address.)"""


def by_address(text: str) -> Question:
    """Of an address, with ports or without. Raises BadParameter."""
    try:
        host, ports = parse_address(text)
    except ValueError as error:
        raise BadParameter("address", f"parameter address: {text[:80]!r} {error}") from None
    ip = ip_address(host)

    def fits_service(table: str, row: Printed) -> HeldAs | None:
        is_there = any(is_address(ip, own) for own in row.cluster_ips) and has_port(_numbers(row.ports), ports)
        return "clusterIP" if is_there else None

    def fits_endpoint(row: Printed, endpoint: PrintedEndpoint) -> bool:
        return is_address(ip, endpoint.address) and has_port(_numbers(endpoint.ports), ports)

    # An IPv4 address has one form, an IPv6 address has many.
    return Question(_has(str(ip).encode() if ip.version == 4 else b""), fits_service, fits_endpoint)


def by_dns(text: str) -> Question:
    """Of a DNS name: a Service's (NAME.NAMESPACE.svc is enough), an external name, or a host's of a headless one."""
    name = text.rstrip(".").lower()

    def is_it(own: str) -> bool:
        return own == name or (name.endswith(".svc") and own.startswith(f"{name}."))

    def fits_service(table: str, row: Printed) -> HeldAs | None:
        if row.external_name and row.external_name.rstrip(".").lower() == name:
            return "externalName"
        return "dnsName" if row.dns_name and is_it(row.dns_name.lower()) else None

    def fits_endpoint(row: Printed, endpoint: PrintedEndpoint) -> bool:
        return bool(endpoint.dns_name) and is_it(endpoint.dns_name.lower())

    labels = frozenset(name.split("."))

    def may_fit(service: str, text: bytes) -> bool:
        return service in labels or b'"ExternalName"' in text

    return Question(may_fit, fits_service, fits_endpoint)


def by_pod(text: str) -> Question:
    """Of a Pod: NAME, or NAMESPACE/NAME."""
    namespace, _, name = text.rpartition("/")

    def fits(row: Printed, endpoint: PrintedEndpoint) -> bool:
        target = endpoint.target
        return (
            target is not None and (target.kind, target.name) == ("Pod", name) and namespace in {"", target.namespace}
        )

    return Question(_has(msgspec.json.encode(name)), _no_service, fits)


def by_node(name: str) -> Question:
    """Of a node, by the endpoints that run there."""
    return Question(_has(msgspec.json.encode(name)), _no_service, lambda row, endpoint: endpoint.node == name)


def by_zone(name: str) -> Question:
    """Of a zone, by the endpoints that are there."""
    return Question(_has(msgspec.json.encode(name)), _no_service, lambda row, endpoint: endpoint.zone == name)


def _no_service(table: str, row: Printed) -> HeldAs | None:
    return None


def _has(needle: bytes) -> Callable[[str, bytes], bool]:
    return lambda _service, text: needle in text


def _numbers(ports: Iterable[PrintedPort]) -> Iterator[int | None]:
    return (port.port for port in ports)


def _found_endpoint(row: Printed, endpoint: PrintedEndpoint) -> FoundEndpoint:
    word: Any = condition({"ready": endpoint.ready, "serving": endpoint.serving, "terminating": endpoint.terminating})
    return FoundEndpoint(
        cluster=endpoint.cluster or row.cluster,
        address=endpoint.address,
        family=endpoint.family,
        ports=[EndpointPort(port.name, port.port, port.protocol, port.app_protocol) for port in endpoint.ports],
        condition=word,
        zone=endpoint.zone,
        node=endpoint.node,
        target=endpoint.target,
        slice=endpoint.slice,
        dns_name=endpoint.dns_name,
    )
