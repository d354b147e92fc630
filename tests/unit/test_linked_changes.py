"""A change on which many routes depend, such as a Gateway's, is one change of all their Services: in every partition it
has one number, however many events it makes. So a cut has all of it or nothing."""

from typing import Any

import orjson
import pytest

from streams.objects import commits
from streams.objects.collector import Collector
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES
from tests.support.routed_service import service
from tests.support.routes import Object, gateway, grant, listener, namespace, route, rule, to_gateway

AT = "2026-11-24T12:00:00.000Z"
KINDS = [resource.kind for resource in (*RESOURCES, *OPTIONAL)]
PARTITIONS = 3
MOST, SERVICES = 10, 90
"""Events in a commit that can be split, and far more of them in each partition."""


@pytest.fixture(autouse=True)
def small_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "MAX_EVENTS", MOST)


def _gateway(hostname: str) -> Object:
    open_to_all = {"namespaces": {"from": "All"}}
    return gateway("edge", listener("http", hostname=hostname, allowedRoutes=open_to_all), namespace="infra")


@pytest.fixture(scope="module")
def listed() -> list[Object]:
    """A Service for each of many routes, which are of another namespace."""
    return [
        _gateway("a.example.net"),
        grant("g", [("HTTPRoute", "web")]),
        namespace("shop"),
        *(service(f"s{i}") for i in range(SERVICES)),
        *(
            route(
                f"r{i}",
                [to_gateway(namespace="infra")],
                [rule({"name": f"s{i}", "namespace": "shop", "port": 80})],
                namespace="web",
                hostnames=["a.example.net"],
            )
            for i in range(SERVICES)
        ),
    ]


def _stamped(item: Object, version: int) -> Object:
    return {**item, "metadata": {**item["metadata"], "resourceVersion": str(version)}}


def _collector(listed: list[Object]) -> Collector:
    collector = Collector("east", epoch=1, writer="w", seq=0, partitions=PARTITIONS, resources=(*RESOURCES, *OPTIONAL))
    collector.begin(AT)
    for kind in KINDS:
        collector.ingest(kind, ReflectorEvent(Kind.INIT, None, ""))
    for version, item in enumerate(listed, 1):
        collector.ingest(item["kind"], ReflectorEvent(Kind.INIT_APPLY, _stamped(item, version), ""))
    for kind in KINDS:
        collector.ingest(kind, ReflectorEvent(Kind.INIT_DONE, None, "10000"))
    collector.flush(AT)
    return collector


def _numbers(collector: Collector, kind: Kind, item: Object) -> list[tuple[int, int]]:
    """The commits that a change makes: their numbers, and how many events each has."""
    collector.ingest(item["kind"], ReflectorEvent(kind, _stamped(item, 10001), "10001"))
    written: list[Any] = [orjson.loads(record.value) for record in collector.flush(AT)]
    return [(commit["seq"], len(commit["events"])) for commit in written]


@pytest.mark.parametrize(
    ("kind", "item"),
    [
        (Kind.APPLY, _gateway("b.example.net")),
        (Kind.DELETE, _gateway("a.example.net")),
        (Kind.DELETE, grant("g", [("HTTPRoute", "web")])),
        (Kind.APPLY, namespace("shop", mesh="service")),
    ],
    ids=["gateway", "deleted-gateway", "grant", "namespace"],
)
def test_what_many_routes_depend_on_changes_under_one_number(listed: list[Object], kind: Kind, item: Object) -> None:
    numbers = _numbers(_collector(listed), kind, item)
    assert len(numbers) == PARTITIONS
    assert len({seq for seq, _ in numbers}) == 1
    assert sum(events for _, events in numbers) == SERVICES
    assert min(events for _, events in numbers) > MOST


def test_what_no_record_can_take_is_split(listed: list[Object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "MAX_LINKED_BYTES", 10_000)
    numbers = _numbers(_collector(listed), Kind.APPLY, _gateway("b.example.net"))
    assert max(events for _, events in numbers) <= MOST
    assert sum(events for _, events in numbers) == SERVICES
