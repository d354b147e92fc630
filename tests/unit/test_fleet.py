"""The benchmarks' fleet of clusters: what its API servers list, and that no watch misses a change."""

import orjson
import pytest

from streams.objects.resources import ENDPOINT_SLICES, SERVICE_EXPORT, SERVICES
from tests.bench import fleet_cluster
from tests.bench.fleet_cluster import Cluster, Shape, cluster_name, marker, service_name

SHAPE = Shape(services=12, endpoints=5, nodes=7, shared=2, some=3)
SLICES = ENDPOINT_SLICES.path


def listed(cluster: Cluster, path: str) -> list[dict[str, object]]:
    return [orjson.loads(body) for body in cluster.objects(path)]


def addresses(cluster: Cluster) -> list[str]:
    slices = [orjson.loads(body) for body in cluster.objects(SLICES)]
    return [endpoint["addresses"][0] for each in slices for endpoint in each["endpoints"]]


def test_no_address_is_twice_in_a_fleet_and_every_service_has_its_slice() -> None:
    clusters = [Cluster(number, SHAPE) for number in range(4)]
    held = [address for cluster in clusters for address in addresses(cluster)]
    assert len(held) == len({*held}) == 4 * 12 * 5
    for number, cluster in enumerate(clusters):
        assert cluster.name == cluster_name(number)
        assert len(listed(cluster, SERVICES.path)) == 12
    assert len({marker(turn) for turn in range(1, 70_000)}) == 69_999


def test_some_services_are_exported_by_all_and_some_by_a_few() -> None:
    exported = [
        {each["metadata"]["name"] for each in listed(Cluster(number, SHAPE), SERVICE_EXPORT.served_as("v1beta1").path)}  # type: ignore[index]
        for number in range(4)
    ]
    assert {service_name(SHAPE, 0, 0), service_name(SHAPE, 0, 1)} == exported[0] & exported[3]
    assert exported[0] == exported[1] == exported[2] != exported[3]


def test_a_watch_gets_each_change_after_its_version_or_is_told_that_it_is_too_late(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fleet_cluster, "_HISTORY", 3)
    cluster = Cluster(0, SHAPE)
    track = cluster.tracks[SLICES]
    versions = [cluster.version()]
    for turn in range(1, 6):
        cluster.change(turn)
        versions.append(cluster.version())
        assert marker(turn) in addresses(cluster)
    assert versions == sorted({*versions})
    assert track.place_after(versions[5]) == track.end
    place = track.place_after(versions[3])
    assert place is not None
    lines = track.since(place, 10)
    assert lines is not None
    assert [marker(turn).encode() in line for turn, line in zip((4, 5), lines, strict=True)] == [True, True]
    assert orjson.loads(lines[0])["object"]["metadata"]["resourceVersion"] == str(versions[4])
    assert track.place_after(versions[1]) is None
    assert track.since(0, 10) is None
