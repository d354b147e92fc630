"""`GET /v1/facets/TABLE/NAMESPACE/SERVICE`: a Service's rows of one table."""

from typing import Any

from aiohttp import web

from streams.serve.http.endpoint import Endpoint, Parameters, TablePath
from streams.serve.http.parameters import Conditional, KubernetesName
from streams.serve.http.query import NotFound
from streams.serve.http.rows import ITEMS, answer_rows
from streams.wire.records import CLUSTERSET


class Path(TablePath):
    """Whose rows."""

    namespace: KubernetesName
    service: KubernetesName


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> web.StreamResponse:
    parts.hub.check_ready()
    path: Path = parameters.path
    parts.hub.check_served((path.table,), ())
    rows = parts.hub.feed.row(path.table, path.namespace, path.service)
    if not rows:
        raise NotFound(
            f"{path.table} {path.namespace}/{path.service} not found: no cluster exports it"
            if path.table == CLUSTERSET
            else f"{path.table} {path.namespace}/{path.service} not found in any cluster"
        )
    return await answer_rows(request, rows)


ENDPOINT = Endpoint(
    "/v1/facets/{table}/{namespace}/{service}",
    "get{table}",
    "A Service's {table} rows: one for each cluster that has it; of the clusterset one, that of its set.",
    ITEMS,
    _handle,
    path_parameters=Path,
    headers=Conditional,
)
