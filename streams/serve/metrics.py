"""Metrics of `facets serve` for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

PROPAGATION = Histogram(
    "facets_propagation_seconds",
    "From the trigger time of a Service's change (else its commit's time) to its acknowledgement by a router.",
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300),
)
CLIENTS = Gauge("facets_xds_clients", "Connected xDS clients.", ["variant"])
SHARED_ADDRESSES = Gauge(
    "facets_xds_shared_addresses",
    "Addresses in the endpoint sets of clients that more than one cluster has; each set has them of one.",
)
UNPLACED_CLIENTS = Gauge(
    "facets_xds_clients_without_cluster",
    "Connected xDS clients that name no cluster: of each Service they get that of the first cluster that has it.",
)
RESPONSES = Counter("facets_xds_responses_total", "Responses sent.", ["type"])
NACKS = Counter("facets_xds_nacks_total", "Responses that a client refused.", ["type"])
ENDED = Counter(
    "facets_xds_ended_total", "Streams that the server ended.", ["reason"]
)  # reason: unread, violation, clients
ACKS_RECORDED = Counter("facets_acks_recorded_total", "Steps of routers that were written to facets.acks.")
ACKS_DROPPED = Counter("facets_acks_dropped_total", "Steps of routers that could not be written to facets.acks.")
HTTP_CLIENTS = Gauge("facets_http_clients", "Connected clients of /v1/changes.")
HTTP_CAUGHT_UP = Counter("facets_http_caught_up_total", "Clients whose cursor was older than the ring.")
HTTP_ENDED = Counter(
    "facets_http_ended_total", "Ended (or refused) clients of /v1/changes.", ["reason"]
)  # reason: gone (by themselves), slow, stalled, clients (refused), shutdown, unavailable
