"""The endpoints as routes of a web application: requests decoded, answers encoded, errors as JSON."""

import functools
from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from streams.serve.http.endpoint import Anything, Endpoint, Error, Parameters
from streams.serve.http.openapi import openapi
from streams.serve.http.query import BadParameter, Busy, NotFound, decode_parameters
from streams.serve.http.sse import ChangesHub
from streams.serve.xds.server import XdsServer


class ServerParts(NamedTuple):
    """What the endpoints need of the server. `clock` gives seconds since the epoch; `description` is the OpenAPI
    document."""

    xds: XdsServer
    hub: ChangesHub
    clock: Callable[[], float]
    description: Callable[[], bytes]


def add_endpoints(
    app: web.Application, xds: XdsServer, hub: ChangesHub, clock: Callable[[], float], endpoints: Iterable[Endpoint]
) -> None:
    """Add a route for each endpoint with a handler."""
    all_endpoints = tuple(endpoints)
    release = version("service-facets")
    parts = ServerParts(xds, hub, clock, functools.cache(lambda: msgspec.json.encode(openapi(release, all_endpoints))))
    for endpoint in all_endpoints:
        if endpoint.handle is not None:
            app.router.add_get(
                endpoint.path, functools.partial(_answer, endpoint, parts), allow_head=not endpoint.stays
            )


async def _answer(endpoint: Endpoint, parts: ServerParts, request: web.Request) -> web.StreamResponse:
    headers = (field.encode_name for field in msgspec.structs.fields(endpoint.headers))
    parameters = Parameters(
        decode_parameters(() if endpoint.query is Anything else request.query.items(), endpoint.query),
        decode_parameters(request.match_info.items(), endpoint.path_parameters),
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
    """Answers errors as JSON: {"error": ...}."""
    try:
        return await handler(request)
    except BadParameter as error:
        return json_response(Error(str(error), error.name), 400)
    except Busy as error:
        return json_response(Error(str(error)), 503, {"Retry-After": str(error.seconds)})
    except NotFound as error:
        return json_response(Error(str(error)), 404)
    except web.HTTPNotFound:
        return json_response(Error(f"not found: {request.path[:200]} (/openapi.json lists the paths)"), 404)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        return json_response(Error(f"method not allowed: use {allowed}"), 405, {"Allow": allowed})
