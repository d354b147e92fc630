"""An API server that answers by a script."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

from streams.kube.api_server import ApiServer
from streams.kube.clusters import ClusterConfig
from streams.objects.reflector import INITIAL_EVENTS_END

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


def item(name: str, version: int) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "shop", "uid": f"u-{name}", "resourceVersion": str(version)}}


def line(kind: str, body: Any) -> bytes:
    return orjson.dumps({"type": kind, "object": body}) + b"\n"


def bookmark(version: int, end: bool = False) -> bytes:
    meta: dict[str, Any] = {"resourceVersion": str(version)}
    if end:
        meta["annotations"] = {INITIAL_EVENTS_END: "true"}
    return line("BOOKMARK", {"metadata": meta})


def status(code: int, message: str = "no", **more: Any) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "code": code, "message": message, **more}


def page(*items: Any, version: int, more: str = "") -> Answer:
    body = {"kind": "List", "metadata": {"resourceVersion": str(version), "continue": more}, "items": list(items)}
    return answer(200, body)


def answer(code: int, body: Any, **headers: str) -> Answer:
    async def give(_: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=code, body=orjson.dumps(body), content_type="application/json", headers=named)

    return give


def stream(*chunks: bytes, hang: bool = False, cut: bool = False) -> Answer:
    async def give(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
            await asyncio.sleep(0)
        if hang:
            await asyncio.Event().wait()
        if cut and request.transport is not None:
            request.transport.abort()
        return response

    return give


class Script:
    """Gives its answers one after the other, then hangs; keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.asked: list[dict[str, str]] = []
        self.exhausted = asyncio.Event()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        if self._answers:
            return await self._answers.pop(0)(request)
        self.exhausted.set()
        return await stream(hang=True)(request)

    def short(self) -> list[tuple[str, str]]:
        kinds = {"sendInitialEvents": "streaming list", "watch": "watch"}
        return [
            (next((name for key, name in kinds.items() if key in each), "list"), each.get("resourceVersion", ""))
            for each in self.asked
        ]


@asynccontextmanager
async def serving(tmp_path: Path, script: Script) -> AsyncIterator[ApiServer]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.serve)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_bytes(
        orjson.dumps(
            {
                "current-context": "test",
                "clusters": [
                    {"name": "test", "cluster": {"server": f"http://127.0.0.1:{runner.addresses[0][1]}"}},
                ],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "users": [{"name": "test", "user": {"token": "secret"}}],
            }
        )
    )
    try:
        async with ApiServer(ClusterConfig("east", kubeconfig)) as server:
            yield server
    finally:
        await runner.cleanup()
