"""Which port of a Service a resource name means."""

from collections.abc import Iterable
from typing import Literal, NamedTuple, cast

from streams.facets.parsed_rows import FrontendFacet
from streams.serve.xds.build.names import resource_name
from streams.wire.records import SERVED_PROTOCOLS, ServicePort

Transport = Literal["TCP", "UDP"]

_UDP_SUFFIX = "/udp"


class PortId(NamedTuple):
    """A Service port, in all clusters: a Service's ports are unique by number and protocol (v1 ServiceSpec.ports)."""

    number: int
    transport: Transport = "TCP"


def ports_by_name(dns_name: str, ports: Iterable[ServicePort]) -> dict[str, PortId]:
    """The served ports of a Service by resource name: `DNS-NAME:PORT`. Where TCP and UDP have one number, the name is
    TCP's, and UDP's is `DNS-NAME:PORT/udp`."""
    served = {
        PortId(port.port, cast("Transport", port.protocol)): None
        for port in ports
        if port.protocol in SERVED_PROTOCOLS and port.port
    }
    return {
        resource_name(dns_name, port.number) + (_UDP_SUFFIX if _is_second(port, served) else ""): port
        for port in served
    }


def _is_second(port: PortId, served: Iterable[PortId]) -> bool:
    return port.transport == "UDP" and PortId(port.number, "TCP") in served


def port_of(frontend: FrontendFacet | None, port: PortId) -> ServicePort | None:
    """The port as a cluster's Service has it."""
    ports = frontend.ports if frontend else ()
    return next((own for own in ports if (own.port, own.protocol) == port), None)
