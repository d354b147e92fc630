"""A cluster that exports Services and is not heard of any more: what becomes of its endpoints in the sets."""

from typing import Any

import orjson
import pytest

from streams.facets.unavailability import Signal, decide
from streams.objects.commits import JournalRecord
from streams.objects.multicluster import Exports
from streams.wire.clusterset_records import DropPolicy, Unavailability
from streams.wire.journal_records import progress_record
from streams.wire.records import ClusterProgress
from streams.wire.timestamps import of_milliseconds
from tests.support.clustersets import NOW, Journal, Member, endpoint_slice, export, joined, service


class Outage:
    """Two clusters export a Service with endpoints; `east` has a policy, and `west` goes on to be heard of."""

    def __init__(self, drop: tuple[str, str] | None) -> None:
        self._is_told = False
        self.journal = Journal()
        self.east, self.west = Member("east"), Member("west")
        self.journal.take(self.east.begin(service(), endpoint_slice("a", "10.1.0.1", "10.1.0.2"), export(drop=drop)))
        self.journal.take(self.west.begin(service(), endpoint_slice("b", "10.2.0.1"), export()))

    def pass_time(self, seconds: int) -> dict[str, Any]:
        """The other cluster is heard of after this time; what the set says of the one that isn't."""
        self.journal.now += seconds * 1000
        self.journal.take(self.west.heartbeat())
        return self.east_in_set()

    def return_(self) -> dict[str, Any]:
        """The cluster is heard of again."""
        self.journal.take(self.east.heartbeat())
        return self.east_in_set()

    def covers_both(self) -> None:
        """A record of the process that watches both clusters."""
        entries = []
        for member in (self.east, self.west):
            commits = member.collector.commits
            entries.append(ClusterProgress(commits.cluster, commits.epoch, commits.seq, dict(commits.frontier)))
        said = () if self._is_told else entries
        self._is_told = True
        self.journal.take([JournalRecord(0, progress_record("w1", self.west.at(), said), 0)])

    def east_in_set(self) -> dict[str, Any]:
        (found,) = (each for each in self.journal.set_of()["exports"] if each["cluster"] == "east")
        return dict(found)

    def addresses(self) -> list[str]:
        """Those of the set, as readers are shown them."""
        return [endpoint["address"] for endpoint in joined(self.journal.writes)[-1]["endpoints"]]


def test_without_a_policy_endpoints_stay() -> None:
    outage = Outage(None)
    assert outage.pass_time(30 * 24 * 3600)["counted"]
    assert outage.addresses() == ["10.1.0.1", "10.1.0.2", "10.2.0.1"]


def test_they_leave_after_the_policys_time_with_the_export_as_cause() -> None:
    outage = Outage(("30s", "0%"))
    assert outage.pass_time(30)["counted"]
    version = outage.journal.set_of()["version"]
    dropped = outage.pass_time(1)
    assert not dropped["counted"]
    assert dropped["unavailable"] == {
        "action": "dropped",
        "since": of_milliseconds(NOW),
        "decided": of_milliseconds(NOW + 31_000),
        "remaining": 1,
        "endpoints": 3,
    }
    row = outage.journal.set_of()
    assert (row["previous"], row["origin"], row["cause"][0]["kind"]) == (version, "east", "ServiceExport")
    assert (row["state"], outage.addresses()) == ("ready", ["10.2.0.1"])


def test_they_stay_where_too_few_would_remain_until_others_have_come() -> None:
    outage = Outage(("30s", "50%"))
    kept = outage.pass_time(31)
    assert (kept["counted"], kept["unavailable"]["action"]) == (True, "kept")
    outage.journal.take(outage.west.apply(endpoint_slice("b", "10.2.0.1", "10.2.0.2")))
    assert outage.pass_time(29) == kept
    dropped = outage.pass_time(1)
    assert (dropped["unavailable"]["action"], dropped["unavailable"]["remaining"]) == ("dropped", 2)


def test_the_last_endpoints_leave_an_empty_set_that_says_why() -> None:
    outage = Outage(("30s", "0%"))
    outage.journal.take(outage.west.delete(export()))
    outage.pass_time(31)
    row = outage.journal.set_of()
    assert (row["state"], row["reason"]) == ("empty", "ClustersUnavailable")
    assert joined(outage.journal.writes)[-1]["reason"] == "ClustersUnavailable"


def test_they_are_back_once_the_cluster_is_heard_of_but_not_before_the_policys_time() -> None:
    outage = Outage(("30s", "0%"))
    dropped = outage.pass_time(31)
    outage.pass_time(1)
    assert outage.return_() == dropped
    outage.pass_time(20)
    outage.return_()
    outage.pass_time(8)
    assert outage.east_in_set() == dropped
    assert outage.pass_time(1)["counted"]
    assert outage.addresses() == ["10.1.0.1", "10.1.0.2", "10.2.0.1"]


def test_a_new_watchers_snapshot_has_to_be_complete() -> None:
    outage = Outage(("30s", "0%"))
    dropped = outage.pass_time(31)
    outage.journal.now += 31_000
    begin, *others = outage.east.begin_again(2)
    outage.journal.take([begin])
    assert outage.east_in_set() == dropped
    outage.journal.take(others)
    assert outage.east_in_set()["counted"]


def test_a_watcher_that_has_lost_the_api_server_does_not_pass_for_its_cluster() -> None:
    outage = Outage(("30s", "0%"))
    outage.journal.take(outage.east.heartbeat())
    outage.covers_both()
    outage.journal.now += 31_000
    outage.covers_both()
    assert outage.east_in_set()["counted"]
    outage.journal.take(outage.east.heartbeat(stale_since=outage.east.at()))
    lost = outage.journal.now
    outage.journal.now += 31_000
    outage.covers_both()
    dropped = outage.east_in_set()
    assert (dropped["counted"], dropped["unavailable"]["since"]) == (False, of_milliseconds(lost))
    outage.journal.now += 31_000
    outage.covers_both()
    assert outage.east_in_set() == dropped
    outage.journal.take(outage.east.heartbeat())
    assert outage.east_in_set()["counted"]


def test_an_export_whose_policy_is_taken_back_counts_at_once() -> None:
    outage = Outage(("30s", "0%"))
    outage.pass_time(31)
    outage.journal.take(outage.east.apply(export()))
    assert outage.east_in_set()["counted"]


def test_of_clusters_that_are_missing_together_the_floor_keeps_the_later() -> None:
    policies = dict.fromkeys(("east", "north", "west"), DropPolicy(30, 50))
    signals = {"east": 0, "north": 0, "west": 40_000}

    def signal_of(name: str) -> Signal:
        return Signal(of_milliseconds(NOW + signals[name]), True)

    decisions = decide(policies, {}, signal_of, lambda _: 1, NOW + 40_000)
    assert {name: (each.action, each.remaining) for name, each in decisions.items()} == {
        "east": ("dropped", 2), "north": ("kept", 1),
    }  # fmt: skip


def test_a_cluster_of_which_no_time_is_known_is_not_taken_for_missing() -> None:
    assert decide({"east": DropPolicy(30)}, {}, lambda _: Signal("", True), lambda _: 1, NOW) == {}


def test_the_brokers_clock_may_go_back() -> None:
    earlier = Unavailability("dropped", of_milliseconds(NOW), of_milliseconds(NOW + 31_000), 0, 1)
    signal = Signal(of_milliseconds(NOW + 32_000), True)
    decisions = decide({"east": DropPolicy(30)}, {"east": earlier}, lambda _: signal, lambda _: 1, NOW)
    assert decisions == {"east": earlier}


@pytest.mark.parametrize(
    ("drop", "wanted"),
    [
        (None, b'"drop":{"afterSeconds":600,"floorPercent":20}'),
        (("never", "0%"), None),
        (("90s", "50%"), b'"drop":{"afterSeconds":90,"floorPercent":50}'),
        (("2h", "0%"), b'"drop":{"afterSeconds":7200}'),
    ],
)
def test_an_exports_own_policy_goes_before_its_watchers(drop: tuple[str, str] | None, wanted: bytes | None) -> None:
    content = Exports(DropPolicy(600, 20)).take(("ServiceExport", "shop", "cart"), export(drop=drop))
    assert b'"drop"' not in content if wanted is None else wanted in content


class NamespacePolicies:
    """A watcher with a policy of its own, an export without one and one that has it."""

    def __init__(self) -> None:
        self.exports = Exports(DropPolicy(600))
        self.exports.take(CART, export())
        self.exports.take(WEB, export("web", drop=("90s", "0%")))

    def take(self, after: str | None, name: str = "shop") -> str:
        """The Namespace is applied; what can't be read of it."""
        annotations = {} if after is None else {"service-facets.io/drop-unavailable-after": after}
        return self.exports.take_namespace(name, {"metadata": {"name": name, "annotations": annotations}})

    def outdated(self) -> dict[str, int | None]:
        """The exports whose content has changed, with the seconds of their policies."""
        return {key[2]: _seconds(content) for key, content in self.exports.take_outdated(())}


CART, WEB = (("ServiceExport", "shop", name) for name in ("cart", "web"))


def _seconds(content: bytes) -> int | None:
    policy = orjson.loads(content).get("drop")
    return policy["afterSeconds"] if policy else None


def test_a_namespaces_policy_goes_before_the_watchers_and_after_the_exports() -> None:
    policies = NamespacePolicies()
    assert policies.take("30s") == ""
    assert policies.outdated() == {"cart": 30}
    assert policies.outdated() == {}
    assert policies.take("30s") == ""
    assert policies.outdated() == {}
    policies.take("never")
    assert policies.outdated() == {"cart": None}
    policies.take("30s", "payments")
    assert policies.outdated() == {}
    assert _seconds(policies.exports.take(CART, export())) is None
    policies.exports.take_namespace("shop", None)
    assert policies.outdated() == {"cart": 600}


def test_a_namespaces_policy_that_cant_be_read_leaves_the_one_before() -> None:
    policies = NamespacePolicies()
    policies.take("30s")
    policies.outdated()
    assert "'soon' is neither never nor from 1s to 30d" in policies.take("soon")
    assert policies.outdated() == {}
    assert _seconds(policies.exports.take(CART, export())) == 30


def test_a_namespaces_policy_reaches_the_sets_of_exports_that_are_there() -> None:
    outage = Outage(None)
    namespace = {"kind": "Namespace", "metadata": {"name": "shop", "annotations": {
        "service-facets.io/drop-unavailable-after": "30s", "service-facets.io/drop-unavailable-floor": "10%",
    }}}  # fmt: skip
    outage.journal.take(outage.east.apply(namespace))
    assert outage.east_in_set()["drop"] == {"afterSeconds": 30, "floorPercent": 10}
    assert not outage.pass_time(31)["counted"]
    namespace["metadata"] = {"name": "shop"}
    outage.journal.take(outage.east.apply(namespace))
    assert outage.east_in_set()["counted"]
