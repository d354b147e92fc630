"""Envoy, incremental and state of the world, and gRPC's own xDS client send requests for two minutes while Services,
slices and whole clusters change (`make chaos MINUTES=` is longer): nothing is refused, and no request fails."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.routers.load import Load
from tests.routers.services import tea_addresses
from tests.support.bound_process import run_bound
from tests.support.network_namespace import NoNamespace, command

ROOT = Path(__file__).resolve().parents[2]
MINUTES = float(os.environ.get("ROUTERS_MINUTES", "2"))
REPLACEMENTS = 5
DEADLINE = MINUTES * 60 + 300
KINDS = {
    "Pod added", "Pod terminating", "Pod removed", "endpoint unready", "endpoint ready", "endpoint terminating",
    "port added", "port renamed", "port removed", "slice recycled", "family added", "family removed",
    "family switched", "cluster joined", "cluster left",
}  # fmt: skip


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run reports."""
    try:
        command("tests.routers")
    except NoNamespace as error:
        pytest.skip(f"no network namespace with local addresses of Pods can be made here: {error}")
    folder = tmp_path_factory.mktemp("routers")
    options = ["--minutes", str(MINUTES), "--replacements", str(REPLACEMENTS), "--report", str(folder / "report.json")]
    run_bound([sys.executable, "-m", "tests.routers", *options], ROOT, folder / "run.log", seconds=DEADLINE, grace=60)
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return report


@pytest.mark.slow
def test_no_router_refuses_anything_and_no_request_fails(outcome: dict[str, Any]) -> None:
    assert outcome["violations"] == []
    assert set(outcome["nacks"].values()) == {0}
    assert (outcome["rejectedByEnvoy"], outcome["refusedInLogOfGrpc"]) == (0, 0)
    assert set(outcome["failed"].values()) == set(outcome["misrouted"].values()) == {0}


@pytest.mark.slow
def test_every_change_reached_every_router(outcome: dict[str, Any]) -> None:
    changes = sum(outcome["changes"].values())
    assert set(outcome["changes"]) >= KINDS
    assert changes >= 10 * MINUTES
    assert set(outcome["restarts"]) == {"server restarted", "watcher killed"}
    for router in ("envoy", "envoy-sotw", "grpc"):
        assert outcome["seen"][router] == changes
        assert outcome["setsAcked"][router] >= changes / 2
        assert outcome["requests"][router] >= 600 * MINUTES
        assert outcome["addressesAnswered"][router] >= 10


@pytest.mark.slow
def test_a_rolling_replacement_behind_the_gate_fails_no_request(outcome: dict[str, Any]) -> None:
    for hook in ("wait", "command"):
        assert len(outcome["gate"][hook]["seconds"]) == REPLACEMENTS
        assert outcome["gate"][hook]["requests"] > 0
        assert [outcome["gate"][hook][count] for count in ("failed", "refused", "late")] == [0, 0, 0]


class _Services:
    """A Service's addresses in a cluster, for `tea_addresses`."""

    def __init__(self, cluster: str, **states: str) -> None:
        self.cluster = cluster
        self._states = states

    def addresses(self) -> dict[str, str]:
        return self._states


def test_the_check_sees_a_failed_request_and_one_that_went_to_a_withdrawn_address() -> None:
    violations: list[str] = []
    load = Load("envoy", str, violations)
    load.answered = {"cart": {}}
    began = time.monotonic()
    load.judge("cart", {"a"}, {"a", "b", "c"}, began)
    load.take(f"cart {began} {began} OK a")
    load.take(f"cart {began} {began} OK b")  # It had not read the set when this was sent.
    load.judge("cart", {"a"}, {"a", "b", "c"}, began + 1)
    assert violations == []
    load.take(f"cart {began + 9} {began + 9} UNAVAILABLE no endpoints")
    load.take(f"cart {began + 9} {began + 9} OK b")
    load.take(f"cart {began + 7} {began + 9} OK c")  # Under way when the change brought it back.
    load.judge("cart", {"a", "c"}, {"a", "b", "c"}, began + 8)
    assert (load.requests, load.failed, load.misrouted) == (5, 1, 1)
    assert [violation.split(": ")[1].split(" at ")[0] for violation in violations] == [
        "a request to cart", "a request to cart reached b 9.0 s after it was out of the set",
    ]  # fmt: skip


def test_the_first_cluster_decides_about_a_shared_address_and_draining_ones_are_the_last_resort() -> None:
    east, west = _Services("east", a="draining", b="draining"), _Services("west", a="ready", c="ready")
    assert tea_addresses([west, east]) == {"c"}  # type: ignore[list-item]
    assert tea_addresses([east]) == {"a", "b"}  # type: ignore[list-item]
