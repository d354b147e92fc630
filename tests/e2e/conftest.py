"""The control plane that the end-to-end tests share. Without one they fail: a skipped test proves nothing."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.local.kafka.broker import EmbeddedKafka
from tests.support.controlplane import ControlPlane, MissingAssets, Workload
from tests.support.facets_processes import Facets


@pytest.fixture
def facets(tmp_path: Path) -> Iterator[Facets]:
    """A broker, and what starts `facets` processes on it."""
    with EmbeddedKafka(tmp_path / "broker") as broker:
        running = Facets(tmp_path, broker.bootstrap_servers)
        yield running
        for name in list(running.running):
            running.end(name, signal.SIGKILL)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A running control plane named "e2e"; tests keep to namespaces of their own."""
    try:
        plane = ControlPlane("e2e")
    except MissingAssets as error:
        pytest.fail(str(error))
    with plane:
        yield plane


@pytest.fixture(scope="session")
def workload(control_plane: ControlPlane) -> Workload:
    """Three ready Nodes in three zones, and what makes Pods and Services on them."""
    made = Workload(control_plane.api)
    made.add_nodes()
    return made
