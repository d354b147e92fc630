"""The harness itself: what the other end-to-end tests stand on."""

import orjson
import pytest

from tests.support.controlplane import ApiError, ControlPlane, Workload
from tests.support.controlplane.api import RESOURCES
from tests.support.controlplane.workload import port, ready_addresses


def test_all_resources_are_listed(control_plane: ControlPlane) -> None:
    listed = control_plane.list_all()
    assert set(listed) == set(RESOURCES)
    names = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in listed["Service"]}
    assert ("default", "kubernetes") in names


def test_a_rolling_update_yields_slices(workload: Workload) -> None:
    workload.add_namespace("roll")
    workload.app("roll", "web", 3)
    workload.dual_stack("roll", "web", [port("http", 80, "http")])
    before = workload.await_ready("roll", "web", 6)
    assert {each["addressType"] for each in before} == {"IPv4", "IPv6"}
    assert {end["zone"] for each in before for end in each["endpoints"]} == {"a", "b", "c"}
    workload.roll("roll", "web", ports=[("http", 9090)])
    after = workload.await_slices("roll", "web", lambda found: used_ports(found) == {9090})
    assert len(ready_addresses(after)) == 6
    assert not {*ready_addresses(after)} & {*ready_addresses(before)}


def test_a_pod_that_ends_is_terminating_before_it_is_gone(workload: Workload) -> None:
    workload.add_namespace("drain")
    workload.app("drain", "web", 2)
    workload.service("drain", "web", [port("http", 80, "http")])
    workload.await_ready("drain", "web", 2)
    workload.terminate("drain", workload.pods("drain", "web")[0])
    [found] = workload.await_ready("drain", "web", 1)
    conditions = sorted((end["conditions"] for end in found["endpoints"]), key=lambda each: each["ready"])
    assert conditions[0] == {"ready": False, "serving": True, "terminating": True}
    workload.remove("drain", workload.pods("drain", "web")[0])
    workload.await_slices("drain", "web", lambda slices: len(slices[0]["endpoints"]) == 1)


def test_a_deleted_service_takes_its_slices_along(workload: Workload) -> None:
    workload.add_namespace("again")
    workload.app("again", "web", 1)
    first = workload.service("again", "web", [port("http", 80, "http")])
    workload.await_ready("again", "web", 1)
    workload.delete_service("again", "web")
    second = workload.service("again", "web", [port("http", 80, "http")])
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    workload.await_slices(
        "again",
        "web",
        lambda found: (
            {each["metadata"]["ownerReferences"][0]["uid"] for each in found} == {second["metadata"]["uid"]}
            and len(ready_addresses(found)) == 1
        ),
    )


def test_the_reader_reads_and_the_stranger_does_not(control_plane: ControlPlane) -> None:
    for path in RESOURCES.values():
        assert "items" in control_plane.api_as("reader").get(path)
        with pytest.raises(ApiError) as refused:
            control_plane.api_as("norights").get(path)
        assert refused.value.code == 403
    with pytest.raises(ApiError, match="secrets"):
        control_plane.api_as("reader").get("/api/v1/secrets")


def test_a_killed_api_server_comes_back_with_everything(control_plane: ControlPlane) -> None:
    before = control_plane.list_all()["Service"]
    control_plane.restart("kube-apiserver")
    assert control_plane.list_all()["Service"] == before


def test_a_compacted_version_is_gone(control_plane: ControlPlane, workload: Workload) -> None:
    path = RESOURCES["Service"]
    old = control_plane.api.get(path)["metadata"]["resourceVersion"]
    workload.add_namespace("compact")
    for number in range(3):
        workload.external_name("compact", f"name-{number}", "example.test")
    first_page = control_plane.api.get(path, limit="1")["metadata"]["continue"]
    workload.external_name("compact", "name-4", "example.test")
    assert control_plane.compact() > int(old)
    assert gone(control_plane, path, old) == 410
    with pytest.raises(ApiError) as expired:
        control_plane.api.get(path, limit="1", **{"continue": first_page})
    assert (expired.value.code, expired.value.reason) == (410, "Expired")


def used_ports(slices: list[dict]) -> set[int]:  # type: ignore[type-arg]
    """The port numbers of slices that have endpoints: placeholders and those on their way out have none."""
    return {each["ports"][0]["port"] for each in slices if each.get("endpoints")}


def gone(plane: ControlPlane, path: str, version: str) -> int:
    """The code with which a watch from `version` ends: the server may refuse it, or say so in its first line."""
    try:
        with plane.api.stream(path, resourceVersion=version, timeoutSeconds="10") as lines:
            event = orjson.loads(next(lines))
    except ApiError as error:
        return error.code
    return event["object"]["code"] if event["type"] == "ERROR" else 200
