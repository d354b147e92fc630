"""`GET /openapi.json`: the description of all endpoints."""

from typing import Any

from aiohttp import web

from streams.serve.http.endpoint import Anything, Asked, Body, Endpoint


async def _handle(parts: Any, request: web.Request, asked: Asked) -> bytes:
    text: bytes = parts.description()
    return text


ENDPOINT = Endpoint(
    "/openapi.json", "getDescription", "This description.", Body("application/json", {"type": "object"}, "OpenAPI."),
    _handle,
    query=Anything,
)  # fmt: skip
