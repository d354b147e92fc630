"""The endpoints as routes of a web application: requests decoded, answers encoded, errors as JSON."""

import functools
from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from streams.errors import FacetsError
from streams.history.coverage import NotKnown, NotYetKnown
from streams.serve.http.endpoint import Anything, Endpoint, Error, Parameters, query_type
from streams.serve.http.openapi import openapi
from streams.serve.http.past import ExclusivePast, StoredPast
from streams.serve.http.query import Busy, Expired, Failure, NotFound, NotUpToBound, decode_parameters
from streams.serve.http.sse import ChangesHub
from streams.serve.xds.server import XdsServer
from streams.subscription.names import UnknownName

_STORE_SECONDS = 5
"""After how long to ask again where Kafka does not answer."""


class ServerParts(NamedTuple):
    """What the endpoints need of the server. `clock` gives seconds since the epoch; `description` is the OpenAPI
    document; `past` answers questions to the past."""

    xds: XdsServer
    hub: ChangesHub
    clock: Callable[[], float]
    description: Callable[[], bytes]
    past: ExclusivePast


def add_endpoints(
    app: web.Application,
    xds: XdsServer,
    hub: ChangesHub,
    clock: Callable[[], float],
    endpoints: Iterable[Endpoint],
    index: Path | None = None,
) -> None:
    """Add a route for each endpoint with a handler. The past is answered from the index, if there is one."""
    all_endpoints = tuple(endpoints)
    release = version("service-facets")
    past = ExclusivePast(StoredPast(hub.bootstrap, index, hub.feed.sealed_ends))
    app.on_shutdown.append(past.close)
    parts = ServerParts(
        xds, hub, clock, functools.cache(lambda: msgspec.json.encode(openapi(release, all_endpoints))), past
    )
    for endpoint in all_endpoints:
        if endpoint.handle is not None:
            app.router.add_get(
                endpoint.path, functools.partial(_answer, endpoint, parts), allow_head=not endpoint.stays
            )


async def _answer(endpoint: Endpoint, parts: ServerParts, request: web.Request) -> web.StreamResponse:
    headers = (field.encode_name for field in msgspec.structs.fields(endpoint.headers))
    path = decode_parameters(request.match_info.items(), endpoint.path_parameters)
    query = query_type(endpoint.query, getattr(path, "table", ""))
    parameters = Parameters(
        decode_parameters(() if query is Anything else request.query.items(), query),
        path,
        decode_parameters(
            ((name, request.headers[name]) for name in headers if name in request.headers), endpoint.headers
        ),
    )
    assert endpoint.handle is not None
    answer = await endpoint.handle(parts, request, parameters)
    return answer if isinstance(answer, web.StreamResponse) else json_response(answer)


def json_response(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """An answer as JSON."""
    text = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return web.Response(body=text, status=status, headers=headers, content_type="application/json", charset="utf-8")


@web.middleware
async def in_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answers errors as JSON (`Error`)."""
    try:
        return await handler(request)
    except Failure as failure:
        return _failure_response(failure)
    except FacetsError as error:
        return _failure_response(_failure_of(error))
    except web.HTTPNotFound:
        text = f"not found: {request.path[:200]} (/openapi.json lists the paths)"
        return json_response(Error(text, "UNKNOWN_QUERY_TYPE"), 404)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        text = f"method not allowed: use {allowed}"
        return json_response(Error(text, "UNKNOWN_QUERY_TYPE"), 405, {"Allow": allowed})


def _failure_of(error: FacetsError) -> Failure:
    """What a client is told of an error of ours: which of the names that HTTP has for it is right."""
    text = f"{error}; {error.remedy}" if error.remedy else str(error)
    if isinstance(error, NotYetKnown):
        return NotUpToBound(text)
    if isinstance(error, NotKnown):
        return Expired(text)
    if isinstance(error, UnknownName):
        return NotFound(text)
    return Busy(text, _STORE_SECONDS, "STORE_EXCEPTION")


def _failure_response(failure: Failure) -> web.Response:
    headers = {"Retry-After": str(failure.seconds)} if failure.seconds else None
    return json_response(Error(str(failure), failure.reason, failure.parameter), failure.status, headers)
