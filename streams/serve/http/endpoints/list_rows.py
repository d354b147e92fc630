"""`GET /v1/facets/TABLE`: rows of a table: filtered, sorted, in pages, and as of a moment."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from aiohttp import web

from streams.serve.http.cut import Cut
from streams.serve.http.encoding import PrintedRow, Selection
from streams.serve.http.endpoint import Body, Endpoint, Parameters, TablePath
from streams.serve.http.feed import Lost, ShownRow
from streams.serve.http.filters import ContentFilter
from streams.serve.http.list_query import LISTS, QUERIES, select_fields
from streams.serve.http.paging import Order, Value, paginate, skip
from streams.serve.http.parameters import Conditional
from streams.serve.http.printed import Printed, decode
from streams.serve.http.query import BadParameter, NotUpToBound, read_time
from streams.serve.http.rows import answer_rows, now_text
from streams.serve.http.waiters import WAITERS
from streams.subscription.delivery import reached
from streams.subscription.freshness import clusters_in
from streams.subscription.names import unknown_name
from streams.subscription.rows import Filter
from streams.wire.partitioning import partition_of
from streams.wire.records import FOLDED_TABLES

_BETWEEN_PAUSES = 500
"""How many rows are looked through before others have their turn."""

_VALUES: dict[str, Callable[[Printed], Value]] = {
    "cluster": lambda row: row.cluster,
    "namespace": lambda row: row.namespace,
    "name": lambda row: row.name,
    "version": lambda row: row.version,
    "state": lambda row: row.state,
    "at": lambda row: row.as_of.at,
    "endpoints": lambda row: len(row.endpoints),
}


_OF_A_PAGE = frozenset({"limit", "after", "fields", "timeout"})


class _Sorted(NamedTuple):
    """A row with what it is sorted by."""

    row: ShownRow
    value: Value


class _Rows(NamedTuple):
    """The rows that a list is made of, and what is said of them."""

    rows: list[ShownRow]
    tail: dict[str, Any]


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> web.StreamResponse:
    query, table = parameters.query, parameters.path.table
    parts.hub.check_ready()
    parts.hub.check_served((table,), query.cluster)
    _check_moment(query)
    content = ContentFilter.of(query)
    chosen = await _rows(parts, table, query)
    tail = dict(chosen.tail)
    asked, order, after = _asked(table, query), _order(query.sort or ""), query.after or ""
    if query.sort:
        candidates = [row async for row in _sorted(_fitting(table, chosen.rows, content), query.sort)]
    else:
        # They come in this order: no more of them are looked at than are shown.
        rest = skip(map(_by_place, chosen.rows), order, asked, after)
        candidates = await _first(_fitting(table, (item.row for item in rest), content), query.limit or len(rest))
    page = paginate(candidates, order, asked, query.limit or max(1, len(candidates)), after)
    kept = [item.row for item in page.items]
    if page.next:
        tail["next"] = page.next
    fields = frozenset(query.fields)
    return await answer_rows(request, kept, tail, partial(select_fields, fields=fields) if fields else bytes)


def _asked(table: str, query: Any) -> str:
    """What the pages of a list have in common."""
    return repr([table, *((name, getattr(query, name)) for name in query.__struct_fields__ if name not in _OF_A_PAGE)])


def _check_moment(query: Any) -> None:
    """Raise BadParameter for moments that exclude each other, or that are of no one cluster."""
    moments = {"at": "at", "at_least": "atLeast", "cut": "cut"}
    given = [shown for name, shown in moments.items() if getattr(query, name, "")]
    if "at" in given and len(given) > 1:
        raise BadParameter(given[1], f"parameter at is of the past: leave {given[1]} out", "UNKNOWN_QUERY_TYPE")
    if "atLeast" in given and len(query.cluster) != 1:
        raise BadParameter(
            "cluster", "parameter atLeast is of one cluster's objects: give cluster once", "UNKNOWN_QUERY_TYPE"
        )


async def _rows(parts: Any, table: str, query: Any) -> _Rows:
    """The rows of the clusters, namespaces and Services that are asked for, as of the moment that is asked for."""
    row_filter = Filter(frozenset(query.cluster), frozenset(query.namespace), frozenset(query.service))
    if query.at:
        past = await parts.past.rows_at(read_time("at", query.at, now_text(parts)), row_filter, (table,))
        rows = sorted(past.rows, key=lambda row: (row.cluster, row.namespace, row.name))
        return _Rows([ShownRow(PrintedRow(row), "") for row in rows], {"remarks": past.remarks} if past.remarks else {})
    selection = Selection(frozenset({table}), row_filter)
    at_least, is_cut = getattr(query, "at_least", None), bool(getattr(query, "cut", None))
    if not at_least and not is_cut:
        return _Rows(parts.hub.feed.rows(selection), {})
    with WAITERS.count_in(parts.xds):
        deadline = asyncio.get_running_loop().time() + query.timeout
        if at_least:
            await _wait_until_reached(parts, query, deadline)
        if not is_cut:
            return _Rows(parts.hub.feed.rows(selection), {})
        cut = await _take_cut(parts, table, query.cluster, deadline)
        feed = parts.hub.feed
        return _Rows([feed.show(row) for row in cut.rows() if selection.takes(row.row)], {"cut": cut.seqs})


async def _wait_until_reached(parts: Any, query: Any, deadline: float) -> None:
    """Wait until the rows have everything of the cluster up to the resourceVersion. Raises NotFound, NotUpToBound."""
    feed, (cluster,) = parts.hub.feed, query.cluster
    if cluster not in (known := clusters_in(feed.seals)):
        raise unknown_name("cluster", cluster, known)
    partitions = [*range(feed.partitions)]
    if len(query.namespace) == len(query.service) == 1:
        partitions = [partition_of(query.namespace[0], query.service[0], feed.partitions)]

    def behind() -> list[int]:
        return [p for p in partitions if not reached(feed.seals, p, cluster, query.resource, query.at_least)]

    try:
        async with asyncio.timeout_at(deadline):
            while behind():
                await parts.xds.wait_for_change()
    except TimeoutError:
        raise NotUpToBound(
            f"cluster {cluster} is not up to {query.resource} {query.at_least} yet in partitions {_listed(behind())}"
        ) from None


async def _take_cut(parts: Any, table: str, clusters: list[str], deadline: float) -> Cut:
    """Wait until the rows are those at a cut. Raises NotUpToBound."""
    cut = Cut(parts.hub.feed, table, clusters)
    try:
        async with asyncio.timeout_at(deadline):
            while True:
                try:
                    if cut.advance():
                        return cut
                except Lost:
                    cut = Cut(parts.hub.feed, table, clusters)
                    continue
                await parts.xds.wait_for_change()
    except TimeoutError:
        behind = "; ".join(
            f"cluster {cluster} has not sealed seq {cut.seqs[cluster]} in partitions {_listed(partitions)}"
            for cluster, partitions in cut.behind().items()
        )
        raise NotUpToBound(f"there is no cut yet: {behind}") from None


async def _fitting(table: str, rows: Iterable[ShownRow], content: ContentFilter) -> AsyncIterator[ShownRow]:
    for number, row in enumerate(rows, 1):
        if content.is_empty or content.takes(table, row.text):
            yield row
        if number % _BETWEEN_PAUSES == 0:
            await asyncio.sleep(0)


async def _first(rows: AsyncIterator[ShownRow], limit: int) -> list[_Sorted]:
    """As many as are shown, and one more, if there is one."""
    first = []
    async for row in rows:
        first.append(_by_place(row))
        if len(first) > limit:
            break
    return first


async def _sorted(rows: AsyncIterator[ShownRow], sort: str) -> AsyncIterator[_Sorted]:
    value = _VALUES[sort.lstrip("-")]
    async for row in rows:
        yield _Sorted(row, value(decode(row.text)))


def _by_place(row: ShownRow) -> _Sorted:
    return _Sorted(row, row.printed.row.cluster)


def _order(sort: str) -> Order:
    return Order(lambda item: item.value, lambda item: _place(item.row), sort.startswith("-"))


def _place(row: ShownRow) -> tuple[str, ...]:
    return row.printed.row.cluster, row.printed.row.namespace, row.printed.row.name


def _listed(partitions: Iterable[int]) -> str:
    return ", ".join(map(str, partitions))


def _body(table: str) -> Body:
    whole, some = LISTS[table]
    schema = {"anyOf": [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in (whole, some)]}
    return Body("application/json", schema, "Success.", (whole, some), f"{table.capitalize()}Rows")


ENDPOINT = Endpoint(
    "/v1/facets/{table}",
    "list{table}",
    "Rows of the {table} table: filtered, sorted, in pages, and as of a moment.",
    {table: _body(table) for table in FOLDED_TABLES},
    _handle,
    query=QUERIES,
    path_parameters=TablePath,
    headers=Conditional,
    description="Without a parameter all rows, as of now. The pages of a list that changes are by key: a row that is "
    "there all the time, in the same place, comes once. With `atLeast` or `cut` it waits, and is NOT_UP_TO_BOUND after "
    "`timeout` seconds. With `at` the retained journal is folded again up to then: one such request at a time. A row "
    "of the clusterset is of all clusters: it takes no `cluster`.",
)
