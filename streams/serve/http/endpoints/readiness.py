"""`GET /readyz`, which every process of ours answers (`runtime/probes`): the details that a server adds."""

from streams.serve.http.endpoint import Endpoint
from streams.wire.records import Record


class Ready(Record):
    """There is a snapshot of the tables, `at` is how far it goes, and `stale` are the clusters that are silent."""

    ready: bool
    at: str
    stale: list[str]


ENDPOINT = Endpoint("/readyz", "getReadiness", "Whether there is a snapshot of the tables to serve.", Ready)
