"""`GET /v1/facets/TABLE/NAMESPACE/SERVICE`: a Service's rows of one table, now or at a time."""

from typing import Annotated, Any

import msgspec
from aiohttp import web

from streams.serve.http.encoding import PrintedRow
from streams.serve.http.endpoint import Endpoint, Parameters, TablePath
from streams.serve.http.feed import ShownRow
from streams.serve.http.parameters import REPEATABLE, ClusterName, Conditional, KubernetesName, Time
from streams.serve.http.query import read_time
from streams.serve.http.rows import ITEMS, answer_rows, now_text, unknown_name
from streams.subscription.rows import Filter


class Path(TablePath):
    """Whose rows."""

    namespace: KubernetesName
    service: KubernetesName


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """Which of them, and when."""

    cluster: Annotated[list[ClusterName], REPEATABLE] = []
    at: Annotated[Time, msgspec.Meta(description="As of then.")] | msgspec.UnsetType = msgspec.UNSET


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> web.StreamResponse:
    path: Path = parameters.path
    query: Query = parameters.query
    parts.hub.check_ready()
    parts.hub.check_served((path.table,), query.cluster)
    remarks: tuple[str, ...] = ()
    if query.at:
        selection = Filter(frozenset(query.cluster), frozenset({path.namespace}), frozenset({path.service}))
        past = await parts.past.rows_at(read_time("at", query.at, now_text(parts)), selection, (path.table,))
        rows = [ShownRow(PrintedRow(row), "") for row in sorted(past.rows, key=lambda row: row.cluster)]
        remarks = past.remarks
    else:
        shown = parts.hub.feed.row(path.table, path.namespace, path.service)
        rows = [row for row in shown if not query.cluster or row.printed.row.cluster in query.cluster]
    if not rows:
        raise unknown_name(parts.hub.feed, path.table, query.cluster, path.namespace, path.service, query.at or "")
    return await answer_rows(request, rows, {"remarks": remarks} if remarks else {})


ENDPOINT = Endpoint(
    "/v1/facets/{table}/{namespace}/{service}",
    "get{table}",
    "A Service's {table} rows: one for each cluster that has it; of the clusterset one, that of its set.",
    ITEMS,
    _handle,
    query=Query,
    path_parameters=Path,
    headers=Conditional,
    description="With `at` the retained journal is folded again up to then: one such request at a time; `remarks` are "
    "the limits of what is known of that time.",
)
