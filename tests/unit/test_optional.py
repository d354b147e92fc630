"""Optional resource types against a server whose CRDs change under the watcher."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import GATEWAY_API, Resource
from streams.watch import discovery as optional
from streams.watch.discovery import OptionalResources, discover, discover_at_start
from tests.support.scripted_api_server import Script, bookmark, item, line, serving, stream

ROUTES = f"httproutes.{GATEWAY_API}"


class Served(Script):
    """Serves HTTPRoutes by a schema; an open watch goes on by the one that it began with, as a real server's may."""

    def __init__(self) -> None:
        super().__init__()
        self.schema = "old"

    async def serve(self, request: web.Request) -> web.StreamResponse:
        place = f"/openapi/v3/apis/{GATEWAY_API}/v1?hash={self.schema}"
        answers: dict[str, Any] = {
            f"/apis/{GATEWAY_API}": {"versions": [{"version": "v1"}]},
            f"/apis/{GATEWAY_API}/v1": {"resources": [{"name": "httproutes"}]},
            "/openapi/v3": {"paths": {f"apis/{GATEWAY_API}/v1": {"serverRelativeURL": place}}},
        }
        if request.path in answers:
            return web.json_response(answers[request.path])
        if not request.path.endswith("/httproutes"):
            return web.json_response({}, status=404)
        listed = {**item("cart", 5), "spec": {"by": self.schema}}
        return await stream(line("ADDED", listed), bookmark(5, end=True), hang=True)(request)


class Followed:
    """A sink, and who is told which types are followed."""

    def __init__(self) -> None:
        self.listed: list[str] = []
        self.told: list[str] = []
        self.done = asyncio.Semaphore(0)

    async def take(self, resource: Resource, events: list[ReflectorEvent]) -> None:
        self.listed += [each.item["spec"]["by"] for each in events if each.kind is Kind.INIT_APPLY]
        if any(each.kind is Kind.INIT_DONE for each in events):
            self.done.release()

    def connected(self, resource: Resource, open_now: bool) -> None:
        pass

    def confirmed(self, resource: Resource) -> None:
        pass

    def unconfirmed(self, resource: Resource) -> None:
        pass

    def trouble(self, resource: Resource, reason: str) -> None:
        pass

    async def follow(self, resource: Resource) -> None:
        self.told.append(f"follow {resource.frontier}")

    async def give_up(self, resource: Resource) -> None:
        self.told.append(f"give up {resource.frontier}")

    async def forget(self, resource: Resource) -> None:
        self.told.append(f"forget {resource.frontier}")


async def test_a_type_is_listed_anew_when_its_schema_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional, "DISCOVERY_SECONDS", 0.01)
    served, followed = Served(), Followed()
    async with asyncio.timeout(20), serving(tmp_path, served) as server:
        found = await discover(server)
        assert list(found) == [ROUTES]
        resources = OptionalResources(server, followed, followed, found, at_least={}, synced=lambda: True)
        running = asyncio.create_task(resources.run())
        try:
            await followed.done.acquire()
            assert await discover(server) == found
            served.schema = "new"
            await followed.done.acquire()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert followed.listed == ["old", "new"]
    assert followed.told == []


class Refusing(Served):
    """Refuses API discovery while `status` says so."""

    def __init__(self) -> None:
        super().__init__()
        self.status = 200
        self.looks = asyncio.Semaphore(0)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        if request.path == f"/apis/{GATEWAY_API}":
            self.looks.release()
            if self.status != 200:
                return web.json_response({}, status=self.status)
        return await super().serve(request)


@pytest.mark.parametrize("refusal", [401, 403, 500])
async def test_what_is_known_stays_while_discovery_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, refusal: int
) -> None:
    monkeypatch.setattr(optional, "DISCOVERY_SECONDS", 0.01)
    server_, followed = Refusing(), Followed()
    async with asyncio.timeout(20), serving(tmp_path, server_) as server:
        resources = OptionalResources(
            server, followed, followed, await discover(server), at_least={}, synced=lambda: True
        )
        running = asyncio.create_task(resources.run())
        try:
            await followed.done.acquire()
            server_.status = refusal
            for _ in range(12):
                await server_.looks.acquire()
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert followed.told == []
    (warning,) = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
    assert f"HTTP {refusal}" in warning
    assert "what is known stays, trying again: " in warning


async def test_what_is_not_there_is_told_at_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving(tmp_path, Served()) as server:
        assert list(await discover_at_start(server)) == [ROUTES]
    (warning, note) = [each for each in caplog.records if each.name == "facets.watch"]
    assert warning.levelname == "WARNING"
    assert "API discovery at /api/v1 does not name namespaces" in warning.getMessage()
    assert f"not installed: gateways.{GATEWAY_API}, " in note.getMessage()
    assert ROUTES not in note.getMessage()


async def test_discovery_that_is_refused_at_start_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refusing = Refusing()
    refusing.status = 403
    async with serving(tmp_path, refusing) as server:
        assert await discover_at_start(server) == {}
    assert "system:discovery" in caplog.text
