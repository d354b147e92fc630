"""API servers of many clusters in one process, as light as possible: lists, watches with bookmarks, discovery.

`python -m tests.bench.fleet PORT CLUSTERS KUBECONFIG` serves them until it is ended; the kubeconfig has a context for
each. As an API server does, it sends a bookmark every minute and shortly before a watch ends, and ends a watch with 410
whose version it no longer holds. Nothing changes in them but the resourceVersion, until it is asked for
(`GET /-/changes`, see `change`): then endpoints are replaced at a steady rate, and a line for each change is in
KUBECONFIG.changes: when it was made (unix time), the address that it brings, the cluster and the Service.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

import orjson
import uvloop
from aiohttp import web

from tests.bench.fleet_cluster import Cluster, Shape, Track, cluster_name, marker

_BOOKMARK_SECONDS = 60.0
_BEFORE_END_SECONDS = 2.0
_BURST = 64
"""How many events a watch is given at once."""


class Fleet:
    """The clusters, and what changes in them."""

    def __init__(self, clusters: int, shape: Shape, log: Path) -> None:
        self.clusters = {cluster.name: cluster for cluster in (Cluster(number, shape) for number in range(clusters))}
        self._log = log.open("w", buffering=1 << 16)
        self._turns = count(1)

    async def change(self, rate: float, seconds: float, clusters: Sequence[Cluster]) -> int:
        """Replace endpoints in these clusters in turn, at this rate, for so long. Returns how many."""
        began = time.monotonic()
        made = 0
        while (elapsed := time.monotonic() - began) < seconds:
            for _ in range(min(_BURST, int(elapsed * rate) - made)):
                turn, cluster = next(self._turns), clusters[made % len(clusters)]
                at = time.time()
                service = cluster.change(turn)
                self._log.write(f"{at} {marker(turn)} {cluster.name} {service}\n")
                made += 1
            await asyncio.sleep(max(0.0, began + (made + 1) / rate - time.monotonic()))
        self._log.flush()
        return made

    # ---- HTTP ------------------------------------------------------------------------------------------

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """As the API server of the cluster that is named in the path."""
        cluster, path = self.clusters[request.match_info["cluster"]], "/" + request.match_info["path"]
        track = cluster.tracks.get(path)
        if track is not None:
            return await _watch(request, cluster, track) if "watch" in request.query else _list(cluster, track)
        if path == "/version":
            return _json({"major": "1", "minor": "36"})
        names = [
            {"name": each.rpartition("/")[2], "kind": of.resource.kind}
            for each, of in cluster.tracks.items()
            if each.rpartition("/")[0] == path
        ]
        if names:
            return _json({"kind": "APIResourceList", "resources": names})
        versions = [
            {"version": of.api_version.rpartition("/")[2]}
            for of in cluster.tracks.values()
            if of.resource.group and path == f"/apis/{of.resource.group}"
        ]
        if versions:
            return _json({"kind": "APIGroup", "versions": versions})
        return _json({"kind": "Status", "code": 404, "message": "not found"}, 404)

    async def answer_changes(self, request: web.Request) -> web.Response:
        """Make changes; answers when they are made."""
        query = request.query
        chosen = list(self.clusters.values())[int(query["first"]) : int(query["end"])]
        return _json({"made": await self.change(float(query["rate"]), float(query["seconds"]), chosen)})


def change(port: int, rate: float, seconds: float, first: int, end: int) -> int:
    """Have the clusters from number `first` to before `end` changed in turn, `rate` times a second for so long; how
    many changes it were, when they are made."""
    query = urlencode({"rate": rate, "seconds": seconds, "first": first, "end": end})
    with urlopen(f"http://127.0.0.1:{port}/-/changes?{query}", timeout=seconds + 60) as answer:
        return int(orjson.loads(answer.read())["made"])


class Change(NamedTuple):
    """A change as the log has it; `at` is unix time."""

    at: float
    address: str
    cluster: str
    service: str


def changes(config: Path) -> list[Change]:
    """The changes so far of the fleet that wrote this kubeconfig."""
    lines = (line.split() for line in _log_of(config).read_text().splitlines())
    return [Change(float(at), address, cluster, service) for at, address, cluster, service in lines]


def _log_of(config: Path) -> Path:
    return config.with_suffix(".changes")


def _list(cluster: Cluster, track: Track) -> web.Response:
    head = orjson.dumps(
        {
            "kind": f"{track.resource.kind}List", "apiVersion": track.api_version,
            "metadata": {"resourceVersion": str(cluster.version())},
        }
    )  # fmt: skip
    body = b'%b,"items":[%b]}' % (head[:-1], b",".join(cluster.objects(track.resource.path)))
    return web.Response(body=body, content_type="application/json")


async def _watch(request: web.Request, cluster: Cluster, track: Track) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    async for lines in _lines(request, cluster, track):
        await response.write(lines)
    return response


async def _lines(request: web.Request, cluster: Cluster, track: Track) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    ends = clock() + float(request.query.get("timeoutSeconds", "300"))
    place: int | None
    if "sendInitialEvents" in request.query:
        place = track.end
        listed = [track.event("ADDED", body) for body in cluster.objects(track.resource.path)]
        yield b"".join([*listed, _bookmark(cluster, track, initial=True)])
    else:
        place = track.place_after(int(request.query.get("resourceVersion") or cluster.version()))
    told = clock()
    while clock() < ends:
        events = None if place is None else track.since(place, _BURST)
        if events is None or place is None:
            yield track.event("ERROR", b'{"code":410,"reason":"Expired","message":"too old resource version"}')
            return
        if events:
            place += len(events)
            told = clock()
            yield b"".join(events)
            continue
        due = min(told + _BOOKMARK_SECONDS, ends - _BEFORE_END_SECONDS)
        if told < due <= clock():
            told = clock()
            yield _bookmark(cluster, track)
            continue
        try:
            async with asyncio.timeout_at(due if due > clock() else ends):
                await track.changed.wait()
        except TimeoutError:
            continue


def _bookmark(cluster: Cluster, track: Track, *, initial: bool = False) -> bytes:
    meta: dict[str, Any] = {"resourceVersion": str(cluster.version())}
    if initial:
        meta["annotations"] = {"k8s.io/initial-events-end": "true"}
    return track.event("BOOKMARK", orjson.dumps({"metadata": meta}))


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")


def kubeconfig(port: int, clusters: int) -> dict[str, Any]:
    """A context for each cluster, named as it is."""
    names = [cluster_name(number) for number in range(clusters)]
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": names[0],
        "clusters": [{"name": n, "cluster": {"server": f"http://127.0.0.1:{port}/{n}"}} for n in names],
        "contexts": [{"name": n, "context": {"cluster": n, "user": "nobody"}} for n in names],
        "users": [{"name": "nobody", "user": {}}],
    }  # fmt: skip


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("clusters", type=int)
    parser.add_argument("kubeconfig", type=Path)
    for name, value in Shape()._asdict().items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    fleet = Fleet(given.clusters, Shape(*(getattr(given, name) for name in Shape._fields)), _log_of(given.kubeconfig))
    given.kubeconfig.write_bytes(orjson.dumps(kubeconfig(given.port, given.clusters)))
    app = web.Application()
    app.router.add_get("/-/changes", fleet.answer_changes)
    app.router.add_get("/{cluster:c[0-9]+}/{path:.*}", fleet.answer)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=given.port, access_log=None, shutdown_timeout=0.1)


if __name__ == "__main__":
    main()
