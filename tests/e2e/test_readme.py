"""README's commands that need a cluster, as they stand, on a real control plane."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.runtime.folders import cache_dir
from tests.support.controlplane import ControlPlane, Workload
from tests.support.controlplane.workload import port
from tests.support.readme import ROOT, Expected, Terminal, blocks, commands

EXPECTED = {
    "facets up": Expected(r"(?s)Kafka at .*Table views at .*\n[0-9:]{8}  e2e  \S+  backend ", endless=True),
    "facets get backend -A": Expected(r"(?m)^e2e +shop +cart "),
    "facets follow backend -n shop": Expected(r'"type":"snapshot".*"name":"cart"', endless=True),
    "kubectl get services,endpointslices,endpoints -A -o json | facets fold": Expected(
        r'(?s)"backend": \{.*"shop/cart": \{.*"state": "ready"'
    ),
    "kubectl get services,endpointslices -A -o yaml | facets translate": Expected(
        r'(?s)"eds": \[.*"cluster_name": "cart\.shop\.svc\.cluster\.local:80"'
    ),
}


@pytest.fixture
def shop() -> Iterator[ControlPlane]:
    """A control plane with README's Services. Of its own: the namespaces of the shared one are others' by name."""
    with ControlPlane("e2e") as plane:
        workload = Workload(plane.api)
        workload.add_nodes()
        workload.add_namespace("shop")
        workload.app("shop", "cart", 2)
        workload.service("shop", "cart", [port("http", 80, 8080)])
        yield plane


async def test_the_block_for_a_cluster(shop: ControlPlane, tmp_path: Path) -> None:
    (block,) = (each for each in blocks((ROOT / "README.md").read_text()) if "facets up" in commands(each))
    environment = {"FACETS_CACHE_DIR": str(cache_dir()), "KUBECONFIG": str(shop.kubeconfig)}
    async with Terminal(tmp_path, environment) as terminal:
        for command in commands(block):
            # The control plane of the tests comes without kubectl: only where the machine has one.
            missing = command.startswith("kubectl ") and shutil.which("kubectl") is None
            if command in EXPECTED and not missing:
                await terminal.run(command, EXPECTED[command])
    assert EXPECTED.keys() <= set(commands(block))
