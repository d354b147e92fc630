"""The control plane that the end-to-end tests share. Without one they fail: a skipped test proves nothing."""

from collections.abc import Iterator

import pytest

from tests.support.controlplane import ControlPlane, MissingAssets, Workload


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
