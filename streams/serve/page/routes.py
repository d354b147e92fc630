"""The page's files as routes, with the headers that keep everything else out of it.

All that the page shows of rows is inserted as text; the policy is the second wall. Scripts, styles and connections are
this server's alone (CSP Level 3), nobody may frame it, and it sends no referrer.
"""

import functools
import hashlib
from importlib.resources import files
from typing import NamedTuple

from aiohttp import web

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Asked for anew each time, mostly answered with 304: the files of one release belong together.
    "Cache-Control": "no-cache",
}

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_DOCUMENT = "index.html"
_ANY = "*"


class PageFile(NamedTuple):
    """A file of the page."""

    content: bytes
    content_type: str
    etag: str


def page_files() -> dict[str, PageFile]:
    """The page's files, by name."""
    return {
        entry.name: PageFile(content, content_type, hashlib.blake2b(content, digest_size=16).hexdigest())
        for entry in files(__package__).joinpath("files").iterdir()
        if (content_type := _TYPES.get(f".{entry.name.rpartition('.')[2]}")) and (content := entry.read_bytes())
    }


def add_page(app: web.Application) -> None:
    """Add `GET /` and `GET /page/NAME`."""
    by_name = page_files()
    app.router.add_get("/", functools.partial(_answer, by_name[_DOCUMENT]))
    for name, file in by_name.items():
        if name != _DOCUMENT:
            app.router.add_get(f"/page/{name}", functools.partial(_answer, file))


async def _answer(file: PageFile, request: web.Request) -> web.Response:
    held = any(match.value in {file.etag, _ANY} for match in request.if_none_match or ())
    response = web.Response(status=304, headers=_HEADERS) if held else web.Response(body=file.content, headers=_HEADERS)
    if not held:
        response.content_type = file.content_type
        response.charset = "utf-8"
    response.etag = file.etag
    return response
