"""The watcher's list and watch on a real API server, folded, against what the server itself lists."""

import asyncio
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import yaml

from streams.core.collector import RESOURCES, Collector
from streams.core.fold import PartitionFold
from streams.core.records import decode_row
from streams.core.reflector import Reflector
from streams.edges.apiserver import ApiServer, ClusterConfig

AT = "2026-11-24T12:00:00.000Z"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def kubeconfig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if not assets:
        pytest.fail("KUBEBUILDER_ASSETS is not set: run `make e2e`, which finds or builds a control plane")
    folder = tmp_path_factory.mktemp("kube")
    client, peer, secure = free_port(), free_port(), free_port()
    token = secrets.token_hex(16)
    (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    subprocess.run(["openssl", "genrsa", "-out", folder / "sa.key", "2048"], check=True, capture_output=True)
    subprocess.run(
        ["openssl", "rsa", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub"],
        check=True,
        capture_output=True,
    )
    etcd = f"http://127.0.0.1:{client}"
    log = (folder / "log").open("ab")
    running = [
        subprocess.Popen(
            [f"{assets}/etcd", "--data-dir", folder / "etcd", "--listen-client-urls", etcd, "--advertise-client-urls", etcd,
             "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--unsafe-no-fsync"], stdout=log, stderr=log),
        subprocess.Popen(
            [f"{assets}/kube-apiserver", f"--etcd-servers={etcd}", f"--secure-port={secure}", "--bind-address=127.0.0.1",
             f"--cert-dir={folder}/certs", "--service-cluster-ip-range=10.96.0.0/16",
             "--service-account-issuer=https://kubernetes.default.svc",
             f"--service-account-signing-key-file={folder}/sa.key", f"--service-account-key-file={folder}/sa.pub",
             f"--token-auth-file={folder}/tokens.csv", "--authorization-mode=RBAC",
             "--disable-admission-plugins=ServiceAccount"], stdout=log, stderr=log),
    ]  # fmt: skip
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "east",
                "contexts": [{"name": "east", "context": {"cluster": "east", "user": "admin"}}],
                "clusters": [
                    {
                        "name": "east",
                        "cluster": {
                            "server": f"https://127.0.0.1:{secure}",
                            "certificate-authority": str(folder / "certs" / "apiserver.crt"),
                        },
                    }
                ],
                "users": [{"name": "admin", "user": {"token": token}}],
            }
        )
    )
    try:
        yield path
    finally:
        for process in reversed(running):
            process.terminate()
        for process in running:
            process.wait(30)
        log.close()


async def test_the_fold_is_what_the_api_server_lists(kubeconfig: Path) -> None:
    cluster = ClusterConfig("east", kubeconfig)
    certificate = kubeconfig.parent / "certs" / "apiserver.crt"
    async with asyncio.timeout(90):
        while not certificate.exists():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        async with ApiServer(cluster) as server:
            while True:
                try:
                    if (await server.get("/apis/discovery.k8s.io/v1/endpointslices"))["items"]:
                        break
                except (OSError, KeyError, orjson.JSONDecodeError):
                    pass
                await asyncio.sleep(0.2)
            collector = Collector("east", epoch=1, writer="test", seq=0, partitions=1)
            records = collector.begin(AT)
            synced = asyncio.Event()

            async def sink(kind: str, event: object) -> None:
                collector.ingest(kind, event)  # type: ignore[arg-type]
                records.extend(collector.flush(AT))
                if collector.synced:
                    synced.set()

            follows = [
                asyncio.create_task(server.follow(each, Reflector(), sink, lambda good: None)) for each in RESOURCES
            ]
            await synced.wait()
            listed = await server.get("/api/v1/services")
            for each in follows:
                each.cancel()
            await asyncio.gather(*follows, return_exceptions=True)
    fold = PartitionFold(0)
    rows = {
        write.key.decode(): decode_row("frontend", write.value or b"")
        for offset, record in enumerate(records)
        for write in fold.step(offset, record.value)
        if write.table == "frontend" and not write.key.startswith(b"~")
    }
    expected = {
        f"east/{item['metadata']['namespace']}/{item['metadata']['name']}": item["spec"]["clusterIPs"]
        for item in listed["items"]
    }
    assert {key: row["clusterIPs"] for key, row in rows.items()} == expected
    assert expected
