"""mcs-api's own conformance suite, unchanged, against two real API servers between which `facets import` runs.

Its Go module is not in Go's module proxy, so it is not built here: MCS_CONFORMANCE names its test binary. What its
specs ask, as far as they need no data plane, `test_import.py` asks in every run.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.mcs import LABEL_FILTER, PAGE, SKIP, page, results
from tests.e2e.clusterset import NAMES, ClusterSet, clusterset
from tests.support.controlplane import ControlPlane, mcs
from tests.support.controlplane.kubelet import Kubelet

SUITE = os.environ.get("MCS_CONFORMANCE", "")
SECONDS = 480
CONTROLLERS = ("deployment-controller", "replicaset-controller", "statefulset-controller")


@pytest.fixture
def importing(tmp_path: Path) -> Iterator[ClusterSet]:
    """Two clusters whose Pods run, and an importer with derived Services."""
    with (
        ControlPlane("east", controllers=CONTROLLERS) as east,
        ControlPlane("west", controllers=CONTROLLERS) as west,
        Kubelet(east.api, 1),
        Kubelet(west.api, 2),
        clusterset(tmp_path, {"east": east, "west": west}) as made,
    ):
        for plane in made.planes.values():
            mcs.grant(plane.api, "norights", "service-facets-importer-derived")
        made.start("import", "--cluster-set-ip", "derived")
        yield made
        assert made.end("import", signal.SIGTERM) == 0, made.facets.logs()


@pytest.mark.skipif(not SUITE, reason="MCS_CONFORMANCE names no test binary of mcs-api's conformance suite")
def test_the_suite_says_what_the_page_says(importing: ClusterSet, tmp_path: Path) -> None:
    command = [
        str(Path(SUITE).absolute()), "-kubeconfig", str(importing.kubeconfig), "-contexts", ",".join(NAMES),
        "--ginkgo.json-report=report.json", "--ginkgo.no-color", f"--ginkgo.label-filter={LABEL_FILTER}",
        f"--ginkgo.skip={SKIP}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{importing.facets.logs()}"
    outcomes = list(results(json.loads((tmp_path / "report.json").read_text())))
    for each in outcomes:
        print(each.state, each.key, *each.labels)
    assert page(outcomes) == PAGE.read_text(), f"run python -m tests.conformance.mcs {tmp_path / 'report.json'}"
