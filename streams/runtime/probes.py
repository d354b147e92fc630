"""`/metrics`, `/healthz` and `/readyz`, which every process serves on its HTTP port.

`/healthz` tells that the process runs: without an answer, an orchestrator restarts it. `/readyz` tells whether it does
its work, and if not, what it waits for.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from streams.runtime.listening import listen_errors
from streams.runtime.own_names import answers_to

HOST = "127.0.0.1"


class Health(msgspec.Struct, forbid_unknown_fields=True):
    """The process runs."""

    healthy: bool


Check = Callable[[], str]
"""Why something isn't ready; "" when it is."""

_RETRY_SECONDS = 1
_SHUTDOWN_SECONDS = 1.0


class Readiness:
    """A process's conditions for being ready, by name. `details` are added to the answer when it is ready; `refresh` is
    called before the metrics are read."""

    def __init__(
        self,
        needs: Mapping[str, Check] | None = None,
        *,
        details: Callable[[], Mapping[str, Any]] = dict,
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        self.needs: dict[str, Check] = dict(needs or {})
        self.details = details
        self.refresh = refresh

    def missing(self) -> dict[str, str]:
        """The conditions that aren't met, and why."""
        return {name: reason for name, check in self.needs.items() if (reason := check())}


def add_probe_routes(app: web.Application, readiness: Readiness) -> None:
    """Add `GET /metrics`, `/healthz` and `/readyz`."""

    async def metrics(request: web.Request) -> web.Response:
        readiness.refresh()
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def healthy(request: web.Request) -> web.Response:
        return web.json_response(msgspec.to_builtins(Health(True)))

    async def ready(request: web.Request) -> web.Response:
        missing = readiness.missing()
        if missing:
            text = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
            return web.json_response({"error": text}, status=503, headers={"Retry-After": str(_RETRY_SECONDS)})
        return web.json_response({"ready": True, **readiness.details()})

    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", healthy)
    app.router.add_get("/readyz", ready)


@asynccontextmanager
async def probe_server(
    host: str, port: int, readiness: Readiness, *, names: Collection[str] = (), or_any: bool = False
) -> AsyncIterator[int]:
    """Serve the probes while the block runs; yields the port (port 0 means any free one, which `or_any` also uses if
    the port is taken). `names` are those that it answers to, see `own_names`. Raises FacetsError if the address is not
    available."""
    app = web.Application(middlewares=[answers_to((host, *names))])
    add_probe_routes(app, readiness)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        with listen_errors("the metrics and health server", host, port):
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError:
                if not or_any:
                    raise
                await web.TCPSite(runner, host, 0).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
