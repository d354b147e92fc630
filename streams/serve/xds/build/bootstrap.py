"""Bootstrap files that point a router at the xDS server."""

import re
from copy import deepcopy
from ipaddress import ip_address
from typing import Any, NamedTuple

from streams.serve.xds.build.clusterset import SET_DOMAIN
from streams.serve.xds.build.hosts import host_of
from streams.serve.xds.build.resources import STATEFUL_SESSION

_XDS_CLUSTER = "facets-xds"
_FILTERS = "type.googleapis.com/envoy.extensions.filters"
_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"},
}
_SESSION = {
    "name": STATEFUL_SESSION,
    "typed_config": {"@type": f"{_FILTERS}.http.stateful_session.v3.StatefulSession"},
}
_ON_DEMAND = "envoy.filters.http.on_demand"
_ON_DEMAND_TYPES = f"{_FILTERS}.http.on_demand.v3"
_ASK_BY_NAME = {"odcds": {"source": {"ads": {}, "resource_api_version": "V3"}, "timeout": "1s"}}
"""No wildcard has the hosts of a headless Service: Envoy asks when there is a request. (Incremental xDS only.)"""
_HOST = rf"(?i)[^.:]+\.[^:]+\.[^.:]+\.[^.:]+{re.escape(SET_DOMAIN)}\.?(:[0-9]+)?"
_CLUSTER_HEADER = "x-facets-cluster"
_NAME_CLUSTER = """\
-- The Host header as the name of a cluster: SERVICE.NAMESPACE.svc.DOMAIN:PORT.
-- Kubernetes' shorter names are completed as a Pod's resolver does it, and port 80 is HTTP's own.
function envoy_on_request(request)
  local authority = (request:headers():get(":authority") or ""):lower()
  local host, port = authority:match("^(.*):(%d+)$")
  host, port = host or authority, port or "80"
  host = host:gsub("%.$", "")
  if host:match("^[^.]+%.[^.]+$") then host = host .. ".svc" end
  if host:match("^[^.]+%.[^.]+%.svc$") then host = host .. ".@DOMAIN@" end
  request:headers():replace("@HEADER@", host .. ":" .. port)
end
"""


class Router(NamedTuple):
    """A router: who and where it is, and the xDS server's address. `service` is the resource name of the Service that
    its listener serves; without one, the Host header of each request names it: SERVICE.NAMESPACE[.svc[.DOMAIN]][:PORT],
    with port 80 and `cluster_domain` where it names none."""

    server: tuple[str, int] = ("127.0.0.1", 18000)
    node_id: str = "router"
    zone: str = ""
    node: str = ""
    traffic: str = "mesh"
    listen: tuple[str, int] = ("127.0.0.1", 10000)
    admin: tuple[str, int] | None = None
    service: str = ""
    delta: bool = True
    cluster_domain: str = "cluster.local"
    cluster: str = ""
    namespace: str = ""


def envoy_bootstrap(router: Router) -> dict[str, Any]:
    """Envoy's bootstrap (envoy.config.bootstrap.v3.Bootstrap): clusters and endpoints from the server, one listener."""
    bootstrap: dict[str, Any] = {
        "node": {"cluster": "facets", **_node(router)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC" if router.delta else "GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [{"envoy_grpc": {"cluster_name": _XDS_CLUSTER}}],
            },
            "cds_config": {"ads": {}, "resource_api_version": "V3"},
        },
        "static_resources": {"listeners": [_listener(router)], "clusters": [_xds_cluster(router)]},
    }
    if router.admin:
        bootstrap["admin"] = {"address": _address(*router.admin)}
    return bootstrap


def grpc_bootstrap(router: Router) -> dict[str, Any]:
    """The bootstrap of gRPC's own xDS client (gRPC A27), for GRPC_XDS_BOOTSTRAP; targets are xds:///NAME."""
    host, port = router.server
    return {
        "xds_servers": [
            {
                "server_uri": f"{_bracketed(host)}:{port}",
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }
        ],
        "node": _node(router),
    }


def _node(router: Router) -> dict[str, Any]:
    node: dict[str, Any] = {"id": router.node_id, "metadata": {"traffic": router.traffic}}
    for name, value in (("cluster", router.cluster), ("namespace", router.namespace), ("node", router.node)):
        if value:
            node["metadata"][name] = value
    if router.zone:
        node["locality"] = {"zone": router.zone}
    return node


def _listener(router: Router) -> dict[str, Any]:
    manager: dict[str, Any] = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress",
        "http_filters": [_SESSION, _ROUTER],
    }
    is_of_host = host_of(router.service) is not None
    if router.delta and (is_of_host or not router.service):
        on_demand = {"@type": f"{_ON_DEMAND_TYPES}.OnDemand", **(_ASK_BY_NAME if is_of_host else {})}
        manager["http_filters"].insert(0, {"name": _ON_DEMAND, "typed_config": on_demand})
    if router.service:
        manager["rds"] = {
            "route_config_name": router.service,
            "config_source": {"ads": {}, "resource_api_version": "V3"},
        }
    else:
        manager["http_filters"].insert(0, _cluster_naming(router.cluster_domain))
        route = {
            "match": {"prefix": "/"},
            "route": {
                "cluster_header": _CLUSTER_HEADER,
                "timeout": "0s",
                "retry_policy": {"retry_on": "connect-failure,refused-stream", "num_retries": 2},
            },
            "request_headers_to_remove": [_CLUSTER_HEADER],
        }
        routes = [_route_to_hosts(route), route] if router.delta else [route]
        manager["route_config"] = {"virtual_hosts": [{"name": "services", "domains": ["*"], "routes": routes}]}
    return {
        "name": "ingress",
        "address": _address(*router.listen),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }


def _route_to_hosts(route: dict[str, Any]) -> dict[str, Any]:
    """The route for names of single hosts, whose clusters are asked for by name."""
    is_host = {"name": ":authority", "string_match": {"safe_regex": {"regex": _HOST}}}
    asking = {"@type": f"{_ON_DEMAND_TYPES}.PerRouteConfig", **_ASK_BY_NAME}
    of_hosts = deepcopy(route)
    of_hosts["match"]["headers"] = [is_host]
    return {**of_hosts, "typed_per_filter_config": {_ON_DEMAND: asking}}


def _cluster_naming(cluster_domain: str) -> dict[str, Any]:
    script = _NAME_CLUSTER.replace("@DOMAIN@", cluster_domain).replace("@HEADER@", _CLUSTER_HEADER)
    return {
        "name": "envoy.filters.http.lua",
        "typed_config": {
            "@type": f"{_FILTERS}.http.lua.v3.Lua",
            "default_source_code": {"inline_string": script},
        },
    }


def _xds_cluster(router: Router) -> dict[str, Any]:
    host, port = router.server
    # The server may not listen on all of a name's addresses: `localhost` is ::1 first, its default is 127.0.0.1.
    # With ALL and LOGICAL_DNS Envoy tries one after the other (RFC 8305).
    by_name = {"type": "LOGICAL_DNS", "dns_lookup_family": "ALL"}
    return {
        "name": _XDS_CLUSTER,
        **({"type": "STATIC"} if _is_ip(host) else by_name),
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {
                    "http2_protocol_options": {"connection_keepalive": {"interval": "30s", "timeout": "5s"}}
                },
            }
        },
        "load_assignment": {
            "cluster_name": _XDS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(host, port)}}]}],
        },
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
