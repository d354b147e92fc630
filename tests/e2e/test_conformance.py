"""The Gateway API's conformance manifests on real parts: applied to a real API server as they come from the API's
module, watched, folded and read back; then the table is asked what the tests' Go text expects."""

import asyncio
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import orjson
import pytest
import yaml

from streams.kafka.admin import ensure
from streams.subscription.client import Subscriber
from streams.wire.records import decode_row
from tests.conformance import manifests
from tests.conformance.expectations import EXPECTED
from tests.conformance.table import Table
from tests.support.controlplane import ControlPlane
from tests.support.controlplane.api import ApiError
from tests.support.facets_processes import Facets, free_port
from tests.support.routes import GROUP, Object, named

DEADLINE = 60
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
BARRIER = "barrier"
PLURALS = {kind: f"{kind.lower()}s" for kind in manifests.KINDS} | {"BackendTLSPolicy": "backendtlspolicies"}

Key = tuple[str, str, str]


class Rows:
    """The routing rows, kept up to date in a thread of their own."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._rows: dict[str, Any] = {}
        self._frontier: dict[str, int] = {}
        self._news = threading.Condition()
        self._error: BaseException | None = None
        self._loop = asyncio.new_event_loop()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(lambda: self._task and self._task.cancel())
        self._thread.join(DEADLINE)
        self._loop.close()

    def at(self, frontier: dict[str, int], complain: Callable[[], str]) -> Table:
        """The table when it has sealed all of this frontier."""

        def there() -> bool:
            return bool(self._error) or all(self._frontier.get(name, 0) >= at for name, at in frontier.items())

        with self._news:
            arrived = self._news.wait_for(there, DEADLINE)
            seen = f"{frontier} wanted, {self._frontier} sealed, {self._error}"
            assert arrived, f"{seen}\n{complain()}"
            assert not self._error, f"{seen}\n{complain()}"
            return Table({name: row for name, row in self._rows.items() if row["state"] != "deleted"})

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._follow())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            with self._news:
                self._error = error
                self._news.notify_all()

    async def _follow(self) -> None:
        async with Subscriber(self._bootstrap, tables=("routing",), progress=True) as subscriber:
            async for item in subscriber:
                seals = item.seals if hasattr(item, "seals") else (item.seal,)
                with self._news:
                    for row in item.rows:
                        self._rows[f"{row.namespace}/{row.name}"] = decode_row("routing", row.value)
                    for seal in seals:
                        self._frontier = {name: int(version or 0) for name, version in seal.frontier.items()}
                    self._news.notify_all()


class Cluster:
    """A real API server with the Gateway API installed, and what the routing table says of it."""

    def __init__(self, plane: ControlPlane, running: Facets, rows: Rows) -> None:
        self._api = plane.api
        self._running = running
        self._rows = rows
        self._barriers = 0
        self._touched: set[str] = set()

    def put(self, item: Object) -> Object:
        """Make the object, or replace it; as the server has it then."""
        self._touched.add(item["kind"])
        collection = _collection(item)
        try:
            written: Object = self._api.post(collection, item)
        except ApiError as error:
            if error.code != 409:
                raise
            path = f"{collection}/{item['metadata']['name']}"
            version = self._api.get(path)["metadata"]["resourceVersion"]
            body = {**item, "metadata": {**item["metadata"], "resourceVersion": version}}
            written = self._api.put(path, body)
        return written

    def put_younger(self, item: Object) -> None:
        """Make the object anew until it is younger than all that was made before it: ages are in whole seconds."""
        first = self.put(item)
        while True:
            self.drop(key_of(item))
            if self.put(item)["metadata"]["creationTimestamp"] > first["metadata"]["creationTimestamp"]:
                return

    def drop(self, key: Key) -> None:
        """Delete an object."""
        kind, namespace, name = key
        self._touched.add(kind)
        item = {"kind": kind, "apiVersion": _version(kind), "metadata": {"namespace": namespace, "name": name}}
        self._api.delete(f"{_collection(item)}/{name}")

    def table(self) -> Table:
        """The table when it has all that was written and deleted: a newer object of each kind is in it."""
        self._barriers += 1
        frontier = {}
        # The Service last: its change is a commit, which takes the others' frontiers along at once.
        for kind in (*sorted(self._touched - {"Namespace", "Service"}), "Service"):
            written = self.put(barrier(kind, str(self._barriers)))
            group = "" if kind == "Service" else f".{GROUP}"
            frontier[f"{PLURALS[kind]}{group}"] = int(written["metadata"]["resourceVersion"])
        self._touched.clear()
        return self._rows.at(frontier, self._running.logs)


def barrier(kind: str, turn: str) -> Object:
    """An object that bears on nothing, of this kind; another one each turn."""
    spec: dict[str, Object] = {
        "Service": {"ports": [{"port": 80}]},
        "Gateway": {"gatewayClassName": "none", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
        "ListenerSet": {
            "parentRef": {"name": "none"},
            "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}],
        },
        "ReferenceGrant": {
            "from": [{"group": GROUP, "kind": "HTTPRoute", "namespace": "none"}],
            "to": [{"group": "", "kind": "Service", "name": "none"}],
        },
        "BackendTLSPolicy": {
            "targetRefs": [{"group": "", "kind": "Service", "name": "none"}],
            "validation": {"hostname": "none.example.com", "wellKnownCACertificates": "System"},
        },
        "TLSRoute": {"hostnames": ["none.example.com"], "rules": [{"backendRefs": [{"name": "none", "port": 80}]}]},
    }
    other = {"rules": [{"backendRefs": [{"name": "none", "port": 80}]}]}
    item = named(kind, BARRIER, spec.get(kind, other), namespace=BARRIER, annotations={"turn": turn})
    item["metadata"].pop("uid")
    return {**item, "apiVersion": _version(kind)}


def key_of(item: Object) -> Key:
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _version(kind: str) -> str:
    return "v1" if kind in {"Service", "Namespace"} else f"{GROUP}/v1"


def _collection(item: Object) -> str:
    root = "/api/v1" if item["apiVersion"] == "v1" else f"/apis/{item['apiVersion']}"
    if item["kind"] == "Namespace":
        return f"{root}/namespaces"
    return f"{root}/namespaces/{item['metadata']['namespace']}/{PLURALS[item['kind']]}"


@pytest.fixture
def cluster(facets: Facets) -> Iterator[Cluster]:
    """A control plane of its own, watched, with what all conformance tests presuppose."""
    script = Path(__file__).parent / "gateway-api.sh"
    crds = Path(subprocess.run(["bash", str(script)], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())
    ensure(facets.bootstrap, partitions=1)
    with ControlPlane("conformance") as plane:
        for file in sorted((crds / "experimental").glob(f"{GROUP}_*.yaml")):
            for crd in yaml.load_all(file.read_text(), yaml.CSafeLoader):
                if crd["kind"] == "CustomResourceDefinition":
                    plane.api.post(CRDS, crd)
        facets.start("watch", "watch", "--kubeconfig", str(plane.readonly), "--cluster", "east")
        facets.start("work", "work", "--http-port", free_port(), "--data-dir", str(facets.folder / "worker"))
        with Rows(facets.bootstrap) as rows:
            yield Cluster(plane, facets, rows)


def test_the_table_is_as_the_conformance_tests_expect(cluster: Cluster) -> None:
    cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": BARRIER}})
    for item in manifests.base():
        cluster.put(item)
    failures = []
    kept = {key_of(item) for item in manifests.base()}
    for name, expectation in EXPECTED.items():
        items = [item for path in expectation.files for item in manifests.read(path)]
        mine = dict.fromkeys(key_of(item) for item in items)
        for item in items:
            cluster.put(orjson.loads(orjson.dumps(item)))
        for step in expectation.steps:
            for item in (*step.added, *step.younger):
                body = {**item, "metadata": {key: at for key, at in item["metadata"].items() if key != "uid"}}
                (cluster.put_younger if item in step.younger else cluster.put)(body)
                mine[key_of(item)] = None
            for key in step.deleted:
                cluster.drop(key)
                del mine[key]
            table = cluster.table()
            for check in step.checks:
                try:
                    check(table)
                except AssertionError as error:
                    failures.append(f"{name}: {error}")
        for key in mine:
            if key not in kept and key[0] != "Namespace":
                cluster.drop(key)
    assert failures == []
