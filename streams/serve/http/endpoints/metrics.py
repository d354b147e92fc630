"""`GET /metrics`, which every process of ours answers (`runtime/probes`)."""

from streams.serve.http.endpoint import Body, Endpoint

ENDPOINT = Endpoint(
    "/metrics", "getMetrics", "Metrics for Prometheus.", Body("text/plain", {"type": "string"}, "Its text format.")
)
