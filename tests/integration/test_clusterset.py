"""The clusterset on a real Kafka: what two clusters export is one Service, and follows from the journal."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from subprocess import PIPE
from threading import Timer
from typing import Any

from click.testing import CliRunner, Result
from jsonschema import Draft202012Validator

from streams.cli import cli
from tests.integration.journal import PARTITIONS, clean_topics, publish
from tests.integration.mesh import endpoint_slice as mesh_slice
from tests.integration.mesh import running
from tests.integration.mesh import service as mesh_service
from tests.support.bound_process import start_bound
from tests.support.clustersets import Member, endpoint_slice, export, service
from tests.support.server_sent_events import Described, changes
from tests.support.worker_processes import DEADLINE, Worker, await_sealed

SCHEMAS = Path(__file__).parents[2] / "schemas"


def facets(bootstrap: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--bootstrap-servers", bootstrap])


def the_set(bootstrap: str) -> dict[str, Any]:
    result = facets(bootstrap, "get", "clusterset", "-n", "shop", "-o", "json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["items"]
    return dict(row)


def the_past(bootstrap: str) -> int:
    """What history, diff, replay and who have of the set, before and since west exports it; its newest version."""
    lines = facets(bootstrap, "history", "cart", "-n", "shop", "--table", "clusterset").stdout.splitlines()
    assert [("of east  1/1 ready" in line, "of east,west  2/2 ready" in line) for line in lines] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert "<- ServiceExport cart@" in lines[1]
    assert lines[1].split()[1] == "west"
    history = facets(bootstrap, "history", "cart", "-n", "shop", "-o", "json").stdout.splitlines()
    first, last = (row for row in map(json.loads, history) if row["table"] == "clusterset")
    assert (first["previous"], last["previous"]) == (None, first["version"])
    assert "clusterset" not in facets(bootstrap, "history", "cart", "-n", "shop", "--cluster", "west").stdout
    differing = facets(bootstrap, "diff", "cart", "-n", "shop", "--table", "clusterset")
    assert differing.exit_code == 1
    assert "+ west  clusterset  10.2.0.1:53,8080  ready" in differing.stdout
    assert "+ west  clusterset  export  Valid" in differing.stdout
    assert '~ east  clusterset  export  conflict: "NoConflicts" -> "TypeConflict"' in differing.stdout
    arguments = ["replay", "clusterset", "-n", "shop", "-o", "json"]
    then, now = (
        json.loads(facets(bootstrap, *arguments, *until).stdout)["items"] for until in (["--seq", "west=3"], [])
    )
    assert [[each["cluster"] for each in row["endpoints"]] for row in (*then, *now)] == [["east"], ["east", "west"]]
    shown = the_set(bootstrap)
    as_seen_by_now = {"exports": [], "state": "", "reason": ""}
    assert {**now[0], **as_seen_by_now} == {"table": "clusterset", **shown, **as_seen_by_now}
    held = json.loads(facets(bootstrap, "who", "10.2.0.1", "-o", "json").stdout)["items"]
    assert [(each["held_as"], each["cluster"]) for each in held] == [("endpoint", "west"), ("clusterset", "west")]
    wide = facets(bootstrap, "who", "10.2.0.1:8080", "--cluster", "west").stdout
    assert wide.splitlines()[-1].split()[-1] == "clusterset"
    assert facets(bootstrap, "who", "10.2.0.1", "--at", "1s", "--cluster", "east").exit_code == 1
    return int(last["version"])


def followed_and_resumed(bootstrap: str, workers: list[Worker], west: Member, version: int) -> None:
    """A change of one cluster's endpoints is a row with all clusters', for who comes back with a cursor, too."""
    options = ["-n", "shop", "--silent-after", "1000d"]
    (snapshot,) = map(json.loads, facets(bootstrap, "follow", "clusterset", *options, "--max", "1").stdout.splitlines())
    assert [(row["table"], row["version"]) for row in snapshot["rows"]] == [("clusterset", version)]
    watch = [sys.executable, "-m", "streams.cli", "get", "cs", *options, "-w", "-o", "json"]
    with start_bound([*watch, "--bootstrap-servers", bootstrap], stdout=PIPE) as watching:
        assert watching.stdout is not None
        limit = Timer(DEADLINE, watching.kill)
        limit.start()
        assert [each["address"] for each in json.loads(watching.stdout.readline())["endpoints"]][1:] == ["10.2.0.1"]
        publish(bootstrap, west.apply(endpoint_slice("b", "10.2.0.2")))
        assert [each["address"] for each in json.loads(watching.stdout.readline())["endpoints"]][1:] == ["10.2.0.2"]
        limit.cancel()
        watching.kill()
    await_sealed(bootstrap, workers)
    written = ["--cluster", "west", "--resource", "slice", "--resource-version", "4"]
    assert facets(bootstrap, "wait", "cart", "-n", "shop", *written).exit_code == 0
    result = facets(bootstrap, "follow", "cs", *options, "--cursor", snapshot["cursor"], "--max", "1", "--for", "30s")
    (batch,) = map(json.loads, result.stdout.splitlines())
    (row,) = batch["rows"]
    assert (batch["type"], row["previous"], row["version"]) == ("batch", version, batch["offset"])
    assert [each["address"] for each in row["endpoints"]] == ["10.1.0.1", "10.2.0.2"]
    assert [cause["name"] for cause in row["cause"]] == ["b"]
    assert "10.2.0.2" not in json.dumps(snapshot)


def test_two_clusters_export_a_service_and_the_worker_is_killed_meanwhile(
    bootstrap_servers: str, tmp_path: Path, workers: list[Worker]
) -> None:
    clean_topics(bootstrap_servers)
    east, west = (Member(name, partitions=PARTITIONS) for name in ("east", "west"))
    publish(bootstrap_servers, west.begin(service(clusterIP="None"), endpoint_slice("b", "10.2.0.1")))
    publish(bootstrap_servers, east.begin(service(), endpoint_slice("a", "10.1.0.1"), export()))
    workers.append(Worker(bootstrap_servers, tmp_path, "only"))
    await_sealed(bootstrap_servers, workers)
    row = the_set(bootstrap_servers)
    assert [(each["cluster"], each["address"]) for each in row["endpoints"]] == [("east", "10.1.0.1")]
    assert (row["type"], row["conflicts"]) == ("ClusterSetIP", [])

    workers[0].kill(signal.SIGKILL)
    publish(bootstrap_servers, west.apply(export(created="2026-11-25T12:00:00Z")))
    workers.append(Worker(bootstrap_servers, tmp_path, "only"))
    await_sealed(bootstrap_servers, workers)
    row = the_set(bootstrap_servers)
    assert [(each["cluster"], each["address"]) for each in row["endpoints"]] == [
        ("east", "10.1.0.1"), ("west", "10.2.0.1"),
    ]  # fmt: skip
    assert [each["conflict"] for each in row["exports"]] == ["TypeConflict", "TypeConflict"]
    assert all(each["asOf"]["epoch"] == 1 for each in row["exports"])
    lines = facets(bootstrap_servers, "get", "cs/cart", "-n", "shop").stdout.splitlines()
    assert lines[0].split() == ["NAME", "TYPE", "COUNTED", "READY", "STATE", "AGE", "CLUSTERS"]
    assert lines[1].split()[:5] == ["cart", "ClusterSetIP", "2/2", "2/2", "ready"]
    assert lines[1].split()[-1] == "east,west"
    assert "TypeConflict" in facets(bootstrap_servers, "get", "clusterset", "-A", "-o", "wide").stdout
    assert facets(bootstrap_servers, "get", "clusterset", "-A", "-o", "name").stdout == "clusterset/shop/cart\n"
    refused = facets(bootstrap_servers, "get", "clusterset", "--cluster", "east")
    assert (refused.exit_code, "takes no --cluster" in refused.output) == (2, True)

    version = the_past(bootstrap_servers)
    followed_and_resumed(bootstrap_servers, workers, west, version)
    verified = facets(bootstrap_servers, "replay", "--verify")
    assert verified.exit_code == 0, verified.output
    # Two Services in three tables, two contributions, and the set.
    assert verified.stdout.startswith("9 rows of frontend, backend, routing, clusterset follow from the journal")


async def test_sets_over_http_are_as_described_and_caught_up_with_from_a_cursor(bootstrap_servers: str) -> None:
    exported = export()
    exported["metadata"]["uid"] = "uid-export"

    def of(name: str, *addresses: str) -> dict[str, Any]:
        return mesh_slice(f"cart-{name}", "cart", 8080, dict.fromkeys(addresses, "ready"))

    async with running(bootstrap_servers, mesh_service(), of("a", "10.1.0.1"), exported, ring_events=2) as mesh:
        described = await Described.of(mesh)
        await asyncio.to_thread(mesh.tables.start, mesh_service(), of("b", "10.2.0.1"), exported, cluster="west")
        async with changes(mesh, "table=clusterset") as client:
            while len((event := await client.read())[2]["rows"][0]["endpoints"]) < 2:
                pass
        cursor, (first,) = event[1], event[2]["rows"]
        for i in range(2, 6):
            await asyncio.to_thread(mesh.tables.put, of("b", f"10.2.0.{i}"), cluster="west")
        async with changes(mesh, "table=clusterset", cursor) as client:
            events = [await client.read() for _ in range(4)]
        assert [kind for kind, _, _ in events] == ["batch"] * 4
        rows = [row for _, _, data in events for row in data["rows"]]
        assert [[each["address"] for each in row["endpoints"]] for row in rows] == [
            ["10.1.0.1", f"10.2.0.{i}"] for i in range(2, 6)
        ]
        assert [row["previous"] for row in rows] == [first["version"], *(row["version"] for row in rows[:-1])]
        path = "/v1/facets/clusterset"
        described.check_answer(f"{path}/{{namespace}}/{{service}}", 200, found := await mesh.get(f"{path}/shop/cart"))
        assert found["items"] == rows[-1:]
        schema = json.loads((SCHEMAS / "clusterset-view.json").read_text())
        Draft202012Validator(schema).validate(found["items"][0])
