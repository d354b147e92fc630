"""A client that a generator (openapi-python-client) makes of the description, against the real server: what it reads
of each answer is all that the answer has."""

import contextlib
import importlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

import orjson
import pytest

from streams.serve.http.endpoints import all_endpoints
from streams.serve.http.openapi import openapi
from streams.wire.timestamps import later
from tests.support.asking_views import Client, Json, asking
from tests.support.recorded_fleet import BEGIN, EXPORTED


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of the generated package."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_bytes(orjson.dumps(openapi("0", all_endpoints())))
    (folder / "config.yaml").write_text("post_hooks: []\n")
    command = [sys.executable, "-m", "openapi_python_client", "generate", "--path", "openapi.json"]
    command += ["--config", "config.yaml", "--meta", "none", "--output-path", "facets_client", "--fail-on-warning"]
    subprocess.run(command, cwd=folder, check=True)
    sys.path.insert(0, str(folder))
    try:
        yield "facets_client"
    finally:
        sys.path.remove(str(folder))


class Generated:
    """Calls of the generated client."""

    def __init__(self, package: str, url: str) -> None:
        self._package = package
        self.client = importlib.import_module(f"{package}.client").Client(base_url=url)

    async def call(self, operation: str, *path: str, **query: Any) -> Any:
        """What an operation returns, parsed."""
        module = importlib.import_module(f"{self._package}.api.default.{operation}")
        return await module.asyncio(*path, client=self.client, **query)

    def value(self, kind: str, text: str) -> Any:
        """A value of one of its enumerations."""
        return getattr(importlib.import_module(f"{self._package}.models"), kind)(text)


@contextlib.asynccontextmanager
async def connected(package: str, client: Client) -> AsyncIterator[Generated]:
    made = Generated(package, f"http://127.0.0.1:{client.mesh.http_port}")
    async with made.client:
        yield made


async def test_a_generated_client_reads_all_of_each_answer(bootstrap_servers: str, generated: str) -> None:
    async with asking(bootstrap_servers) as (_, client), connected(generated, client) as made:
        then = later(BEGIN, 20)
        at = datetime.fromisoformat(then)
        answers: list[tuple[Any, str, Json]] = [
            (await made.call("list_clusters"), "/v1/clusters", {}),
            (await made.call("look_up", zone="z1", limit=2), "/v1/lookup", {"zone": "z1", "limit": 2}),
            (await made.call("look_up", address="10.1.0.3", at=at), "/v1/lookup", {"address": "10.1.0.3", "at": then}),
            *[
                (await made.call(f"list_{table}"), f"/v1/facets/{table}", {})
                for table in ("frontend", "backend", "routing", "clusterset")
            ],
            (await made.call("list_backend", at=at), "/v1/facets/backend", {"at": then}),
            (await made.call("get_backend", "shop", "s1"), "/v1/facets/backend/shop/s1", {}),
            (
                await made.call("get_history", "shop", EXPORTED, limit=20),
                f"/v1/history/shop/{EXPORTED}",
                {"limit": 20},
            ),
            (await made.call("get_history", "shop", "nobody"), "/v1/history/shop/nobody", {}),
        ]
        for read, path, query in answers:
            raw = await client.raw(path, **query)
            assert read.to_dict() == raw, path
            assert raw.get("items") or raw["reason"] == "DOES_NOT_EXIST"


async def test_it_goes_through_pages_and_is_told_what_is_wrong(bootstrap_servers: str, generated: str) -> None:
    async with asking(bootstrap_servers) as (_, client), connected(generated, client) as made:
        by_name = made.value("ListBackendSort", "-name")
        some = [made.value("ListBackendFieldsItem", "state")]
        rows: list[tuple[str, str]] = []
        after: dict[str, str] = {}
        while True:
            page = await made.call("list_backend", sort=by_name, fields=some, limit=3, **after)
            rows += [(row.name, row.cluster) for row in page.items]
            assert {row.state for row in page.items} <= {"ready", "empty"}
            if not isinstance(page.next_, str):  # There is none.
                break
            after = {"after": page.next_}
        everything = (await client.raw("/v1/facets/backend", sort="-name"))["items"]
        assert rows == [(row["name"], row["cluster"]) for row in everything]
        refused = await made.call("list_backend", at_least="1")
        assert (refused.reason, refused.parameter) == ("UNKNOWN_QUERY_TYPE", "cluster")
        expired = await made.call("get_backend", "shop", "s1", at=datetime.fromisoformat("2020-01-01T00:00:00Z"))
        assert expired.reason == "EXPIRED"
