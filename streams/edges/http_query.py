"""Parameters of HTTP requests: each is checked, and what is wrong is said by name, with what is allowed."""

import math
import re
from collections.abc import Awaitable, Callable, Iterable

from aiohttp import web

from streams.core.changes.events import Selection
from streams.core.records import TABLES
from streams.core.subscription import Filter

_MAX_VALUES = 100
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_CLUSTER = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_KINDS = {
    "namespace": (_NAME, "a Kubernetes name (lower case letters, digits, - and .)"),
    "service": (_NAME, "a Kubernetes name (lower case letters, digits, - and .)"),
    "cluster": (_CLUSTER, "a cluster's name (letters, digits, - _ and .)"),
    "resourceVersion": (re.compile("[0-9]{1,20}"), "a decimal number"),
}


class BadParameter(Exception):
    """A parameter that can't be, with what is allowed."""

    def __init__(self, name: str, said: str, allowed: str) -> None:
        super().__init__(f"parameter {name} {f'is {said[:80]!r}' if said else 'is missing'}: it must be {allowed}")
        self.name = name


class Busy(Exception):
    """Nothing can be served now; ask again after `seconds`."""

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
        return web.json_response({"error": f"there is no {request.path[:200]}: see /openapi.json"}, status=404)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return web.json_response({"error": f"use {allowed}"}, status=405, headers={"Allow": allowed})


def known_only(request: web.Request, *names: str) -> None:
    """Refuse parameters that mean nothing here: a filter with a misspelt name would let everything through."""
    for name in request.query:
        if name not in names:
            raise BadParameter(name[:40], request.query[name], f"left out; there are {', '.join(names) or 'none'}")


def one(request: web.Request, name: str, default: str | None = None) -> str:
    """A parameter that is given once; without a default it must be. Empty is as not given."""
    said = [each for each in request.query.getall(name, []) if each]
    if len(said) > 1:
        raise BadParameter(name, ", ".join(said), "given once")
    if not said and default is None:
        raise BadParameter(name, "", f"given, and be {_KINDS[name][1]}")
    return checked(name, said[0]) if said else default or ""


def many(request: web.Request, name: str) -> list[str]:
    """A parameter that may be repeated."""
    said = request.query.getall(name, [])
    if len(said) > _MAX_VALUES:
        raise BadParameter(name, f"{len(said)} values", f"given at most {_MAX_VALUES} times")
    return [checked(name, each) for each in said]


def seconds(request: web.Request, name: str, default: float, most: float) -> float:
    """A time in seconds."""
    said = request.query.get(name, str(default))
    try:
        found = float(said)
    except ValueError:
        found = math.nan
    if not 0 <= found <= most:
        raise BadParameter(name, said, f"a number of seconds from 0 to {most:g}")
    return found


def selection(request: web.Request, tables: Iterable[str] = TABLES) -> Selection:
    """`table`, `cluster`, `namespace` and `service`, each repeatable; without one all."""
    named = request.query.getall("table", [])
    for each in named:
        if each not in TABLES:
            raise BadParameter("table", each, f"one of {', '.join(TABLES)}")
    wanted = Filter(
        frozenset(many(request, "cluster")), frozenset(many(request, "namespace")), frozenset(many(request, "service"))
    )
    return Selection(frozenset(named or tables), wanted)


def checked(name: str, said: str) -> str:
    """The value, if it can be one of that parameter."""
    pattern, allowed = _KINDS.get(name, (_NAME, "a name"))
    if not pattern.fullmatch(said):
        raise BadParameter(name, said, allowed)
    return said
