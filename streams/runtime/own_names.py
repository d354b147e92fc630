"""Which requests the HTTP servers answer: those that call them by an address, or by a name of their own.

A web page elsewhere can have a browser send requests to this machine, under a name of the page's that resolves to it
(DNS rebinding); to the browser the answers are the page's own. So a request's Host (RFC 9110, 7.2) has to be an IP
address, `localhost`, a name without a domain (which nobody else can own), or one of the names that the operator gives.
And a request that a page makes (Origin, RFC 6454, 7) has to come from a page of this server.
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware


def is_own(host: str, names: Collection[str] = ()) -> bool:
    """Whether a Host header (NAME, NAME:PORT or [ADDRESS]:PORT) calls the server by an address or a name of its own."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        name = name.rstrip(".")
    except ValueError:
        return False
    return _is_address(name) or "." not in name or name.endswith(".localhost") or name in {own.lower() for own in names}


def answers_to(names: Collection[str]) -> Middleware:
    """A middleware of aiohttp that refuses other requests: 421 for another server's Host, 403 for another page's
    Origin."""

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host, origin = request.headers.get("Host", ""), request.headers.get("Origin")
        if host and not is_own(host, names):
            return web.json_response(
                {
                    "error": f"{host[:_SHOWN]!r} is not a name of this server",
                    "remedy": "call it by its address, or start it with --http-name for each of its names",
                },
                status=421,
            )
        if origin is not None and urlsplit(origin).netloc != host:
            return web.json_response({"error": "pages of another origin are not answered"}, status=403)
        return await handler(request)

    return check


_SHOWN = 80


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
