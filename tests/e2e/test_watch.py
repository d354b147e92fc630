"""`facets watch` as a process, on a real control plane and a real Kafka: what it may, what it survives, who goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.local.kafka.broker import EmbeddedKafka
from tests.integration.folding import commits, folded, of_objects
from tests.integration.journal import clean_topics
from tests.support.bound_process import start_bound
from tests.support.controlplane import Api, ControlPlane, Workload
from tests.support.controlplane.workload import port

DEADLINE = 120
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"


class Watchers:
    """`facets watch` processes on one broker, each with its log."""

    def __init__(self, folder: Path, bootstrap: str) -> None:
        self.folder = folder
        self.bootstrap = bootstrap
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, kubeconfig: Path, *options: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = start_bound(
                [sys.executable, "-m", "streams.cli", "watch", "--bootstrap-servers", self.bootstrap,
                 "--kubeconfig", str(kubeconfig), "--cluster", "east", *options],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env={**os.environ, "FACETS_DATA_DIR": str(self.folder)},
            )  # fmt: skip

    def send(self, name: str, how: signal.Signals) -> None:
        self.running[name].send_signal(how)

    def end(self, name: str, how: signal.Signals | None = None) -> int:
        """The exit code; with a signal, or by itself."""
        process = self.running.pop(name)
        if how is not None:
            process.send_signal(how)
        return process.wait(DEADLINE)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def until(self, holds: Callable[[], Any]) -> Any:
        """What it gives once it is true; nothing tells of what is in a topic or a log but reading it."""
        deadline = time.monotonic() + DEADLINE
        while not (found := holds()):
            if time.monotonic() > deadline:
                logs = "\n".join(f"== {path.name}\n{path.read_text()[-3000:]}" for path in self.folder.glob("*.log"))
                pytest.fail(f"not so after {DEADLINE} s\n{logs}")
            time.sleep(0.2)
        return found


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka(tmp_path_factory.mktemp("watch-kafka")) as running:
        yield running


@pytest.fixture
def watchers(broker: EmbeddedKafka, tmp_path: Path) -> Iterator[Watchers]:
    clean_topics(broker.bootstrap_servers)
    made = Watchers(tmp_path, broker.bootstrap_servers)
    yield made
    for name in list(made.running):
        made.send(name, signal.SIGCONT)
        made.end(name, signal.SIGKILL)


@pytest.fixture
def plane(control_plane: ControlPlane) -> ControlPlane:
    """The shared control plane, without the lease of an earlier test."""
    for lease in control_plane.api.get(LEASES)["items"]:
        if lease["metadata"]["name"].startswith("service-facets-"):
            control_plane.api.request("DELETE", f"{LEASES}/{lease['metadata']['name']}")
    return control_plane


def wanted(plane: ControlPlane) -> dict[str, Any]:
    items = [{"kind": kind, **item} for kind, listed in plane.list_all().items() for item in listed]
    return of_objects([("east", {"kind": "List", "items": items})])


def up_to_date(watchers: Watchers, plane: ControlPlane) -> bool:
    return folded(watchers.bootstrap) == wanted(plane)


def last(watchers: Watchers) -> dict[str, Any]:
    """The commit, or what is said of progress, with the highest epoch and seq; a commit of them, if there is one."""
    found = [commit for _, _, commit in commits(watchers.bootstrap)]
    return max(
        found,
        key=lambda each: (each["epoch"], each["seq"], each["phase"] != "progress"),
        default={"epoch": 0, "phase": "", "staleSince": "", "frontier": {}},
    )


def live(watchers: Watchers, epoch: int) -> bool:
    commit = last(watchers)
    return bool(commit["epoch"] >= epoch and commit["frontier"])


def test_without_rights_it_says_what_is_missing(watchers: Watchers, plane: ControlPlane) -> None:
    watchers.start("east", plane.norights)
    assert watchers.end("east") == 77
    said = watchers.log("east")
    assert f"cluster east (kubeconfig {plane.norights} (current context))" in said
    assert "list services: HTTP 403" in said
    assert 'apiGroups [""], resources ["services"], verbs ["get", "list", "watch"]' in said
    assert commits(watchers.bootstrap) == []


def test_with_a_token_that_nobody_knows(watchers: Watchers, plane: ControlPlane, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "stranger"
    text = plane.readonly.read_text()
    token = next(each.split()[-1] for each in text.splitlines() if "token:" in each)
    kubeconfig.write_text(text.replace(token, "f" * 32))
    watchers.start("east", kubeconfig)
    assert watchers.end("east") == 77
    assert "HTTP 401" in watchers.log("east")
    assert "f" * 32 not in watchers.log("east")


def test_an_api_server_that_nothing_vouches_for(watchers: Watchers, plane: ControlPlane, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "untrusting"
    content = yaml.safe_load(plane.readonly.read_text())
    for each in content["clusters"]:
        del each["cluster"]["certificate-authority"]
    kubeconfig.write_text(yaml.safe_dump(content))
    watchers.start("east", kubeconfig)
    assert watchers.end("east") == 78
    log = watchers.log("east")
    assert f"the certificate of {plane.url} can't be verified: " in log
    assert (
        f"remedy: check certificate-authority-data and tls-server-name of the cluster in kubeconfig {kubeconfig}" in log
    )
    assert "Traceback" not in log


def test_a_watcher_without_rights_does_not_end_one_that_has_them(watchers: Watchers, plane: ControlPlane) -> None:
    watchers.start("east", plane.readonly)
    watchers.until(lambda: live(watchers, 1))
    watchers.start("norights", plane.norights)
    assert watchers.end("norights") == 77
    assert last(watchers)["epoch"] == 1
    assert watchers.end("east", signal.SIGTERM) == 0


def test_reading_is_all_it_needs_and_restarts_and_compaction_are_survived(
    watchers: Watchers, plane: ControlPlane, workload: Workload
) -> None:
    watchers.start("east", plane.readonly)
    workload.add_namespace("survive")
    workload.app("survive", "web", 3)
    workload.service("survive", "web", [port("http", 80, "http")])
    workload.await_ready("survive", "web", 3)
    watchers.until(lambda: up_to_date(watchers, plane))
    plane.restart("kube-apiserver")
    workload.scale("survive", "web", 5)
    workload.await_ready("survive", "web", 5)
    watchers.until(lambda: up_to_date(watchers, plane))
    # While the watcher is stopped the history that it would go on from is forgotten, and a Service with it.
    watchers.send("east", signal.SIGSTOP)
    workload.service("survive", "brief", [port("http", 80, "http")])
    workload.delete_service("survive", "web")
    workload.scale("survive", "web", 2)
    plane.compact()
    watchers.send("east", signal.SIGCONT)
    watchers.until(lambda: up_to_date(watchers, plane))
    assert "listing again" in watchers.log("east")
    assert last(watchers)["epoch"] == 1
    assert watchers.end("east", signal.SIGINT) == 0


def test_a_broker_that_is_killed_costs_nothing(
    watchers: Watchers, plane: ControlPlane, workload: Workload, broker: EmbeddedKafka
) -> None:
    workload.add_namespace("broker")
    watchers.start("east", plane.readonly)
    watchers.until(lambda: up_to_date(watchers, plane))
    broker.kill()
    for i in range(20):
        workload.service("broker", f"web-{i}", [port("http", 80, "http")])
    workload.delete_service("broker", "web-3")
    watchers.until(lambda: "has not acknowledged" in watchers.log("east"))
    broker.start()
    watchers.until(lambda: up_to_date(watchers, plane))
    written = [
        (partition, commit["seq"])
        for partition, _, commit in commits(watchers.bootstrap)
        if commit["phase"] != "progress"
    ]
    assert len(written) == len(set(written))
    assert {commit["epoch"] for _, _, commit in commits(watchers.bootstrap)} == {1}
    assert watchers.end("east", signal.SIGTERM) == 0


def test_what_was_deleted_while_none_was_watching(watchers: Watchers, plane: ControlPlane, workload: Workload) -> None:
    workload.add_namespace("absent")
    workload.service("absent", "gone", [port("http", 80, "http")])
    watchers.start("east", plane.readonly)
    watchers.until(lambda: up_to_date(watchers, plane))
    assert "east/absent/gone" in folded(watchers.bootstrap)["frontend"]
    assert watchers.end("east", signal.SIGKILL) == -signal.SIGKILL
    workload.delete_service("absent", "gone")
    watchers.start("east", plane.readonly)
    watchers.until(lambda: live(watchers, 2) and up_to_date(watchers, plane))
    assert "east/absent/gone" not in folded(watchers.bootstrap)["frontend"]


@pytest.mark.parametrize(("how", "options"), [("killed", ()), ("hanging", ()), ("killed", ("--lease",))])
def test_a_cluster_out_of_reach_becomes_stale_and_well_again(
    watchers: Watchers, plane: ControlPlane, how: str, options: tuple[str, ...]
) -> None:
    watchers.start("east", plane.kubeconfig if options else plane.readonly, "--stale-after", "5", *options)
    watchers.until(lambda: up_to_date(watchers, plane))
    before = last(watchers)["at"]
    if how == "killed":
        plane.kill("kube-apiserver")
    else:
        plane.pause("kube-apiserver")
    try:
        since = watchers.until(lambda: last(watchers).get("staleSince"))
        states = {row["state"] for rows in folded(watchers.bootstrap).values() for row in rows.values()}
    finally:
        if how == "killed":
            plane.restart("kube-apiserver")
        else:
            plane.cont("kube-apiserver")
    assert before[:16] <= since[:16]
    assert states == {"stale"}
    watchers.until(lambda: not last(watchers).get("staleSince") and up_to_date(watchers, plane))
    assert last(watchers)["epoch"] == 1


def test_one_that_was_stopped_while_another_took_over_writes_nothing_more(
    watchers: Watchers, plane: ControlPlane
) -> None:
    watchers.start("one", plane.readonly)
    watchers.until(lambda: live(watchers, 1))
    watchers.send("one", signal.SIGSTOP)
    time.sleep(6)  # longer than the pause after which it must look first
    watchers.start("two", plane.readonly)
    watchers.until(lambda: live(watchers, 2))
    watchers.send("one", signal.SIGCONT)
    assert watchers.end("one") == 75
    assert "has opened epoch 2" in watchers.log("one")
    for partition in {each for each, _, _ in commits(watchers.bootstrap)}:
        epochs = [
            commit["epoch"]
            for each, _, commit in commits(watchers.bootstrap)
            if each == partition and commit["phase"] != "progress"
        ]
        assert epochs == sorted(epochs)
    watchers.until(lambda: up_to_date(watchers, plane))


def test_the_standby_takes_over_by_the_lease(watchers: Watchers, plane: ControlPlane, workload: Workload) -> None:
    watchers.start("one", plane.kubeconfig, "--lease")
    watchers.until(lambda: live(watchers, 1))
    watchers.start("two", plane.kubeconfig, "--lease")
    watchers.until(lambda: "standing by" in watchers.log("two"))
    assert last(watchers)["epoch"] == 1
    watchers.end("one", signal.SIGKILL)
    killed = time.monotonic()
    watchers.until(lambda: live(watchers, 2))
    print(f"from kill to the first live commit of the standby: {time.monotonic() - killed:.1f} s")
    workload.add_namespace("lease")
    workload.service("lease", "web", [port("http", 80, "http")])
    watchers.until(lambda: up_to_date(watchers, plane))
    # Let go properly, it is free at once.
    watchers.start("three", plane.kubeconfig, "--lease")
    watchers.until(lambda: "standing by" in watchers.log("three"))
    assert watchers.end("two", signal.SIGTERM) == 0
    watchers.until(lambda: live(watchers, 3))
    assert holder(plane.api) != ""


def test_a_holder_that_was_stopped_stands_by_afterwards(watchers: Watchers, plane: ControlPlane) -> None:
    watchers.start("one", plane.kubeconfig, "--lease", "--lease-duration", "3")
    watchers.until(lambda: live(watchers, 1))
    watchers.start("two", plane.kubeconfig, "--lease", "--lease-duration", "3")
    watchers.until(lambda: "standing by" in watchers.log("two"))
    watchers.send("one", signal.SIGSTOP)
    watchers.until(lambda: live(watchers, 2))
    watchers.send("one", signal.SIGCONT)
    watchers.until(lambda: "standing by" in watchers.log("one"))
    assert last(watchers)["epoch"] == 2
    watchers.end("two", signal.SIGKILL)
    watchers.until(lambda: live(watchers, 3) and up_to_date(watchers, plane))
    assert watchers.end("one", signal.SIGTERM) == 0
    assert holder(plane.api) == ""


def test_a_lease_without_the_right_to_it(watchers: Watchers, plane: ControlPlane) -> None:
    watchers.start("one", plane.readonly, "--lease")
    assert watchers.end("one") == 77
    assert "lease default/service-facets-watcher-east" in watchers.log("one")
    assert 'apiGroups ["coordination.k8s.io"]' in watchers.log("one")


def holder(api: Api) -> str:
    spec = api.get(f"{LEASES}/service-facets-watcher-east")["spec"]
    return str(spec.get("holderIdentity") or "")
