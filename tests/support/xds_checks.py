"""What an xDS client refuses, or leaves out without a word: the words of the protos and of gRPC's proposals (gRFCs)
as checks of one message. Nothing here knows how a message is built."""

from ipaddress import ip_address
from typing import Any

from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.address_pb2 import Address, SocketAddress
from envoy.config.core.v3.config_source_pb2 import ConfigSource
from envoy.config.core.v3.health_check_pb2 import HealthStatus
from envoy.config.endpoint.v3.endpoint_pb2 import ClusterLoadAssignment
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.config.route.v3.route_pb2 import RouteConfiguration
from envoy.extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2 import (
    HttpConnectionManager,
)

MESSAGES: dict[str, Any] = {"cds": Cluster, "eds": ClusterLoadAssignment, "lds": Listener, "rds": RouteConfiguration}
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
_HIGHEST_PRIORITY = 128  # LocalityLbEndpoints.priority: lte 128
_WEIGHTS = 2**32 - 1  # gRFC A27, "EDS": the sum of a priority's weights must not exceed it.
_RING = 8 * 1024 * 1024  # Cluster.RingHashLbConfig.minimum_ring_size: lte 8388608
_HEALTH = {HealthStatus.HEALTHY, HealthStatus.UNHEALTHY, HealthStatus.DRAINING}


class Refused(AssertionError):
    """A client would not take the resource."""


def check_resource(kind: str, name: str, content: bytes, *, grpc: bool = False) -> Any:
    """The message of a resource of this name, if a client would take it. Raises Refused."""
    message = MESSAGES[kind].FromString(content)
    _CHECKS[kind](name, message)
    if grpc:
        _check_for_grpc(kind, message)
    return message


def addresses_of(entry: Any) -> list[tuple[str, int]]:
    """The addresses of an endpoint with their port numbers."""
    sockets = [address.socket_address for address in _addresses(entry)]
    return [(socket.address, socket.port_value) for socket in sockets]


def _addresses(entry: Any) -> list[Address]:
    return [entry.endpoint.address, *(other.address for other in entry.endpoint.additional_addresses)]


def _need(holds: object, *what: object) -> None:
    if not holds:
        raise Refused(" ".join(str(part) for part in what))


def _check_assignment(name: str, message: ClusterLoadAssignment) -> None:
    """endpoint.proto and endpoint_components.proto; gRFC A27 "EDS", A61 (several addresses)."""
    _need(message.cluster_name == name, "cluster_name is", message.cluster_name, "not", name)
    _need(
        not message.policy.HasField("overprovisioning_factor") or message.policy.overprovisioning_factor.value > 0,
        "overprovisioning_factor is 0",
    )
    localities: set[tuple[int, str, str, str]] = set()
    weights: dict[int, int] = {}
    for locality in message.endpoints:
        place = locality.locality
        identity = (locality.priority, place.region, place.zone, place.sub_zone)
        _need(identity not in localities, "locality twice in a priority:", identity)
        localities.add(identity)
        _need(locality.lb_endpoints, "locality without endpoints:", identity)
        _need(locality.load_balancing_weight.value > 0, "locality without weight is left out:", identity)
        weights[locality.priority] = weights.get(locality.priority, 0) + locality.load_balancing_weight.value
        for entry in locality.lb_endpoints:
            _need(entry.health_status in _HEALTH, "health status", entry.health_status)
            _need(not entry.HasField("load_balancing_weight") or entry.load_balancing_weight.value > 0, "weight of 0")
            for address in _addresses(entry):
                _check_ip(address)
    _need(sorted(weights) == list(range(len(weights))), "priorities with holes:", sorted(weights))
    _need(len(weights) <= _HIGHEST_PRIORITY + 1, "too many priorities")
    _need(all(weight <= _WEIGHTS for weight in weights.values()), "weights above 2^32-1")
    entries = [entry for locality in message.endpoints for entry in locality.lb_endpoints]
    addresses = [address for entry in entries for address in addresses_of(entry)]
    _need(len(set(addresses)) == len(addresses), "an address twice:", sorted(addresses))


def _check_ip(address: Address) -> None:
    _need(address.WhichOneof("address") == "socket_address", "not a socket address")
    socket = address.socket_address
    _need(socket.WhichOneof("port_specifier") == "port_value", "no port number")
    _need(0 < socket.port_value <= 65535, "port", socket.port_value)
    try:
        shortest = str(ip_address(socket.address))
    except ValueError as error:
        raise Refused(f"not an IP address: {socket.address}") from error
    _need(shortest == socket.address, "one address in two forms:", socket.address, shortest)


def _check_cluster(name: str, message: Cluster) -> None:
    """cluster.proto; gRFC A27 "CDS", A37 (LOGICAL_DNS), A42 (RING_HASH)."""
    _need(name and message.name == name, "name is", message.name, "not", name)
    _need(message.connect_timeout.ToNanoseconds() > 0, "connect_timeout must be above 0")
    if message.type == Cluster.EDS:
        _check_source(message.eds_cluster_config.eds_config)
        _need(not message.HasField("load_assignment"), "an EDS cluster with endpoints of its own")
    else:
        _need(message.type == Cluster.LOGICAL_DNS, "type", message.type)
        (locality,) = message.load_assignment.endpoints
        (entry,) = locality.lb_endpoints
        socket = entry.endpoint.address.socket_address
        _need(socket.address and socket.port_value, "LOGICAL_DNS needs one name and port")
    if message.lb_policy == Cluster.RING_HASH:
        ring = message.ring_hash_lb_config
        _need(ring.hash_function == Cluster.RingHashLbConfig.XX_HASH, "hash function", ring.hash_function)
        _need(ring.minimum_ring_size.value <= _RING, "ring size", ring.minimum_ring_size.value)
    else:
        _need(message.lb_policy == Cluster.ROUND_ROBIN, "lb_policy", message.lb_policy)
    _need(0 <= message.common_lb_config.healthy_panic_threshold.value <= 100, "healthy_panic_threshold")


def _check_listener(name: str, message: Listener) -> None:
    """gRFC A27 "LDS", A39 (HTTP filters: names are unique, and the last one ends the chain)."""
    _need(message.name == name, "name is", message.name, "not", name)
    manager = HttpConnectionManager()
    _need(message.api_listener.api_listener.Unpack(manager), "no HttpConnectionManager")
    _check_source(manager.rds.config_source)
    _need(manager.rds.route_config_name, "no route_config_name")
    names = [chain.name for chain in manager.http_filters]
    _need(names and all(names) and len(set(names)) == len(names), "names of filters:", names)
    _need(manager.http_filters[-1].typed_config.type_url == _ROUTER, "the last filter is not the router")


def _check_routes(name: str, message: RouteConfiguration) -> None:
    """route_components.proto; gRFC A27 "RDS", A44 (retries)."""
    _need(message.name == name, "name is", message.name, "not", name)
    domains = [domain for host in message.virtual_hosts for domain in host.domains]
    _need(domains and len(set(domains)) == len(domains), "domains:", domains)
    for host in message.virtual_hosts:
        _need(host.name and host.domains and host.routes, "a virtual host without name, domain or route")
        for route in host.routes:
            _need(route.match.WhichOneof("path_specifier"), "a route that matches nothing")
            _need(route.route.cluster, "a route without cluster")
            retries = route.route.retry_policy
            _need(not retries.HasField("num_retries") or retries.num_retries.value > 0, "num_retries must be above 0")


def _check_source(source: ConfigSource) -> None:
    """gRFC A27: config sources must be ADS or self."""
    _need(source.WhichOneof("config_source_specifier") in {"ads", "self"}, "config source is not ADS")


def _check_for_grpc(kind: str, message: Any) -> None:
    """gRPC connects by TCP only."""
    assignments = {"eds": [message], "cds": [message.load_assignment] if kind == "cds" else []}.get(kind, [])
    for assignment in assignments:
        for locality in assignment.endpoints:
            for entry in locality.lb_endpoints:
                for address in _addresses(entry):
                    _need(address.socket_address.protocol == SocketAddress.TCP, "a UDP endpoint for gRPC")


_CHECKS: dict[str, Any] = {
    "cds": _check_cluster, "eds": _check_assignment, "lds": _check_listener, "rds": _check_routes,
}  # fmt: skip
