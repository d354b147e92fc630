"""Services and EndpointSlices made by hand in a real API server, many at a time."""

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp
import orjson
import uvloop
import yaml

from tests.support.controlplane import Api, ControlPlane

Object = dict[str, Any]
NAMESPACE = "shop"
SLICES = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
_AT_ONCE = 48


def service(name: str) -> tuple[str, Object]:
    """The path and body of a Service that selects nothing: its slices are made by hand."""
    body = {"metadata": {"name": name}, "spec": {"ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}
    return f"/api/v1/namespaces/{NAMESPACE}/services", body


def marker(turn: int) -> str:
    """The address that the first endpoint has in a turn (from 1 on), and none in another."""
    return f"10.{100 + turn // 65536}.{turn // 256 % 256}.{turn % 256}"


def endpoints(number: int, count: int, *, turn: int = 0, pods: bool = True) -> list[Object]:
    """Endpoints of Service `number`; the first has another address each turn, so that states can be told apart. With
    `pods` they name some, which are not there."""
    made: list[Object] = [
        {
            "addresses": [marker(turn) if turn and not i else f"10.{number % 90}.{i // 256}.{i % 256}"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{i % 100}",
            "zone": f"zone-{i % 3}",
            "targetRef": {"kind": "Pod", "namespace": NAMESPACE, "name": f"s{number}-5d9c7b6f4-{i}",
                          "uid": f"9c1f7a52-0000-4000-{i:04d}-{number:012d}"},
        }
        for i in range(count)
    ]  # fmt: skip
    if not pods:
        for endpoint in made:
            del endpoint["targetRef"]
    return made


def service_with_slice(number: int, count: int) -> tuple[tuple[str, Object], tuple[str, Object]]:
    """The paths and bodies of Service `number` and its slice, whose endpoints name no Pods: istiod holds back those
    whose Pod it does not know."""
    path, body = slice_(number, count)
    return service(f"s{number}"), (path, body | {"endpoints": endpoints(number, count, pods=False)})


def slice_(number: int, count: int, part: int = 0) -> tuple[str, Object]:
    """The path and body of a slice of Service `number`."""
    body = {
        "metadata": {
            "name": f"s{number}-{part}",
            "labels": {
                "kubernetes.io/service-name": f"s{number}",
                "endpointslice.kubernetes.io/managed-by": "staff",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints(number, count),
    }
    return SLICES, body


def create(plane: ControlPlane, items: Iterable[tuple[str, Object]], say: Callable[[str], None]) -> int:
    """Create them all, many at a time; how many."""
    return uvloop.run(_create(plane, items, say))


async def _create(plane: ControlPlane, items: Iterable[tuple[str, Object]], say: Callable[[str], None]) -> int:
    config = yaml.safe_load(plane.kubeconfig.read_text())
    token = config["users"][0]["user"]["token"]
    left = iter(items)
    done = 0
    async with aiohttp.ClientSession(
        plane.url,
        connector=aiohttp.TCPConnector(limit=_AT_ONCE, ssl=_trust(plane)),
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    ) as session:

        async def work() -> None:
            nonlocal done
            for path, body in left:
                async with session.post(path, data=orjson.dumps(body)) as answer:
                    if answer.status >= 400:
                        raise RuntimeError(f"POST {path}: {answer.status} {await answer.text()}")
                    await answer.read()
                done += 1
                if done % 1000 == 0:
                    say(f"{done} objects created")

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(work())
    return done


def _trust(plane: ControlPlane) -> Any:
    return ssl.create_default_context(cafile=str(plane.ca))


def api_of(kubeconfig: str) -> Api:
    """Requests as the kubeconfig's user."""
    with open(kubeconfig) as file:
        config = yaml.safe_load(file)
    cluster = config["clusters"][0]["cluster"]
    return Api(cluster["server"], config["users"][0]["user"]["token"], cluster["certificate-authority"])
