"""Query parameters of HTTP requests, validated; an error names the parameter and what is allowed."""

import math
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from streams.serve.http.encoding import Selection
from streams.serve.http.openapi import MAX_VALUES
from streams.subscription.delivery import Filter
from streams.subscription.names import suggestion
from streams.wire.name_syntax import CLUSTER_NAME, KUBERNETES_NAME, RESOURCE_VERSION
from streams.wire.records import TABLES

NO_SNAPSHOT = "starting: the first snapshot of the tables has not been read yet"
_KINDS = {
    "namespace": KUBERNETES_NAME,
    "service": KUBERNETES_NAME,
    "cluster": CLUSTER_NAME,
    "resourceVersion": RESOURCE_VERSION,
}


class BadParameter(Exception):
    """A query parameter that is unknown, missing or invalid."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name

    @classmethod
    def invalid(cls, name: str, value: str, allowed: str) -> "BadParameter":
        """A value that is not allowed; `allowed` completes "must be"."""
        return cls(name, f"parameter {name} must be {allowed} (got {value[:80]!r})")


class Busy(Exception):
    """The request can't be served now; retry after `seconds`."""

    def __init__(self, text: str, seconds: int) -> None:
        super().__init__(text)
        self.seconds = seconds


@web.middleware
async def in_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answers what goes wrong as JSON: {"error": ...}."""
    try:
        return await handler(request)
    except BadParameter as error:
        return web.json_response({"error": str(error), "parameter": error.name}, status=400)
    except Busy as error:
        return web.json_response({"error": str(error)}, status=503, headers={"Retry-After": str(error.seconds)})
    except web.HTTPNotFound:
        return web.json_response(
            {"error": f"not found: {request.path[:200]} (/openapi.json lists the paths)"}, status=404
        )
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return web.json_response(
            {"error": f"method not allowed: use {allowed}"}, status=405, headers={"Allow": allowed}
        )


def known_only(request: web.Request, *names: str) -> None:
    """Refuse unknown parameters: a filter with a misspelt name would let everything through."""
    for name in request.query:
        if name not in names:
            raise BadParameter(name[:40], _unknown(name[:40], names))


def _unknown(name: str, known: tuple[str, ...]) -> str:
    if not known:
        return f"this path takes no query parameters (got {name})"
    return f"unknown parameter {name}: {suggestion(name, known)}"


def one(request: web.Request, name: str, default: str | None = None) -> str:
    """A parameter that is given once; without a default it must be."""
    said = request.query.getall(name, [])
    if len(said) > 1:
        raise BadParameter(name, f"parameter {name} is given {len(said)} times; give it once")
    if not said and default is None:
        raise BadParameter(name, f"parameter {name} is missing: {_KINDS[name].description}")
    return checked(name, said[0]) if said else default or ""


def many(request: web.Request, name: str) -> list[str]:
    """A parameter that may be repeated."""
    return [checked(name, each) for each in _values(request, name)]


def _values(request: web.Request, name: str) -> list[str]:
    found = request.query.getall(name, [])
    if len(found) > MAX_VALUES:
        raise BadParameter(name, f"parameter {name} is given {len(found)} times; the limit is {MAX_VALUES}")
    return found


def seconds(request: web.Request, name: str, default: float, most: float) -> float:
    """A time in seconds."""
    said = request.query.get(name, str(default))
    try:
        found = float(said)
    except ValueError:
        found = math.nan
    if not 0 <= found <= most:
        raise BadParameter.invalid(name, said, f"a number of seconds from 0 to {most:g}")
    return found


def selection(request: web.Request, tables: Iterable[str] = TABLES) -> Selection:
    """`table`, `cluster`, `namespace` and `service`, each repeatable; without one all."""
    named = _values(request, "table")
    for each in named:
        if each not in TABLES:
            raise BadParameter.invalid("table", each, f"one of {', '.join(TABLES)}")
    wanted = Filter(
        frozenset(many(request, "cluster")), frozenset(many(request, "namespace")), frozenset(many(request, "service"))
    )
    return Selection(frozenset(named or tables), wanted)


def checked(name: str, said: str) -> str:
    """The value, if it can be one of that parameter."""
    syntax = _KINDS[name]
    if not syntax.matches(said):
        raise BadParameter.invalid(name, said, syntax.description)
    return said
