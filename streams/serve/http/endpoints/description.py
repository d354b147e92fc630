"""`GET /openapi.json`: the description of all endpoints."""

from typing import Any

from aiohttp import web

from streams.serve.http.endpoint import Anything, Body, Endpoint, Parameters


async def _handle(parts: Any, request: web.Request, parameters: Parameters) -> bytes:
    text: bytes = parts.description()
    return text


ENDPOINT = Endpoint(
    "/openapi.json", "getDescription", "This description.", Body("application/json", {"type": "object"}, "OpenAPI."),
    _handle,
    query=Anything,
)  # fmt: skip
