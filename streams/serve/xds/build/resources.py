"""Clusters, listeners and route configurations of one Service port. The endpoint sets are in `endpoints`."""

import durationpy
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.http.stateful_session.cookie.v3 import cookie_pb2
from envoy.extensions.http.stateful_session.header.v3 import header_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2

from streams.serve.xds.build.assignment import socket_address, sticks_by_hash
from streams.serve.xds.build.decision import Decision
from streams.serve.xds.build.ports import PortId, port_of
from streams.serve.xds.build.service import Service
from streams.wire.records import ServicePort
from streams.wire.routing_records import SessionPersistence

STATEFUL_SESSION = "envoy.filters.http.stateful_session"
DEFAULT_COOKIE = "facets-session"
_HTTP2 = frozenset({"grpc", "h2c", "http2", "kubernetes.io/h2c"})
_HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def cluster(name: str, service: Service, port: PortId, decision: Decision) -> cluster_pb2.Cluster:
    """The CDS resource of a Service port. Routing by Service and by endpoint differ in the endpoint set only, so that a
    decision can change under a running client without a disruption."""
    message = cluster_pb2.Cluster(name=name)
    message.connect_timeout.FromSeconds(5)
    fields = message.metadata.filter_metadata["facets"].fields
    fields["namespace"].string_value = service.namespace
    fields["service"].string_value = service.name
    fields["routing"].string_value = decision.route
    if service.locality is not None:
        fields["reason"].string_value = decision.reason
        fields["prefer"].string_value = ", ".join(service.locality.prefer)
        fields["preferReason"].string_value = service.locality.reason
    if decision.route == "dns":
        _resolve(message, service, port)
    else:
        message.type = cluster_pb2.Cluster.EDS
        message.eds_cluster_config.eds_config.CopyFrom(_ads())
        if sticks_by_hash(decision):
            message.lb_policy = cluster_pb2.Cluster.RING_HASH
            message.ring_hash_lb_config.minimum_ring_size.value = 1024
        # Not-ready endpoints never get traffic, however many there are: Kubernetes has no panic mode.
        message.common_lb_config.healthy_panic_threshold.value = 0
        if decision.session is not None:
            # A session stays with its endpoint while that drains.
            statuses = message.common_lb_config.override_host_status.statuses
            statuses.extend([0, 1, 3])  # UNKNOWN, HEALTHY, DRAINING
    if _speaks_http2(service, port):
        options = http_protocol_options_pb2.HttpProtocolOptions()
        options.explicit_http_config.http2_protocol_options.SetInParent()
        message.typed_extension_protocol_options[_HTTP_OPTIONS].Pack(options)
    return message


def listener(name: str, decision: Decision) -> listener_pb2.Listener:
    """The LDS resource for gRPC's proxyless clients (gRPC A27): an API listener that takes its routes from RDS."""
    manager = http_connection_manager_pb2.HttpConnectionManager(stat_prefix=name)
    manager.rds.config_source.CopyFrom(_ads())
    manager.rds.route_config_name = name
    if decision.session is not None:
        manager.http_filters.add(name=STATEFUL_SESSION).typed_config.Pack(stateful_session_pb2.StatefulSession())
    manager.http_filters.add(name="envoy.filters.http.router").typed_config.Pack(router_pb2.Router())
    message = listener_pb2.Listener(name=name)
    message.api_listener.api_listener.Pack(manager)
    return message


def routes(name: str, decision: Decision, *, grpc: bool) -> route_pb2.RouteConfiguration:
    """The RDS resource: all requests go to the cluster of the same name, with the requested stickiness."""
    message = route_pb2.RouteConfiguration(name=name)
    host = message.virtual_hosts.add(name=name, domains=["*"])
    route = host.routes.add()
    route.match.prefix = "/"
    route.route.cluster = name
    route.route.timeout.FromSeconds(0)
    # These two are safe for any request: it has not reached the application.
    route.route.retry_policy.retry_on = "connect-failure,refused-stream"
    route.route.retry_policy.num_retries.value = 2
    if sticks_by_hash(decision):
        _hash(route.route)
    session = _session(decision.session, grpc)
    if session is not None:
        per_route = stateful_session_pb2.StatefulSessionPerRoute(stateful_session=session)
        route.typed_per_filter_config[STATEFUL_SESSION].Pack(per_route)
    return message


def _hash(action: route_components_pb2.RouteAction) -> None:
    action.hash_policy.add().connection_properties.source_ip = True
    # gRPC knows no source address; there a channel is the client (gRPC A42).
    action.hash_policy.add().filter_state.key = "io.grpc.channel_id"


def _session(persistence: SessionPersistence | None, grpc: bool) -> stateful_session_pb2.StatefulSession | None:
    if persistence is None:
        return None
    message = stateful_session_pb2.StatefulSession()
    if persistence.type == "Header":
        if grpc:  # gRPC supports cookies only (gRPC A55), and refuses the rest.
            return None
        message.session_state.name = "envoy.http.stateful_session.header"
        message.session_state.typed_config.Pack(
            header_pb2.HeaderBasedSessionState(name=persistence.session_name or "session")
        )
        return message
    state = cookie_pb2.CookieBasedSessionState()
    state.cookie.name = persistence.session_name or DEFAULT_COOKIE
    state.cookie.path = "/"
    if persistence.cookie_lifetime == "Permanent" and persistence.absolute_timeout:
        # A Gateway API duration (GEP-2257) is one of Go's, with whole numbers of h, m, s and ms.
        state.cookie.ttl.FromTimedelta(durationpy.from_str(persistence.absolute_timeout))
    message.session_state.name = "envoy.http.stateful_session.cookie"
    message.session_state.typed_config.Pack(state)
    return message


def _resolve(message: cluster_pb2.Cluster, service: Service, port: PortId) -> None:
    external = next(
        facets.frontend.external_name
        for facets in service.clusters
        if facets.frontend and facets.frontend.external_name
    )
    message.type = cluster_pb2.Cluster.LOGICAL_DNS
    # An address family of the name may be unreachable from here: Envoy tries both (RFC 8305).
    message.dns_lookup_family = cluster_pb2.Cluster.ALL
    message.load_assignment.cluster_name = message.name
    endpoint = message.load_assignment.endpoints.add().lb_endpoints.add().endpoint
    endpoint.address.CopyFrom(socket_address((external, port.number), port.transport))


def _speaks_http2(service: Service, port: PortId) -> bool:
    ports: list[ServicePort | None] = [port_of(facets.frontend, port) for facets in service.clusters]
    protocols = {(own.app_protocol or "").lower() for own in ports if own is not None}
    return port.transport == "TCP" and not _HTTP2.isdisjoint(protocols)


def _ads() -> config_source_pb2.ConfigSource:
    source = config_source_pb2.ConfigSource(resource_api_version=config_source_pb2.V3)
    source.ads.SetInParent()
    return source
