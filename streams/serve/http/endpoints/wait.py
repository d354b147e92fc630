"""`GET /v1/wait`: waits until an address is gone from a Service's endpoint set, or in it, at every router."""

import asyncio
from ipaddress import ip_address
from typing import Annotated, Any, Literal

import msgspec
from aiohttp import web

from streams.serve.http.endpoint import Endpoint, Parameters
from streams.serve.http.parameters import ADDRESS, AddressText, ClusterName, KubernetesName, WaitSeconds, one_of
from streams.serve.http.query import BadParameter, NotActive, NotFound
from streams.serve.http.waiters import WAITERS
from streams.serve.xds.gate import Gate, Target
from streams.serve.xds.server import XdsServer
from streams.wire.address_text import parse_address
from streams.wire.records import Record

_MOST_ROUTERS = 1_000_000


class Query(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    """What to wait for, and for how many seconds: that `address` is gone or present, sealed, and if `acked` at the
    routers, too."""

    service: KubernetesName
    address: AddressText
    until: Annotated[Literal["gone", "present"], one_of(("gone", "present"))]
    namespace: KubernetesName = "default"
    cluster: ClusterName | msgspec.UnsetType = msgspec.UNSET
    acked: Annotated[bool, msgspec.Meta(extra={"allowed": "true or false"})] = False
    at_least_routers: Annotated[
        int, msgspec.Meta(ge=0, le=_MOST_ROUTERS, extra={"allowed": f"a whole number from 0 to {_MOST_ROUTERS}"})
    ] = 0
    timeout: WaitSeconds = 30.0


class WaitedRouter(Record):
    """A connected router that follows the Service: the newest version that it acknowledged (-1: none), and whether the
    set that it acknowledged is as is waited for."""

    client: int
    node: str
    acked: int
    passed: bool


class Waited(Record):
    """Whether what is waited for has come; `sealed` whether it is in the tables, `version` the Service's newest."""

    done: bool
    sealed: bool
    version: int
    routers: list[WaitedRouter]


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> Waited:
    query: Query = parameters.query
    server: XdsServer = parts.xds
    target = _target(query)
    key = (query.namespace, query.service)
    if not server.ready.is_set():
        raise NotActive
    if not server.catalog.names_of(key):
        raise NotFound(f"Service {query.namespace}/{query.service} not found in any cluster, or it has no ports")
    gate = Gate(server, key, target)
    done = False
    with WAITERS.count_in(server):
        try:
            async with asyncio.timeout(query.timeout):
                while not (done := _is_done(gate, query)):
                    await server.wait_for_change()
        except TimeoutError:
            pass
    return Waited(
        done=done,
        sealed=gate.sealed,
        version=server.catalog.newest(key)[0],
        routers=[WaitedRouter(*state) for state in gate.routers],
    )


def _is_done(gate: Gate, query: Query) -> bool:
    gate.evaluate()
    enough = len(gate.routers) >= query.at_least_routers
    return gate.sealed and (not query.acked or (enough and all(router.passed for router in gate.routers)))


def _target(query: Query) -> Target:
    try:
        address, ports = parse_address(query.address)
    except ValueError:
        raise BadParameter.invalid("address", query.address, ADDRESS) from None
    return Target(ip_address(address), ports, query.cluster or "", present=query.until == "present")


ENDPOINT = Endpoint(
    "/v1/wait",
    "waitForAddress",
    "Wait until an address is gone from a Service's endpoint set, or in it.",
    Waited,
    _handle,
    query=Query,
    description="An endpoint that is not healthy or drains counts as gone: no new request goes to it.",
)
