"""`GET /v1/facets/TABLE`: all rows of a table."""

from typing import Annotated, Any

import msgspec
from aiohttp import web

from streams.serve.http.encoding import Selection
from streams.serve.http.endpoint import Endpoint, Parameters, TablePath
from streams.serve.http.parameters import REPEATABLE, ClusterName, Conditional, KubernetesName
from streams.serve.http.rows import ITEMS, answer_rows
from streams.subscription.rows import Filter


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """Which rows."""

    cluster: Annotated[list[ClusterName], REPEATABLE] = []
    namespace: Annotated[list[KubernetesName], REPEATABLE] = []
    service: Annotated[list[KubernetesName], REPEATABLE] = []


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> web.StreamResponse:
    parts.hub.check_ready()
    query: Query = parameters.query
    parts.hub.check_served((parameters.path.table,), query.cluster)
    row_filter = Filter(frozenset(query.cluster), frozenset(query.namespace), frozenset(query.service))
    return await answer_rows(request, parts.hub.feed.rows(Selection(frozenset({parameters.path.table}), row_filter)))


ENDPOINT = Endpoint(
    "/v1/facets/{table}",
    "list{table}",
    "All {table} rows.",
    ITEMS,
    _handle,
    query=Query,
    path_parameters=TablePath,
    headers=Conditional,
    description="A row of the clusterset is of all clusters: it takes no `cluster`.",
)
