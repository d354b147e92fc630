"""`GET /v1/history/NAMESPACE/SERVICE`: a Service's rows over time, each with its cause and its change."""

from typing import Annotated, Any

import msgspec
from aiohttp import web

from streams.serve.http.encoding import print_row
from streams.serve.http.endpoint import Endpoint, Parameters
from streams.serve.http.parameters import (
    MAX_VALUES,
    REPEATABLE,
    ClusterName,
    KubernetesName,
    Limit,
    Table,
    Time,
)
from streams.serve.http.query import BadParameter, read_time
from streams.serve.http.rows import HISTORY, now_text, stream_items, unknown_name
from streams.subscription.rows import Filter
from streams.wire.records import CLUSTERSET, FOLDED_TABLES, TABLES


class Path(msgspec.Struct, forbid_unknown_fields=True):
    """Whose rows."""

    namespace: KubernetesName
    service: KubernetesName


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """Which of them."""

    cluster: Annotated[list[ClusterName], REPEATABLE] = []
    table: Annotated[list[Table], msgspec.Meta(max_length=MAX_VALUES, description="Repeatable; without one all.")] = []
    since: Annotated[Time, msgspec.Meta(description="From then on.")] | msgspec.UnsetType = msgspec.UNSET
    until: Annotated[Time, msgspec.Meta(description="Up to then.")] | msgspec.UnsetType = msgspec.UNSET
    limit: Annotated[Limit, msgspec.Meta(description="Rows at most: the newest.")] = 100


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> web.StreamResponse:
    path: Path = parameters.path
    query: Query = parameters.query
    if CLUSTERSET in query.table and query.cluster:
        raise BadParameter("cluster", "a row of the clusterset is of all clusters: leave parameter cluster out")
    now = now_text(parts)
    since = read_time("since", query.since, now) if query.since else ""
    until = read_time("until", query.until, now) if query.until else ""
    if since and until and since > until:
        raise BadParameter("since", f"parameter since is after until: {since} and {until}")
    tables = [table for table in FOLDED_TABLES if table in query.table] or (TABLES if query.cluster else FOLDED_TABLES)
    selection = Filter(frozenset(query.cluster), frozenset({path.namespace}), frozenset({path.service}))
    past = await parts.past.history(selection, tables, since=since, until=until, last=query.limit + 1)
    if not past.is_known:
        raise unknown_name(parts.hub.feed, "", query.cluster, path.namespace, path.service)
    rows = past.rows[-query.limit :]
    tail = {"more": len(past.rows) > query.limit, "remarks": past.remarks}
    return await stream_items(request, (print_row(row) for row in rows), tail)


ENDPOINT = Endpoint(
    "/v1/history/{namespace}/{service}",
    "getHistory",
    "A Service's rows over time, oldest first, each with what caused it and what it changed.",
    HISTORY,
    _handle,
    query=Query,
    path_parameters=Path,
    description="The rows follow from the retained journal, so those that compaction has removed from the tables are "
    "included, and those of deleted Services. At most `limit`, the newest; `more` says that there are older ones: ask "
    "with `until`. It is folded again for it: one such request at a time. The clusterset's sets are of no cluster: "
    "they are left out where one is given.",
)
