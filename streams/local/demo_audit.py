"""An incident on the demo's recorded clusters, walked through from the alert to the object that caused it.

`python -m streams.local.demo_audit` (`make demo-audit`) runs `facets up --demo` on a data folder of its own, with a
router beside it, waits for an endpoint to go, and asks what an operator would ask, with the commands that an operator
has. It ends when everything is answered, or with `--keep` on Ctrl-C: until then the page can be looked at.
"""

import asyncio
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.local.demo_router import DemoRouter
from streams.local.local_data import SERVER_DETAIL, UP_LOCK
from streams.runtime.process_lock import owner_of
from streams.subscription.client import Batch, Subscriber
from streams.wire.timestamps import later

_CLUSTER, _NAMESPACE, _SERVICE = "east", "shop", "cart"
"""What is deleted in the recording, with endpoints that are ready, and made again."""

_START_SECONDS = 60.0
_ALERT_SECONDS = 60.0
_END_SECONDS = 20.0
_LOOK_SECONDS = 0.1
_ANSWERED = (ExitCode.OK, ExitCode.NEGATIVE)
"""How a question ends that has an answer: `who` finds nobody, `diff` finds a difference."""


class Incident(NamedTuple):
    """An endpoint has gone from a Service: when, and with which version of the row; `before` is the version that had
    it."""

    cluster: str
    namespace: str
    name: str
    address: str
    port: int
    version: int
    before: int
    at: str


class Demo(NamedTuple):
    """A running `facets up --demo`: its log, and where it is."""

    log: Path
    data: Path
    bootstrap: str
    server: str
    xds_port: int


class Walk:
    """Asks one question after the other. `wrong` are the commands that did not end as they should."""

    def __init__(self, demo: Demo, console: Console) -> None:
        self._demo = demo
        self._console = console
        self._steps = 0
        self.wrong: list[str] = []

    def say(self, text: str) -> None:
        """A line of what happens."""
        self._console.print(text)

    async def ask(self, question: str, *command: str, most: int = 40) -> None:
        """Run a command of ours, shown as an operator types it, and the first lines of what it prints."""
        self._steps += 1
        self._console.print(f"\n[bold]{self._steps}. {question}[/]")
        typed = "facets " + " ".join(command)
        self._console.print(f"[cyan]$ {typed}[/]")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams.cli", *command,
            env={**os.environ, "FACETS_DATA_DIR": str(self._demo.data), "COLUMNS": str(self._console.width)},
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
        lines = output.decode(errors="replace").rstrip().splitlines()
        shown = [*lines[:most], f"... ({len(lines) - most} more lines)"] if len(lines) > most else lines
        self._console.print("\n".join(shown), markup=False)
        if process.returncode not in _ANSWERED:
            self.wrong.append(f"{typed}: exit {process.returncode}")

    def link(self, path: str) -> None:
        """The same on the page."""
        self._console.print(f"on the page: {self._demo.server}{path}", markup=False)


async def walk(console: Console, *, keep: bool) -> int:
    """The whole walk; the exit code. Raises FacetsError."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="facets-demo-audit-") as folder:
        console.print("Starting two recorded clusters, Kafka, a worker, a server, and a router beside them ...")
        async with _running(Path(folder)) as demo:
            router = DemoRouter(demo.xds_port, "edge-router", _CLUSTER)
            following = asyncio.create_task(router.run())
            try:
                async with asyncio.timeout(_ALERT_SECONDS):
                    await router.is_following.wait()
                    incident = await _alert(demo)
                steps = Walk(demo, console)
                await _look_back(steps, incident, router.node.id)
                seconds = time.monotonic() - began
                console.print(f"\nFrom nothing to the cause in {seconds:.0f} s.")
                if keep:
                    console.print(f"The page stays at {demo.server} until Ctrl-C.")
                    await asyncio.Event().wait()
            except TimeoutError:
                raise FacetsError(
                    f"no endpoint went within {_ALERT_SECONDS:g} s: {_end_of(demo.log)}", "", ExitCode.GAVE_UP
                ) from None
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
    for command in steps.wrong:
        console.print(f"[red]{command}[/]")
    return ExitCode.GAVE_UP if steps.wrong else ExitCode.OK


async def _look_back(steps: Walk, incident: Incident, router: str) -> None:
    """The questions, from the address in the alert to the object that caused it."""
    cluster, namespace, name, address = incident[:4]
    service = ("-n", namespace, "--cluster", cluster)
    before = later(incident.at, -0.001)
    steps.say(
        f"\n[bold red]ALERT[/] {incident.at}  {router}: no answer from {address}:{incident.port} since a moment ago"
    )
    await steps.ask("Which Service has this address now?", "who", address)
    await steps.ask("Which had it just before the alert, and did the router know?", "who", address, "--at", before)
    await steps.ask(
        "What has happened to that Service, and which object did it?",
        "history", name, *service, "--table", "backend", "--since", later(incident.at, -30), "--last", "6",
    )  # fmt: skip
    steps.link(f"/#/services/{namespace}/{name}/timeline?cluster={cluster}&at={incident.at}")
    await steps.ask(
        "What did this one change?",
        "diff", name, *service, "--table", "backend", "--from", str(incident.before), "--to", str(incident.version),
    )  # fmt: skip
    await steps.ask(
        "What was the whole set at that moment?",
        "replay", "backend", "--service", f"{cluster}/{namespace}/{name}", "--at", before, "-o", "wide",
    )  # fmt: skip
    await steps.ask("When did the router get to know?", "history", name, "-n", namespace, "--router", router, most=12)
    steps.link("/#/routers")
    await steps.ask("Sign what the journal says now ...", "audit", "key")
    await steps.ask("... up to here ...", "audit", "checkpoint", most=6)
    await steps.ask("... so that whoever doubts it can check it.", "audit", "verify")


async def _alert(demo: Demo) -> Incident:
    """The next endpoint that goes, while it was ready, from the Service that the router's requests go to."""
    following = Subscriber(
        demo.bootstrap, tables=("backend",), clusters=(_CLUSTER,), namespaces=(_NAMESPACE,), services=(_SERVICE,)
    )
    async with following as subscriber:
        async for item in subscriber:
            if not isinstance(item, Batch):
                continue
            for row in item.rows:
                facet: dict[str, Any] = row.decode()
                gone = next((endpoint for endpoint in facet["change"]["removed"] if endpoint["ready"]), None)
                if gone is not None and facet["previous"] is not None:
                    return Incident(
                        row.cluster, row.namespace, row.name, gone["address"], gone["ports"][0]["port"],
                        row.version, facet["previous"], facet["asOf"]["at"],
                    )  # fmt: skip
    raise AssertionError("a subscription without an end has ended")


@contextlib.asynccontextmanager
async def _running(folder: Path) -> AsyncIterator[Demo]:
    """`facets up --demo` with ports of its own, until it is left. Raises FacetsError if it does not start."""
    log = folder / "up.log"
    ports = [f"--{name}-port=0" for name in ("web", "xds", "http", "watch")]
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streams.cli", "up", "--demo", *ports,
            env={**os.environ, "FACETS_DATA_DIR": str(folder / "data")},
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    try:
        yield await _started(process, log, folder / "data")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_SECONDS)


async def _started(process: asyncio.subprocess.Process, log: Path, data: Path) -> Demo:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.returncode is None:
        owner = owner_of(data / UP_LOCK)
        details = owner.details if owner is not None else {}
        said = await asyncio.to_thread(log.read_text, errors="replace")
        if SERVER_DETAIL in details and "facets serve: xDS on " in said:
            xds_port = int(said.partition("facets serve: xDS on ")[2].partition(",")[0].rpartition(":")[2])
            return Demo(log, data, details["Kafka"], details[SERVER_DETAIL], xds_port)
        await asyncio.sleep(_LOOK_SECONDS)
    raise FacetsError(f"the demo did not start: {_end_of(log)}", "facets up --demo", ExitCode.GAVE_UP)


def _end_of(log: Path) -> str:
    lines: Sequence[str] = log.read_text(errors="replace").splitlines()
    return " / ".join(lines[-3:])


@click.command()
@click.option("--keep", is_flag=True, help="Keep it running afterwards, until Ctrl-C: to look at the page.")
def main(keep: bool) -> None:
    """Walk through an incident on the demo's recorded clusters."""
    console = Console(soft_wrap=True, highlight=False)
    try:
        raise SystemExit(asyncio.run(walk(console, keep=keep)))
    except KeyboardInterrupt:
        raise SystemExit(ExitCode.INTERRUPTED) from None
    except FacetsError as error:
        console.print(f"[red]{error}[/]")
        raise SystemExit(error.exit_code) from error


if __name__ == "__main__":
    main()
