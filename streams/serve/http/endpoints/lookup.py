"""`GET /v1/lookup`: which Services have an address, a DNS name, a Pod, a node or a zone, now or at a time."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any, NamedTuple

import msgspec
from aiohttp import web

from streams.history.queries import place
from streams.serve.http.encoding import PrintedRow, print_row
from streams.serve.http.endpoint import Endpoint, Parameters
from streams.serve.http.feed import Feed
from streams.serve.http.lookup import (
    LOOKED_AT,
    Found,
    Match,
    Question,
    by_address,
    by_dns,
    by_node,
    by_pod,
    by_zone,
)
from streams.serve.http.paging import Order, paginate, skip
from streams.serve.http.parameters import (
    REPEATABLE,
    AddressText,
    After,
    ClusterName,
    DnsName,
    KubernetesName,
    Limit,
    NodeName,
    PodName,
    Time,
    ZoneName,
)
from streams.serve.http.query import BadParameter, read_time
from streams.serve.http.rows import now_text
from streams.subscription.rows import Filter, Row
from streams.wire.address_text import parse_address
from streams.wire.records import Record

_BETWEEN_PAUSES = 500
"""How many rows are looked through before others have their turn."""

_BY: dict[str, Callable[[str], Question]] = {
    "address": by_address,
    "dns": by_dns,
    "pod": by_pod,
    "node": by_node,
    "zone": by_zone,
}


class _Candidate(NamedTuple):
    """A row that is looked at, with what prints it."""

    row: Row
    text: Callable[[], bytes]


class _Found(NamedTuple):
    """One that fits."""

    row: Row
    match: Match


_ORDER = Order(value=lambda item: place(item.row)[0], key=lambda item: place(item.row))


class Query(msgspec.Struct, forbid_unknown_fields=True):
    """What to look for (one thing), when, and where."""

    address: AddressText | msgspec.UnsetType = msgspec.UNSET
    dns: DnsName | msgspec.UnsetType = msgspec.UNSET
    pod: PodName | msgspec.UnsetType = msgspec.UNSET
    node: NodeName | msgspec.UnsetType = msgspec.UNSET
    zone: ZoneName | msgspec.UnsetType = msgspec.UNSET
    at: Annotated[Time, msgspec.Meta(description="As of then.")] | msgspec.UnsetType = msgspec.UNSET
    cluster: Annotated[list[ClusterName], REPEATABLE] = []
    namespace: Annotated[list[KubernetesName], REPEATABLE] = []
    limit: Limit = 100
    after: After | msgspec.UnsetType = msgspec.UNSET


class Lookup(Record, omit_defaults=True):
    """What is found, by table, Service and cluster; `next` is there where there is more: the `after` of the next page.
    `remarks` are the limits of what is known of that time."""

    items: list[Found]
    next: str = ""
    remarks: tuple[str, ...] = ()


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> Lookup:
    query: Query = parameters.query
    name, text = _asked(query)
    question = _BY[name](text)
    remarks: tuple[str, ...] = ()
    if query.at:
        # The clusterset's rows follow from all clusters', so that no cluster is left out here.
        row_filter = Filter(namespaces=frozenset(query.namespace))
        at = read_time("at", query.at, now_text(parts))
        if name == "address":
            past = await parts.past.owners(parse_address(text)[0], at)
        else:
            past = await parts.past.rows_at(at, row_filter, LOOKED_AT)
        candidates = [_Candidate(row, partial(print_row, row)) for row in past.rows if row.table in LOOKED_AT]
        remarks = past.remarks
    else:
        parts.hub.check_ready()
        feed: Feed = parts.hub.feed
        candidates = [_Candidate(row.row, partial(_text_now, feed, row)) for row in feed.printed_rows(LOOKED_AT)]
    asked = repr((name, text, query.at or "", sorted(query.cluster), sorted(query.namespace)))
    likely = skip(await _likely(candidates, question, query), _ORDER, asked, query.after or "")
    found = await _first(sorted(likely, key=_ORDER.key), question, query)
    page = paginate(found, _ORDER, asked, query.limit, query.after or "")
    return Lookup([item.match.shown() for item in page.items], page.next, remarks)


def _asked(query: Query) -> tuple[str, str]:
    """The name and the value of what is looked for."""
    given = [(name, str(value)) for name in _BY if (value := getattr(query, name)) is not msgspec.UNSET]
    if len(given) != 1:
        problem = f"{' and '.join(name for name, _ in given)} are given" if given else "none is given"
        raise BadParameter(
            given[1][0] if given else "address",
            f"give one of the parameters {', '.join(_BY)} ({problem})",
            "UNKNOWN_QUERY_TYPE",
        )
    return given[0]


async def _likely(candidates: Iterable[_Candidate], question: Question, query: Query) -> list[_Candidate]:
    """Those of the namespaces and clusters (a set is of all that have endpoints in it) that may fit."""
    likely = []
    for number, candidate in enumerate(candidates, 1):
        row = candidate.row
        is_selected = (not query.namespace or row.namespace in query.namespace) and (
            not row.cluster or not query.cluster or row.cluster in query.cluster
        )
        if is_selected and question.may_fit(row.name, candidate.text()):
            likely.append(candidate)
        if number % _BETWEEN_PAUSES == 0:
            await asyncio.sleep(0)
    return likely


def _text_now(feed: Feed, printed: PrintedRow) -> bytes:
    return feed.show(printed).text


async def _first(candidates: Iterable[_Candidate], question: Question, query: Query) -> list[_Found]:
    """As many that fit as are shown, and one more, if there is one."""
    found: list[_Found] = []
    for number, (row, text) in enumerate(candidates, 1):
        if match := question.find(row.table, text(), query.cluster):
            found.append(_Found(row, match))
            if len(found) > query.limit:
                break
        if number % _BETWEEN_PAUSES == 0:
            await asyncio.sleep(0)
    return found


ENDPOINT = Endpoint(
    "/v1/lookup",
    "lookUp",
    "Which Services have an address, a DNS name, a Pod, a node or a zone.",
    Lookup,
    _handle,
    query=Query,
    description="One of `address`, `dns`, `pod`, `node` and `zone` is given. The rows are those of the frontend (by "
    "cluster IP, DNS name or external name), of the backend and of the clusterset (by endpoints, or the set's DNS "
    "name). With `at` the index answers, if there is one that has the time; else the retained journal is folded again "
    "up to then. One such request at a time.",
)
