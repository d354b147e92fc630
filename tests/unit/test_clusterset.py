"""The clusterset's table: exports, the sets that they make, and what becomes of both over time."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from jsonschema import Draft202012Validator

from streams.facets.changelog_records import unreadable
from streams.facets.tables import FACET_TABLES, WORKER_TABLES
from streams.fold.fold import PartitionFold
from streams.fold.table import TableState, Write
from streams.history.queries import clusters_of, differences, holders
from streams.objects.fields import MalformedObject
from streams.objects.multicluster import Exports
from streams.serve.http import encoding
from streams.serve.http.encoding import Selection
from streams.serve.http.feed import Feed
from streams.serve.http.sse import ChangesHub, SseSettings
from streams.subscription.cursor import Cursor
from streams.subscription.freshness import Silence
from streams.subscription.rows import Row
from streams.subscription.set_rows import JoinedSet, SetRows
from streams.wire.keys import is_row, is_set, parse_row_key
from streams.wire.records import FOLD_VERSION
from tests.support.clustersets import (
    WINDOW,
    Journal,
    Member,
    cluster_id,
    endpoint_slice,
    export,
    newest,
    service,
    sets_in,
)

SCHEMAS = Path(__file__).parents[2] / "schemas"


class Fleet:
    """Two clusters with a Service each, of which nothing is exported yet."""

    def __init__(self) -> None:
        self.journal = Journal()
        self.east, self.west = Member("east"), Member("west")
        self.journal.take(self.east.begin(service(), endpoint_slice("a", "10.1.0.1")))
        self.journal.take(self.west.begin(service(), endpoint_slice("b", "10.2.0.1")))

    def export_both(self) -> None:
        self.journal.take(self.east.apply(export(created="2026-11-24T12:00:00Z")))
        self.journal.take(self.west.apply(export(created="2026-11-24T13:00:00Z")))


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


def addresses(row: dict[str, Any]) -> list[str]:
    return [endpoint["address"] for group in row["groups"] for endpoint in group["endpoints"]]


def of_clusterset(writes: list[Write]) -> list[str]:
    return [write.key.decode() for write in writes if write.table == "clusterset" and is_row(write.key)]


def test_nothing_is_in_the_table_without_an_export(fleet: Fleet) -> None:
    assert fleet.journal.rows() == {}
    assert b"10.1.0.1" not in b"".join(
        write.value or b"" for write in fleet.journal.writes if write.table == "clusterset"
    )


def test_an_export_brings_the_service_and_its_endpoints_with_it(fleet: Fleet) -> None:
    fleet.journal.take(fleet.east.apply(export(exportedLabels={"team": "a"})))
    row, contribution = fleet.journal.set_of(), fleet.journal.rows()["east/shop/cart"]
    assert (row["state"], row["type"], row["dnsName"]) == ("ready", "ClusterSetIP", "cart.shop.svc.clusterset.local")
    assert row["labels"] == {"team": "a"}
    assert row["ports"][0] == {
        "name": "http", "port": 80, "protocol": "TCP", "appProtocol": None, "clusters": {"east": "http"}
    }  # fmt: skip
    assert (contribution["state"], addresses(contribution)) == ("ready", ["10.1.0.1"])
    assert "west/shop/cart" not in fleet.journal.rows()
    assert [cause["kind"] for cause in row["cause"]] == ["ServiceExport", "Service", "EndpointSlice"]


def test_a_change_of_endpoints_writes_their_clusters_row_alone(fleet: Fleet) -> None:
    fleet.export_both()
    made = fleet.journal.take(fleet.west.apply(endpoint_slice("b", "10.2.0.1", "10.2.0.2")))
    assert of_clusterset(made) == ["west/shop/cart"]
    assert addresses(fleet.journal.rows()["west/shop/cart"]) == ["10.2.0.1", "10.2.0.2"]


def test_a_service_that_is_not_exported_keeps_to_the_fast_path(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    general: list[str] = []
    whole = TableState.fold

    def fold(table: TableState[Any], *arguments: Any) -> Iterator[Write]:
        general.append(table.name)
        return whole(table, *arguments)

    monkeypatch.setattr(TableState, "fold", fold)
    fleet.journal.take(fleet.west.apply(endpoint_slice("b", "10.2.0.1", "10.2.0.2")))
    assert general == []
    fleet.journal.take(fleet.west.apply(export()))
    assert "clusterset" in general


def test_what_is_no_longer_exported_leaves_nothing(fleet: Fleet) -> None:
    fleet.export_both()
    fleet.journal.take(fleet.east.delete(export()))
    contribution = fleet.journal.rows()["east/shop/cart"]
    assert (contribution["state"], contribution["reason"]) == ("deleted", "NotExported")
    assert (contribution["export"], contribution["service"], contribution["groups"]) == (None, None, [])
    assert [each["cluster"] for each in fleet.journal.set_of()["exports"]] == ["west"]
    assert of_clusterset(fleet.journal.take(fleet.east.apply(endpoint_slice("a", "10.1.0.9")))) == []
    fleet.journal.take(fleet.west.delete(export()))
    assert (fleet.journal.set_of()["state"], fleet.journal.set_of()["exports"]) == ("deleted", [])


def test_the_last_tombstone_takes_the_set_with_it(fleet: Fleet) -> None:
    fleet.export_both()
    fleet.journal.take(fleet.east.delete(export()))
    fleet.journal.take(fleet.west.delete(export()))
    fleet.east.second = fleet.west.second = WINDOW + 1
    assert of_clusterset(fleet.journal.take(fleet.east.heartbeat())) == ["east/shop/cart"]
    assert of_clusterset(fleet.journal.take(fleet.west.heartbeat())) == ["west/shop/cart", "shop/cart"]
    assert fleet.journal.rows() == {}


def test_an_export_that_only_a_snapshot_shows_has_all_of_its_service(fleet: Fleet) -> None:
    fleet.journal.take(fleet.east.begin_again(2, export()))
    assert addresses(fleet.journal.rows()["east/shop/cart"]) == ["10.1.0.1"]
    assert fleet.journal.rows()["east/shop/cart"]["service"]["type"] == "ClusterIP"


def test_an_export_without_a_service_holds_its_endpoints_back(fleet: Fleet) -> None:
    fleet.export_both()
    fleet.journal.take(fleet.east.delete(service()))
    contribution = fleet.journal.rows()["east/shop/cart"]
    assert (contribution["state"], contribution["reason"], addresses(contribution)) == ("empty", "NoService", [])
    exports = {each["cluster"]: (each["valid"], each["counted"]) for each in fleet.journal.set_of()["exports"]}
    assert exports == {"east": ("NoService", False), "west": ("Valid", True)}
    fleet.journal.take(fleet.east.apply(service()))
    assert addresses(fleet.journal.rows()["east/shop/cart"]) == ["10.1.0.1"]


def test_the_oldest_export_decides_and_all_hear_of_the_conflict(fleet: Fleet) -> None:
    fleet.export_both()
    fleet.journal.take(fleet.west.apply(service(clusterIP="None", sessionAffinity="ClientIP")))
    row = fleet.journal.set_of()
    assert (row["type"], row["sessionAffinity"]) == ("ClusterSetIP", "None")
    reasons = "TypeConflict,SessionAffinityConflict,SessionAffinityConfigConflict"
    assert [each["conflict"] for each in row["exports"]] == [reasons, reasons]
    assert {each["clusterID"] for each in row["conflicts"]} == {"east"}
    assert '"east"' in row["conflicts"][0]["message"]
    assert "1/2 clusters" in row["conflicts"][0]["message"]
    assert all(each["counted"] for each in row["exports"])
    fleet.journal.take(fleet.east.delete(export()))
    assert fleet.journal.set_of()["type"] == "Headless"


def test_an_id_that_changes_is_a_leave_and_a_join(fleet: Fleet) -> None:
    fleet.export_both()
    fleet.journal.take(fleet.east.apply(cluster_id("eu-1")))
    row = fleet.journal.set_of()
    assert [each["id"] for each in row["exports"]] == ["eu-1", "west"]
    assert row["ports"][0]["clusters"] == {"eu-1": "http", "west": "http"}
    fleet.journal.take(fleet.east.delete(cluster_id("eu-1")))
    assert [each["id"] for each in fleet.journal.set_of()["exports"]] == ["east", "west"]


def test_two_clusters_with_one_id_are_never_merged(fleet: Fleet) -> None:
    fleet.export_both()
    fleet.journal.take(fleet.east.apply(cluster_id("west")))
    exports = {each["cluster"]: (each["valid"], each["counted"]) for each in fleet.journal.set_of()["exports"]}
    assert exports == {"east": ("ClusterIDConflict", False), "west": ("Valid", True)}
    assert fleet.journal.set_of()["ports"][0]["clusters"] == {"west": "http"}


@pytest.mark.parametrize(
    ("item", "says"),
    [
        (export(exportedLabels=["a"]), "spec.exportedLabels"),
        (export(exportedAnnotations={"a": 1}), "spec.exportedAnnotations[a]"),
        (export(created=7), "creationTimestamp"),  # type: ignore[arg-type]
        (export(drop=("soon", "0%")), "drop-unavailable-after: 'soon'"),
        (export(drop=("0s", "0%")), "drop-unavailable-after: '0s'"),
        (export(drop=("31d", "0%")), "drop-unavailable-after: '31d'"),
        (export(drop=("30s", "101%")), "drop-unavailable-floor: '101%'"),
        (export(drop=("30s", "half")), "drop-unavailable-floor: 'half'"),
    ],
)
def test_an_export_that_cant_be_read_keeps_its_last_good_state(fleet: Fleet, item: dict[str, Any], says: str) -> None:
    fleet.journal.take(fleet.west.apply(item))
    assert (fleet.journal.rows()["west/shop/cart"]["state"], fleet.journal.set_of()["exports"][0]["valid"]) == (
        "unknown", "ObjectRejected",
    )  # fmt: skip
    fleet.export_both()
    assert fleet.journal.rows()["west/shop/cart"]["state"] == "ready"
    fleet.journal.take(fleet.west.apply(item))
    contribution = fleet.journal.rows()["west/shop/cart"]
    assert (contribution["state"], addresses(contribution)) == ("ready", ["10.2.0.1"])
    assert says in contribution["rejected"][0]["message"]
    assert all(each["counted"] for each in fleet.journal.set_of()["exports"])


@pytest.mark.parametrize("value", [None, 7, "", "Upper", "a b", "-a"])
def test_an_id_that_cant_be_read_changes_nothing(fleet: Fleet, value: Any) -> None:
    fleet.export_both()
    assert of_clusterset(fleet.journal.take(fleet.east.apply(cluster_id(value)))) == []


def test_a_stale_cluster_stays_in_the_set_and_is_marked(fleet: Fleet) -> None:
    fleet.export_both()
    fleet.journal.take(fleet.west.heartbeat(stale_since="2026-11-24T12:00:00.000Z"))
    row = fleet.journal.set_of()
    assert (row["state"], row["reason"]) == ("ready", "west: stale")
    assert [(each["state"], each["counted"]) for each in row["exports"]] == [("ready", True), ("stale", True)]
    assert addresses(fleet.journal.rows()["west/shop/cart"]) == ["10.2.0.1"]


def test_the_end_of_a_cluster_takes_it_out_of_the_set(fleet: Fleet) -> None:
    fleet.export_both()
    fleet.journal.take(fleet.west.collector.close(fleet.west.at()))
    assert [each["cluster"] for each in fleet.journal.set_of()["exports"]] == ["east"]


def test_records_are_in_their_schemas_and_readable(fleet: Fleet) -> None:
    fleet.export_both()
    fleet.journal.take(fleet.west.apply(service(clusterIP="None"), endpoint_slice("c", "10.2.0.1")))
    fleet.journal.take(fleet.east.delete(export()))
    checks = {
        of_set: Draft202012Validator(json.loads((SCHEMAS / name).read_text()))
        for of_set, name in ((True, "clusterset.json"), (False, "clusterset-contribution.json"))
    }
    seen = set()
    for table, key, value, version in fleet.journal.writes:
        if table == "clusterset":
            assert unreadable(table, key, value, version) == ""
            if is_row(key) and value is not None:
                seen.add(is_set(key))
                checks[is_set(key)].validate(json.loads(value))
                assert not checks[not is_set(key)].is_valid(json.loads(value))
    assert seen == {True, False}
    assert "is another Service's" in unreadable(
        "clusterset", b"shop/tea", orjson.dumps(fleet.journal.set_of()), fleet.journal.set_of()["version"]
    )
    assert unreadable("backend", b"shop/cart", b"{}", 1) == "its key is no CLUSTER/NAMESPACE/NAME"


# ---- recovery ------------------------------------------------------------------------------------------


def test_a_topic_that_an_older_version_did_not_have_begins_where_the_others_are(fleet: Fleet) -> None:
    """Crashes at each record after the upgrade, at its seeding too."""
    before = PartitionFold(0, FACET_TABLES, WINDOW)
    old = [write for offset, value in enumerate(fleet.journal.values) for write in before.step(offset, value)]
    version = b'"fold":%d' % FOLD_VERSION
    old = [write._replace(value=(write.value or b"").replace(version, b'"fold":7')) for write in old]
    fleet.journal.values += [record.value for record in fleet.east.apply(export())]

    def restart(log: list[Write]) -> list[Write]:
        fold = PartitionFold(0, WORKER_TABLES, WINDOW)
        for write in log:
            fold.load(*write)
        resume, made = fold.recover()
        # What the journal had before may have expired long ago.
        assert resume >= len(fleet.journal.values) - 1
        for offset in range(resume, len(fleet.journal.values)):
            made += fold.step(offset, fleet.journal.values[offset])
        return made

    made = restart(old)
    expected = newest(made)
    assert addresses(expected["east/shop/cart"]) == ["10.1.0.1"]
    assert [write.table for write in made[:2]] == ["clusterset", "clusterset"]
    for crash in range(len(made)):
        log = [*old, *made[:crash]]
        assert newest([*log, *restart(log)]) == expected


def test_a_new_installation_that_was_killed_early_reads_all_of_its_journal(fleet: Fleet) -> None:
    fleet.export_both()
    fold = PartitionFold(0, WORKER_TABLES, WINDOW)
    for write in fleet.journal.writes:
        if write.table != "clusterset":
            fold.load(*write)
    resume, writes = fold.recover()
    assert resume == 0
    for offset, value in enumerate(fleet.journal.values):
        writes += fold.step(offset, value)
    assert newest(writes) == fleet.journal.rows()


def test_a_journal_that_expired_leaves_what_was_there_and_marks_it(fleet: Fleet) -> None:
    fleet.export_both()
    fold = PartitionFold(0, WORKER_TABLES, WINDOW)
    for write in fleet.journal.writes:
        fold.load(*write)
    fold.recover()
    rows = newest([*fleet.journal.writes, *fold.expire(len(fleet.journal.values) + 5)])
    assert (rows["shop/cart"]["state"], rows["shop/cart"]["reason"]) == ("unknown", "east: unknown, west: unknown")
    assert all(each["counted"] for each in rows["shop/cart"]["exports"])
    assert addresses(rows["west/shop/cart"]) == ["10.2.0.1"]


# ---- as printed ----------------------------------------------------------------------------------------


def printed(journal: Journal, silent: str = "") -> dict[str, Any]:
    rows = [
        Row(
            "clusterset",
            *parse_row_key(key),
            row["version"],
            orjson.dumps(row),
            "silent" if row["cluster"] == silent and silent else "",
        )
        for key, row in journal.rows().items()
    ]
    (joined,) = SetRows().take(rows)
    return joined.decode()


def test_a_printed_set_has_the_endpoints_of_all_clusters(fleet: Fleet) -> None:
    fleet.export_both()
    row = printed(fleet.journal)
    assert [(each["cluster"], each["address"], each["slice"], each["zone"]) for each in row["endpoints"]] == [
        ("east", "10.1.0.1", "a", "z1"), ("west", "10.2.0.1", "b", "z1"),
    ]  # fmt: skip
    assert [each["asOf"]["seq"] for each in row["exports"]] == [
        fleet.journal.rows()[f"{name}/shop/cart"]["asOf"]["seq"] for name in ("east", "west")
    ]
    row = printed(fleet.journal, silent="west")
    assert (row["reason"], [each["state"] for each in row["exports"]]) == ("west: stale", ["ready", "stale"])


def test_a_host_of_a_headless_set_has_a_name_in_its_cluster(fleet: Fleet) -> None:
    hosts = {"10.1.0.1": "cart-0", "10.1.0.2": "cart-1"}
    fleet.export_both()
    fleet.journal.take(fleet.east.apply(endpoint_slice("a", *hosts, "10.1.0.3", hostnames=hosts)))
    fleet.journal.take(fleet.west.apply(endpoint_slice("b", "10.2.0.1", hostnames={"10.2.0.1": "cart-0"})))
    fleet.journal.take(fleet.west.apply(cluster_id("id.of.west")))

    def named() -> list[tuple[str, str, str]]:
        return [
            (each["address"], each.get("hostname", ""), each.get("dnsName", ""))
            for each in printed(fleet.journal)["endpoints"]
        ]

    # A ClusterSetIP's endpoints have no names of their own, hostname or not.
    assert named() == [
        ("10.1.0.1", "cart-0", ""), ("10.1.0.2", "cart-1", ""), ("10.1.0.3", "", ""), ("10.2.0.1", "cart-0", ""),
    ]  # fmt: skip
    fleet.journal.take(fleet.east.apply(service(clusterIP="None")))
    assert named() == [
        ("10.1.0.1", "cart-0", "cart-0.east.cart.shop.svc.clusterset.local"),
        ("10.1.0.2", "cart-1", "cart-1.east.cart.shop.svc.clusterset.local"),
        ("10.1.0.3", "", ""),
        ("10.2.0.1", "cart-0", "cart-0.id.of.west.cart.shop.svc.clusterset.local"),
    ]


def test_a_port_goes_to_the_clusters_that_expose_it_under_the_sets_name(fleet: Fleet) -> None:
    fleet.export_both()
    fleet.journal.take(
        fleet.west.apply(
            service(ports=[{"name": "web", "port": 80, "protocol": "TCP"}]),
            {**endpoint_slice("b", "10.2.0.1"), "ports": [{"name": "web", "port": 8081, "protocol": "TCP"}]},
        )
    )
    row = printed(fleet.journal)
    assert [(port["name"], port["clusters"]) for port in row["ports"]] == [
        ("http", {"east": "http", "west": "web"}), ("dns", {"east": "dns"}),
    ]  # fmt: skip
    assert [[port["name"] for port in each["ports"]] for each in row["endpoints"]] == [["http", "dns"], ["http"]]
    assert [each["reason"] for each in row["conflicts"]] == ["PortConflict"]


def shown(fleet: Fleet) -> list[Row]:
    row = printed(fleet.journal)
    return [Row("clusterset", "", "shop", "cart", row["version"], orjson.dumps(row))]


def test_who_has_an_address_names_the_cluster_by_which_it_is_in_a_set(fleet: Fleet) -> None:
    fleet.export_both()
    (holder,) = holders("10.2.0.1", shown(fleet))
    assert (holder.cluster, holder.name, holder.held_as, holder.state) == ("west", "cart", "clusterset", "ready")
    assert clusters_of(shown(fleet)[0]) == ["east", "west"]
    assert [each.state for each in holders("10.2.0.1", [Row(*shown(fleet)[0][:5], silenced(fleet))])] == [
        "ready (stale)"
    ]
    fleet.journal.take(fleet.west.delete(export()))
    assert list(holders("10.2.0.1", shown(fleet))) == []


def silenced(fleet: Fleet) -> bytes:
    return orjson.dumps(printed(fleet.journal, silent="west"))


def test_what_differs_in_a_set_is_endpoints_exports_and_fields(fleet: Fleet) -> None:
    fleet.journal.take(fleet.east.apply(export(created="2026-11-24T12:00:00Z")))
    before = printed(fleet.journal)
    fleet.journal.take(
        fleet.west.apply(service(sessionAffinity="ClientIP"), export(created="2026-11-24T13:00:00Z")),
    )
    after = printed(fleet.journal)
    found = differences("clusterset", before, after)
    assert [(each.sign, each.what) for each in found] == [
        ("~", "conflicts"), ("~", "ports"), ("~", "export"), ("+", "export"), ("+", "10.2.0.1:53,8080"),
    ]  # fmt: skip
    assert [each.after["cluster"] for each in found[2:]] == ["east", "west", "west"]
    fleet.journal.take(fleet.west.apply(endpoint_slice("b", "10.2.0.2")))
    # The export is of a later commit, and says the same.
    assert [(each.sign, each.what) for each in differences("clusterset", after, printed(fleet.journal))] == [
        ("-", "10.2.0.1:53,8080"), ("+", "10.2.0.2:53,8080"),
    ]  # fmt: skip


def test_a_cluster_that_falls_silent_is_stale_in_its_sets_until_it_is_heard_of_again(fleet: Fleet) -> None:
    fleet.export_both()
    sets = SetRows()
    rows = [
        Row("clusterset", *parse_row_key(key), row["version"], orjson.dumps(row))
        for key, row in fleet.journal.rows().items()
    ]
    sets.take(rows)
    own = next(row for row in rows if row.cluster == "east")
    states = []
    for reason, partitions in (("silent", (0,)), ("silent", (1,)), ("", ())):
        sets.set_silence("west", reason, partitions, 1)
        (row,) = sets.join([own])
        states.append([each["state"] for each in row.decode()["exports"]])
    assert states == [["ready", "stale"], ["ready", "ready"], ["ready", "ready"]]


def test_one_cluster_wins_an_address_and_its_port_whether_it_serves_or_not(fleet: Fleet) -> None:
    fleet.export_both()
    fleet.journal.take(fleet.west.apply(endpoint_slice("b", "10.1.0.1", "10.2.0.1")))
    winners = [("east", "10.1.0.1"), ("west", "10.2.0.1")]
    assert [(each["cluster"], each["address"]) for each in printed(fleet.journal)["endpoints"]] == winners
    # As in xDS, where a router gets no set that changes hands with a Pod's readiness.
    slice_a = endpoint_slice("a", "10.1.0.1")
    slice_a["endpoints"][0]["conditions"] = {"ready": False, "serving": False}
    fleet.journal.take(fleet.east.apply(slice_a))
    assert [(each["cluster"], each["address"]) for each in printed(fleet.journal)["endpoints"]] == winners


def test_a_set_that_is_deleted_is_not_there(fleet: Fleet) -> None:
    fleet.journal.take(fleet.east.apply(export()))
    fleet.journal.take(fleet.east.delete(export()))
    assert sets_in(fleet.journal.rows()) == {}


def test_the_tombstone_of_a_key_that_can_not_be_read_stops_no_worker() -> None:
    """Simulation, seed 28013: a worker has written it over garbage, and was killed before it sealed the offset."""
    fold = PartitionFold(0, WORKER_TABLES, WINDOW)
    fold.load("clusterset", b"\xff", None, 0)
    assert fold.recover() == (0, [])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("near", "'near' is none of own-node, own-zone, own-cluster and cluster=ID"),
        ("cluster=", "'cluster=' is none of"),
        ("own-zone,own-zone", "names a place twice"),
        (",".join(f"cluster=c{i}" for i in range(17)), "has more than 16 places"),
    ],
)
def test_a_preference_that_cant_be_read_rejects_the_export(value: str, problem: str) -> None:
    item = export()
    item["metadata"]["annotations"] = {"service-facets.io/prefer": value}
    with pytest.raises(MalformedObject, match=problem):
        Exports().take(("ServiceExport", "shop", "cart"), item)


# ---- in the server's feed -------------------------------------------------------------------------------

FEED_AT = "2026-11-24T12:00:00.000Z"
SETS = Selection(frozenset({"clusterset"}))


def batches(fleet: Fleet) -> Iterator[tuple[int, list[Row]]]:
    """The clusterset's rows by journal offset."""
    by_offset: dict[int, list[Row]] = {}
    for write in fleet.journal.writes:
        if write.table == "clusterset" and is_row(write.key):
            row = Row(write.table, *parse_row_key(write.key.decode()), write.version, write.value or b"")
            by_offset.setdefault(write.version, []).append(row)
    yield from sorted(by_offset.items())


def filled(fleet: Fleet) -> Feed:
    feed = Feed(1)
    feed.replace("start", (), {}, Cursor(FEED_AT, {0: -1}, {}))
    for offset, rows in batches(fleet):
        seal = fleet.journal.fold.clusters["east"].seal
        feed.apply(0, seal, tuple(rows), Cursor(FEED_AT, {0: offset}, {}))
    return feed


def of_batches(text: bytes) -> list[tuple[int, list[str]]]:
    """Of each batch the set's version and addresses."""
    data = [orjson.loads(line[6:]) for line in text.splitlines() if line.startswith(b"data: ")]
    return [(row["version"], [each["address"] for each in row["endpoints"]]) for batch in data for row in batch["rows"]]


def test_a_set_is_not_put_together_before_a_client_gets_it(fleet: Fleet) -> None:
    fleet.export_both()
    with patch.object(JoinedSet, "text", side_effect=AssertionError("nobody wants it")):
        for number in range(2, 5):
            fleet.journal.take(fleet.east.apply(endpoint_slice("a", f"10.1.0.{number}")))
        feed = filled(fleet)
        reader = feed.reader(SETS, 0)
    whole = of_batches(feed.read(reader, 1 << 20))
    # Each as it was then, though it is put together later.
    assert [addresses for _, addresses in whole][-3:] == [[f"10.1.0.{n}", "10.2.0.1"] for n in (2, 3, 4)]
    assert [version for version, _ in whole] == sorted(version for version, _ in whole)


def test_what_is_put_together_counts_for_the_ring(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoding, "_UNPRINTED_BYTES", 0)
    fleet.export_both()
    feed = filled(fleet)
    before = feed._bytes
    text = feed.read(feed.reader(SETS, 0), 1 << 20)
    assert feed._bytes - before >= len(text)


async def test_clusters_that_fall_silent_together_are_one_heartbeat() -> None:
    hub = ChangesHub(SseSettings(), "", 1, 60.0)
    hub.replace("start", (), {}, Cursor(FEED_AT, {0: -1}, {}))
    try:
        woken = hub.wait_for_change()
        silent = {}
        for number in range(50):
            silent = {**silent, (0, f"c{number}"): Silence("WatcherSilent", FEED_AT)}
            hub.set_silent(silent)
        await woken
        text = hub.feed.read(hub.feed.reader(SETS, 0), 1 << 20)
        (data,) = [orjson.loads(line[6:]) for line in text.splitlines() if line.startswith(b"data: ")]
        assert len(data["stale"]) == 50
    finally:
        await hub.close()
