"""API servers of many quiet clusters in one process, as light as possible: lists, watches with bookmarks, discovery.

`python -m tests.bench.fleet PORT CLUSTERS KUBECONFIG` serves them until it is ended; the kubeconfig has a context for
each. Nothing changes in them but the resourceVersion, as it does in every cluster whose nodes live: each bookmark has a
new one. As an API server does, it sends a bookmark every minute and shortly before a watch ends.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

SERVICES = 10
ENDPOINTS = 3
_BOOKMARK_SECONDS = 60.0
_BEFORE_END_SECONDS = 2.0
_WRITES_A_SECOND = 5
_BEGUN = time.monotonic()
_TYPES = {
    "/api/v1/services": ("v1", "Service"),
    "/api/v1/endpoints": ("v1", "Endpoints"),
    "/api/v1/namespaces": ("v1", "Namespace"),
    "/apis/discovery.k8s.io/v1/endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
}


def _version() -> str:
    return str(100_000 + int((time.monotonic() - _BEGUN) * _WRITES_A_SECOND))


def _objects(kind: str) -> list[dict[str, Any]]:
    if kind == "Namespace":
        return [{"metadata": {"name": "shop", "uid": "ns", "resourceVersion": "1"}}]
    if kind == "Service":
        return [
            {
                "metadata": {"name": f"s{i}", "namespace": "shop", "uid": f"s{i}", "resourceVersion": str(10 + i)},
                "spec": {
                    "type": "ClusterIP", "clusterIP": f"10.96.0.{i + 1}", "clusterIPs": [f"10.96.0.{i + 1}"],
                    "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
                    "selector": {"app": f"s{i}"},
                },
            }
            for i in range(SERVICES)
        ]  # fmt: skip
    if kind == "EndpointSlice":
        return [
            {
                "metadata": {
                    "name": f"s{i}-x", "namespace": "shop", "uid": f"x{i}", "resourceVersion": str(50 + i),
                    "labels": {"kubernetes.io/service-name": f"s{i}"},
                },
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                "endpoints": [{"addresses": [f"10.1.{i}.{n + 1}"], "conditions": {"ready": True}}
                              for n in range(ENDPOINTS)],
            }
            for i in range(SERVICES)
        ]  # fmt: skip
    return []


async def _list_or_watch(request: web.Request) -> web.StreamResponse:
    api, kind = _TYPES["/" + request.match_info["path"]]
    if "watch" not in request.query:
        meta = {"resourceVersion": _version()}
        return _json({"kind": f"{kind}List", "apiVersion": api, "metadata": meta, "items": _objects(kind)})
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    if "sendInitialEvents" in request.query:
        for item in _objects(kind):
            await response.write(
                orjson.dumps({"type": "ADDED", "object": {"kind": kind, "apiVersion": api, **item}}) + b"\n"
            )
        await response.write(_bookmark(api, kind, initial=True))
    left = float(request.query.get("timeoutSeconds", "300"))
    while left > _BEFORE_END_SECONDS:
        pause = min(_BOOKMARK_SECONDS, left - _BEFORE_END_SECONDS)
        await asyncio.sleep(pause)
        left -= pause
        await response.write(_bookmark(api, kind))
    await asyncio.sleep(left)
    return response


def _bookmark(api: str, kind: str, *, initial: bool = False) -> bytes:
    meta: dict[str, Any] = {"resourceVersion": _version()}
    if initial:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return orjson.dumps({"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": api, "metadata": meta}}) + b"\n"


async def _handle(request: web.Request) -> web.StreamResponse:
    path = "/" + request.match_info["path"]
    if path in _TYPES:
        return await _list_or_watch(request)
    if path == "/version":
        return _json({"major": "1", "minor": "36"})
    if path == "/api/v1":
        names = [{"name": each.rpartition("/")[2]} for each in _TYPES if each.startswith("/api/v1")]
        return _json({"kind": "APIResourceList", "resources": names})
    return _json({"kind": "Status", "code": 404, "message": "not found"}, 404)


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def kubeconfig(port: int, clusters: int) -> dict[str, Any]:
    """A context for each cluster, named as it is."""
    names = [f"c{number:03d}" for number in range(clusters)]
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": names[0],
        "clusters": [{"name": n, "cluster": {"server": f"http://127.0.0.1:{port}/{n}"}} for n in names],
        "contexts": [{"name": n, "context": {"cluster": n, "user": "nobody"}} for n in names],
        "users": [{"name": "nobody", "user": {}}],
    }  # fmt: skip


def main() -> None:
    """Serve until ended."""
    port, clusters, config = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    config.write_bytes(orjson.dumps(kubeconfig(port, clusters)))
    app = web.Application()
    app.router.add_get("/{cluster:c[0-9]+}/{path:.*}", _handle)
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, shutdown_timeout=0.1)


if __name__ == "__main__":
    main()
