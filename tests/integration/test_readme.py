"""README's command blocks, as they stand, on the demo: real Kafka, real Envoy, gRPC's own xDS client.

They run in a network namespace of their own, in which the ports that README names are free, and the demo's Pods have
their addresses.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from streams.local.kafka.broker import EmbeddedKafka
from streams.runtime.folders import cache_dir
from tests.support.readme import ROOT, Expected, Terminal, blocks, commands

PODS = "10.244.0.0/24", "10.244.64.0/24"
DEMO = Expected(
    r"(?s)xDS at 127\.0\.0\.1:18000, HTTP at http://127\.0\.0\.1:8080.*\n[0-9:]{8}  (east|west)  \S+  backend ",
    endless=True,
)
DIFFERS = frozenset({0, 1})
NOT_THERE = frozenset({1})
NOT_KNOWN = frozenset({1, 3})
"""Nobody has the address at that time, or the demo did not yet run."""

EXPECTED = {
    "facets get backend -A": Expected(r"(?m)^east +shop +cart "),
    # The demo's `cart` may be made after the snapshot: then it is in a change.
    "facets follow backend -n shop": Expected(r'(?s)"type":"snapshot".*"name":"cart"', endless=True),
    "curl -N 'localhost:8080/v1/changes?table=backend&rows=changes'": Expected(
        r'(?s)event: snapshot\n(id: [^\n]*\n)?data: .*"name":"cart"', endless=True
    ),
    "curl localhost:8080/v1/facets/backend/shop/cart": Expected(r'"cluster":"east","namespace":"shop","name":"cart"'),
    "facets envoy-bootstrap --xds localhost:18000 --cluster east > envoy.yaml && envoy -c envoy.yaml": Expected(
        r"all dependencies initialized\. starting workers", endless=True
    ),
    "curl -H 'Host: cart.shop' localhost:10000": Expected(r"Pod 10\.244\.(0|64)\.\d+\n"),
    "curl -H 'Host: cart.shop.svc.cluster.local:80' localhost:10000": Expected(r"Pod 10\.244\.(0|64)\.\d+\n"),
    "facets envoy-bootstrap --cluster east --grpc -o json > xds.json": Expected(r"^$"),
    "GRPC_XDS_BOOTSTRAP=xds.json python client.py": Expected(r"(?m)^b'Pod'$", early=NOT_THERE),
    "facets status cart -n shop": Expected(r"shop/cart is at version \d+ .*\nCLIENT .*\n\S+ +\d+ +\d+ "),
    "facets wait cart -n shop --cluster east --resource-version 404 --acked": Expected(r""),
    "facets wait cart -n shop --gone 10.244.9.9 --acked": Expected(r""),
    "facets who 10.244.0.5:8080 --at 30s": Expected(r"(?m)^east +shop +cart ", early=NOT_KNOWN),
    "facets history cart -n shop --since 1h": Expected(r"east  shop/cart  v\d+  backend ready"),
    "facets diff cart -n shop": Expected(r"shop/cart: version \d+ -> version \d+", exit_codes=DIFFERS),
    "facets replay backend -n shop --at 30s": Expected(r"(?m)^east +shop +cart ", early=NOT_KNOWN),
    "facets replay --verify": Expected(
        r"\d+ rows of frontend, backend, routing, clusterset follow from the journal byte for byte"
    ),
}
"""What each command does."""

ELSEWHERE = {
    "make run": "it is the demo on which the others run: the fixture takes the command from its recipe",
    "make test": "it runs this test",
    "make setup && source .venv/bin/activate": "`make test` has done the first part, a terminal begins with the second",
    "facets up": "needs a cluster: tests/e2e/test_readme.py",
    "kubectl get services,endpointslices,endpoints -A -o json | facets fold": "needs a cluster: the same",
    "kubectl get services,endpointslices -A -o yaml | facets translate": "needs a cluster: the same",
}
"""Commands that are not run here, and why."""

PROGRAM = Expected(r"(?m)^cart \['10\.244\.", endless=True)


@pytest.fixture
def network() -> Iterator[tuple[str, ...]]:
    """What starts a program in a network namespace with a loopback interface that has all of the demo's addresses."""
    as_root = () if os.geteuid() == 0 else ("--map-root-user",)
    with subprocess.Popen(
        ["unshare", "--net", *as_root, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as holder:
        try:
            assert holder.stdin
            assert holder.stdout
            holder.stdin.write(b"there\n")
            try:
                holder.stdin.flush()
                there = holder.stdout.readline()
            except BrokenPipeError:
                there = b""
            if not there:
                pytest.skip(f"no network namespace can be made here: {holder.communicate()[1].decode().strip()}")
            user = ("--user", "--preserve-credentials") if as_root else ()
            enter = ("nsenter", "--target", str(holder.pid), "--net", *user, "--")
            local = (f"ip route add local {each} dev lo" for each in PODS)
            subprocess.run([*enter, "sh", "-ec", "; ".join(["ip link set lo up", *local])], check=True)
            yield enter
        finally:
            holder.communicate()


def test_all_blocks_are_known() -> None:
    """Each command of README is run here, or it is said why not; and none of those that are known has left it."""
    found = list(blocks((ROOT / "README.md").read_text()))
    assert {block.language for block in found} == {"sh", "python"}
    named = [command for block in found if block.language == "sh" for command in commands(block)]
    assert set(named) == EXPECTED.keys() | ELSEWHERE.keys()


@pytest.mark.slow
async def test_each_command_does_as_it_says(network: tuple[str, ...], kafka: EmbeddedKafka, tmp_path: Path) -> None:
    # The run's broker is not used: the demo has its own. But it has seen to it that Kafka is in the cache.
    del kafka
    pods = await asyncio.create_subprocess_exec(
        *network, sys.executable, str(Path(__file__).parent / "readme_pods.py"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert pods.stdin
    assert pods.stdout
    try:
        assert await pods.stdout.readline() == b"ready\n"
        async with Terminal(tmp_path, {"FACETS_CACHE_DIR": str(cache_dir())}, network) as terminal:
            await terminal.run(_recipe("run"), DEMO)
            for block in blocks((ROOT / "README.md").read_text()):
                if block.language == "python":
                    await _program(terminal, "\n".join(block.lines))
                elif block.language == "sh":
                    for command in commands(block):
                        if command in EXPECTED:
                            await terminal.run(command, EXPECTED[command])
            # Rows from a real broker, as they are printed.
            for table in ("frontend", "backend", "routing"):
                view = Draft202012Validator(json.loads((ROOT / f"schemas/{table}-view.json").read_text()))
                printed = await terminal.run(f"facets get {table} -A -o json 2>/dev/null", Expected(r'"items"'))
                for row in json.loads(printed)["items"]:
                    view.validate(row)
            shown = (await terminal.close())[_recipe("run")]
            # The demo's own outage is one of `west`.
            assert not [
                line
                for line in shown.splitlines()
                if re.search(r"\b(WARNING|ERROR|CRITICAL)\b(?! facets\.watch: cluster west: )", line)
            ], shown
    finally:
        pods.stdin.close()
        await pods.wait()


async def _program(terminal: Terminal, text: str) -> None:
    """Save a program as the file that its first line names, for a command further down; else run it."""
    first = text.splitlines()[0]
    if first.startswith("# ") and first.endswith(".py"):
        (terminal.folder / first.removeprefix("# ")).write_text(text)
    else:
        (terminal.folder / "example.py").write_text(text)
        await terminal.run("python example.py", PROGRAM)


def _recipe(target: str) -> str:
    """The last command of a make target."""
    printed = subprocess.run(
        ["make", "--no-print-directory", "-n", target], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return printed.splitlines()[-1]
