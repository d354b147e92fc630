"""`GET /healthz`, which every process of ours answers (`runtime/probes`)."""

from streams.runtime.probes import Health
from streams.serve.http.endpoint import Endpoint

ENDPOINT = Endpoint("/healthz", "getHealth", "Whether the process runs.", Health)
