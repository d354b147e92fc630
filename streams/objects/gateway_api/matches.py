"""Which requests a rule matches, in canonical form, so that equal rules have equal matches: the API's defaults are
filled in, header names are in lower case, and unordered lists are sorted (HTTPRouteMatch, GRPCRouteMatch).

The order of `canonical_matches` is the one in which a router must try them. The API leaves the place of regular
expressions to implementations: here they stand after exact paths and before prefixes.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from streams.objects.fields import Json, MalformedObject, mapping, objects, text
from streams.wire.routing_records import GRPCMethodMatch, NamedMatch, PathMatch, RequestMatch

MAX_HEADER_VALUE = 4096
"""Characters of a header's value (HTTPHeaderMatch.value)."""

_PATH_RANKS = {"Exact": 0, "RegularExpression": 1}
_encode = msgspec.json.encode

Precedence = tuple[int, ...]


def canonical_matches(kind: str, value: Any, at: str) -> list[RequestMatch]:
    """A rule's `matches`, without duplicates, in the order in which to try them. Raises MalformedObject."""
    reader = _READERS.get(kind)
    if reader is None:
        return [RequestMatch()]
    entries = objects(value, at)
    matches = [reader(match, f"{at}[{i}]") for i, match in enumerate(entries)] or [reader({}, at)]
    distinct = {_encode(match): match for match in matches}
    return [match for _, match in sorted(distinct.items(), key=lambda item: (precedence(item[1]), item[0]))]


def identity(match: RequestMatch) -> bytes:
    """Equal where the same requests match."""
    return _encode(match)


def precedence(match: RequestMatch) -> Precedence:
    """Sorts the matches that go first to the front: exact paths, longest prefix, method, most headers, most query
    parameters (HTTPRouteRule.matches); longest service, longest method, most headers (GRPCRouteRule.matches)."""
    if match.grpc_method is not None:
        call = match.grpc_method
        return -len(call.service), -len(call.method), -len(match.headers)
    if match.path is None:
        return 0, 0, -len(match.headers)
    return (
        _PATH_RANKS.get(match.path.type, len(_PATH_RANKS)),
        -len(match.path.value),
        not match.method,
        -len(match.headers),
        -len(match.query_params),
    )


def _http(match: Json, at: str) -> RequestMatch:
    path = mapping(match.get("path"), f"{at}.path")
    kind = text(path.get("type"), f"{at}.path.type", "PathPrefix")
    value = text(path.get("value"), f"{at}.path.value", "/")
    if kind == "PathPrefix":
        # A prefix is of whole path elements; a trailing slash says nothing (HTTPPathMatch).
        value = value.rstrip("/") or "/"
    return RequestMatch(
        path=PathMatch(kind, value),
        method=text(match.get("method"), f"{at}.method", ""),
        headers=_headers(match.get("headers"), f"{at}.headers"),
        query_params=_named(objects(match.get("queryParams"), f"{at}.queryParams"), f"{at}.queryParams", str),
    )


def _grpc(match: Json, at: str) -> RequestMatch:
    method = mapping(match.get("method"), f"{at}.method")
    service = text(method.get("service"), f"{at}.method.service", "")
    name = text(method.get("method"), f"{at}.method.method", "")
    kind = text(method.get("type"), f"{at}.method.type", "Exact")
    return RequestMatch(
        grpc_method=GRPCMethodMatch(kind, service, name) if service or name else None,
        headers=_headers(match.get("headers"), f"{at}.headers"),
    )


def _headers(value: Any, at: str) -> list[NamedMatch]:
    return _named(objects(value, at), at, str.lower)


def _named(entries: Iterable[Json], at: str, fold: Any) -> list[NamedMatch]:
    """By name; of entries with equivalent names only the first counts (HTTPHeaderMatch.name)."""
    matches: dict[str, NamedMatch] = {}
    for i, entry in enumerate(entries):
        name = fold(text(entry.get("name"), f"{at}[{i}].name"))
        kind = text(entry.get("type"), f"{at}[{i}].type", "Exact")
        matches.setdefault(name, NamedMatch(kind, name, _value(entry.get("value"), f"{at}[{i}].value")))
    return [match for _, match in sorted(matches.items())]


def _value(value: Any, at: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_HEADER_VALUE:
        raise MalformedObject(f"{at}: {value!r:.80} is not a string of at most {MAX_HEADER_VALUE} characters")
    return value


_READERS = {"HTTPRoute": _http, "GRPCRoute": _grpc}
