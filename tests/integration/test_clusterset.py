"""The clusterset on a real Kafka: what two clusters export is one Service, and follows from the journal."""

import json
import signal
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from streams.cli import cli
from tests.integration.journal import PARTITIONS, clean_topics, publish
from tests.support.clustersets import Member, endpoint_slice, export, service
from tests.support.worker_processes import Worker, await_sealed


def facets(bootstrap: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--bootstrap-servers", bootstrap])


def the_set(bootstrap: str) -> dict[str, Any]:
    result = facets(bootstrap, "get", "clusterset", "-n", "shop", "-o", "json")
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["items"]
    return dict(row)


def test_two_clusters_export_a_service_and_the_worker_is_killed_meanwhile(
    bootstrap_servers: str, tmp_path: Path, workers: list[Worker]
) -> None:
    clean_topics(bootstrap_servers)
    east, west = (Member(name, partitions=PARTITIONS) for name in ("east", "west"))
    publish(bootstrap_servers, east.begin(service(), endpoint_slice("a", "10.1.0.1"), export()))
    publish(bootstrap_servers, west.begin(service(clusterIP="None"), endpoint_slice("b", "10.2.0.1")))
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

    verified = facets(bootstrap_servers, "replay", "--verify")
    assert verified.exit_code == 0, verified.output
    # Two Services in three tables, two contributions, and the set.
    assert verified.stdout.startswith("9 rows of frontend, backend, routing, clusterset follow from the journal")
