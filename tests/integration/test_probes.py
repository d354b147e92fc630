"""`/metrics`, `/healthz` and `/readyz` of each process, as they are started, and what doctor makes of them."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import yaml
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families

from streams.cli.admin.doctor import doctor_command
from streams.local.demo_server import DemoServer
from streams.local.pipeline_checks import pipeline_checks, read_pipeline
from streams.local.server_checks import server_checks
from tests.integration.journal import PARTITIONS, Churn, clean_topics, publish
from tests.integration.mesh import eventually, free_port, running, service
from tests.support.worker_processes import Worker, workers

__all__ = ["workers"]


async def get(port: int, path: str) -> tuple[int, str]:
    """Status and text; (0, "") while nothing listens."""
    try:
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.text()
    except aiohttp.ClientConnectionError:
        return 0, ""


async def until(port: int, status: int, text: str = "") -> None:
    """Wait until /readyz answers this."""

    async def so() -> bool:
        answer = await get(port, "/readyz")
        return answer[0] == status and text in answer[1]

    await eventually(so, f"/readyz answers {status} {text}")


async def names(port: int) -> set[str]:
    status, text = await get(port, "/metrics")
    assert status == 200
    return {family.name for family in text_string_to_metric_families(text)}


@asynccontextmanager
async def facets(*arguments: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streams.cli", *arguments),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


def without_the_first(original: Path, written: Path) -> list[str]:
    """A kubeconfig in which the first cluster's API server does not answer; the contexts."""
    config = yaml.safe_load(original.read_text())
    config["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{free_port()}"
    written.write_text(yaml.safe_dump(config))
    return [each["name"] for each in config["contexts"]]


async def test_a_watcher_is_ready_once_its_clusters_are_in_the_journal(bootstrap_servers: str, tmp_path: Path) -> None:
    await asyncio.to_thread(clean_topics, bootstrap_servers)
    demo, port = DemoServer(speed=100), free_port()
    await demo.start()
    try:
        kubeconfig = tmp_path / "config"
        broken, *others = without_the_first(demo.kubeconfig, kubeconfig)
        watch = ("watch", "--bootstrap-servers", bootstrap_servers, "--http-port", str(port), "--accept-older-list")
        async with facets(*watch, "--kubeconfig", str(kubeconfig), "--cluster", f"away={broken}"):
            await until(port, 503, "cluster away: its API server has not been reached yet")
            assert (await get(port, "/healthz"))[0] == 200
            assert (await get(port, "/other"))[0] == 404
        async with facets(*watch, "--kubeconfig", str(kubeconfig), "--cluster", f"here={others[0]}"):
            await until(port, 200)
            assert {"facets_watch_events", "facets_watch_epoch", "facets_watch_clock_skew_seconds"} <= await names(port)
    finally:
        await demo.stop()


async def test_a_worker_is_ready_once_it_has_caught_up(
    bootstrap_servers: str, tmp_path: Path, workers: list[Worker]
) -> None:
    await asyncio.to_thread(clean_topics, bootstrap_servers)
    churn = Churn(5)
    await asyncio.to_thread(publish, bootstrap_servers, churn.start())
    workers.append(Worker(bootstrap_servers, tmp_path, "one"))
    port = workers[0].port
    await until(port, 200, json.dumps(list(range(PARTITIONS))))
    assert (await get(port, "/healthz"))[0] == 200
    assert (await get(port, "/other"))[0] == 404

    async def folded() -> bool:
        wanted = {"facets_work_commits", "facets_work_rows", "facets_work_partitions", "facets_work_behind_commits",
                  "facets_cluster_frontier_age_seconds"}  # fmt: skip
        _, text = await get(port, "/metrics")
        return wanted <= await names(port) and 'facets_cluster_frontier_age_seconds{cluster="east"}' in text

    await eventually(folded, "the metrics are there")


async def test_doctor_asks_the_server_and_reads_dead_letters(
    bootstrap_servers: str, tmp_path: Path, workers: list[Worker]
) -> None:
    async with running(bootstrap_servers, service()) as mesh:
        found = {each.name: each for each in await asyncio.to_thread(_server, mesh.http_port)}
        assert found["server"].status == found["routers"].status == "ok"
        assert "is ready" in found["server"].detail
    (none,) = await asyncio.to_thread(_server, mesh.http_port)
    assert (none.status, "no `facets serve` answers" in none.detail) == ("fail", True)
    (unasked,) = await asyncio.to_thread(lambda: list(server_checks("http://127.0.0.1:9", named=False)))
    assert unasked.status == "ok"
    result = await asyncio.to_thread(
        CliRunner().invoke,
        doctor_command,
        ["--bootstrap-servers", bootstrap_servers, "--server", "http://127.0.0.1:9", "-o", "json"],
    )
    assert {each["name"]: each["status"] for each in json.loads(result.output)}["server"] == "fail"

    await asyncio.to_thread(clean_topics, bootstrap_servers)
    churn = Churn(5)
    bad = churn.start()
    bad[-1] = bad[-1]._replace(value=b"{}")
    await asyncio.to_thread(publish, bootstrap_servers, bad)
    workers.append(Worker(bootstrap_servers, tmp_path, "one"))

    async def said() -> bool:
        pipeline = await asyncio.to_thread(lambda: read_pipeline(bootstrap_servers, PARTITIONS, 10.0))
        checks = {each.name: each for each in pipeline_checks(pipeline, 0.0)}
        return checks["dead letters"].status == "warn" and "the last: Commit" in checks["dead letters"].detail

    await eventually(said, "the dead letter is told")


def _server(port: int) -> list:  # type: ignore[type-arg]
    return list(server_checks(f"http://127.0.0.1:{port}", named=True))
