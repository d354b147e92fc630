"""Endpoints as the commands print them, port by port."""

from collections.abc import Iterable
from typing import Any

Endpoint = dict[str, Any]
Claim = tuple[str, ...]


def by_port(endpoints: Iterable[Endpoint]) -> dict[Claim, Endpoint]:
    """Endpoints by what there may be only once: family, address, port name, protocol and port number, or family and
    address alone where there are no ports. Each is there with the one port."""
    found: dict[Claim, Endpoint] = {}
    for endpoint in endpoints:
        for port in endpoint["ports"] or [None]:
            claim = (endpoint["family"], endpoint["address"])
            if port is not None:
                claim += (port["name"], port["protocol"], str(port["port"]))
            assert claim not in found, f"{claim} is there twice"
            found[claim] = {**endpoint, "ports": [] if port is None else [port]}
    return found
