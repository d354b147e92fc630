"""Faults of the clusterset, planted to show that the checks see them: each leaves one rule out of the real code.
`seen_as` is how the check names it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

import msgspec

from streams.facets import service_set, unavailability
from streams.fold import service_sets
from streams.fold.fold import PartitionFold
from streams.fold.service_sets import ServiceSets
from streams.objects.collector import Collector
from streams.objects.multicluster import Exports
from streams.subscription import set_rows
from streams.wire.clusterset_records import DropPolicy, SetPort
from tests.support.clustersets import kept_after_unexport
from tests.support.naive_availability import ms

Plant = Callable[[], AbstractContextManager[Any]]
Check = Literal["sets", "decisions", "restart"]


class Fault(NamedTuple):
    """How the fault gets in, and how it is seen: by what the check says, and which one."""

    plant: Plant
    seen_as: str
    check: Check
    in_outages: bool


WAIT = 30_000
"""The shortest time of a policy, in milliseconds."""

PLANTED: dict[str, Fault] = {}


def _fault(seen_as: str, check: Check = "sets", *, in_outages: bool = False) -> Callable[[Plant], Plant]:
    def register(plant: Plant) -> Plant:
        PLANTED[plant.__name__.strip("_").replace("_", "-")] = Fault(plant, seen_as, check, in_outages)
        return plant

    return register


def _valid_in_spite_of(ignored: str) -> AbstractContextManager[Any]:
    real = service_set._validity

    def validity(contribution: Any, owners: Any) -> Any:
        reason = real(contribution, owners)
        return "Valid" if reason == ignored else reason

    return patch.object(service_set, "_validity", validity)


# ---- exporting, importing ----------------------------------------------------------------------------------


@_fault("leaked")
def _what_was_exported_stays_in_the_row() -> AbstractContextManager[Any]:
    return kept_after_unexport()


@_fault("the set is")
def _a_set_outlives_its_last_export() -> AbstractContextManager[Any]:
    real = ServiceSets._fold_set

    def fold_set(self: ServiceSets, moment: Any, name: str, changed: Any, due: Any) -> Any:
        writes = real(self, moment, name, changed, due)
        return [write for write in writes if b'"state":"deleted"' not in (write.value or b"")]

    return patch.object(ServiceSets, "_fold_set", fold_set)


@_fault("exports: |endpoints: |claims: ")
def _an_export_comes_without_its_endpoints() -> AbstractContextManager[Any]:
    return patch.object(Collector, "_repeat_exported", lambda _: None)


@_fault("exports: ")
def _an_export_without_a_service_counts() -> AbstractContextManager[Any]:
    return _valid_in_spite_of("NoService")


@_fault("exports: |type: |conflicts: ")
def _an_external_name_counts() -> AbstractContextManager[Any]:
    return _valid_in_spite_of("InvalidServiceType")


@_fault("type: |hosts: ")
def _headless_services_get_an_ip() -> AbstractContextManager[Any]:
    return patch.object(service_set, "_type", lambda _: "ClusterSetIP")


# ---- the oldest export -------------------------------------------------------------------------------------


@_fault("should be")
def _the_newest_export_wins() -> AbstractContextManager[Any]:
    real = service_set.combine
    order = {20: 22, 21: 21, 22: 20}

    def aged(each: Any) -> Any:
        if each.export is None:
            return each
        created = f"2026-11-{order[int(each.export.created[8:10])]}T12:00:00Z"
        return each._replace(export=msgspec.structs.replace(each.export, created=created))

    return patch.object(
        service_sets, "combine", lambda members, decided: real([aged(each) for each in members], decided)
    )


@_fault("conflict|exports: ")
def _conflicts_are_not_said() -> AbstractContextManager[Any]:
    return patch.object(service_set, "_conflicts", lambda _: [])


@_fault("labels: |annotations: ")
def _labels_of_all_exports_are_merged() -> AbstractContextManager[Any]:
    real = service_set.combine

    def combine(contributions: Any, decisions: Any) -> Any:
        made = real(contributions, decisions)
        if made is None:
            return made
        exports = [each.export for each in contributions if each.export is not None]
        return made._replace(labels={key: text for each in exports for key, text in each.labels.items()})

    return patch.object(service_sets, "combine", combine)


# ---- ports -------------------------------------------------------------------------------------------------


@_fault("ports: ")
def _ports_of_one_name_are_not_merged() -> AbstractContextManager[Any]:
    real = service_set._ports

    def ports(valid: Any) -> Any:
        made = real(valid)
        named = {port.name for port in made}
        more = [port for each in valid[1:] for port in each.service.ports if port.name in named]
        return made + [SetPort(port.name, port.port, port.protocol, port.app_protocol, {}) for port in more]

    return patch.object(service_set, "_ports", ports)


@_fault("ports: |claims: ")
def _every_cluster_exposes_every_port() -> AbstractContextManager[Any]:
    return patch.object(service_set, "_own_port", lambda _, port: port)


# ---- names and ids -----------------------------------------------------------------------------------------


@_fault("hosts: ")
def _the_cluster_comes_before_the_host() -> AbstractContextManager[Any]:
    return patch.object(set_rows, "host_dns_name", lambda host, cluster, name: f"{cluster}.{host}.{name}")


@_fault("hosts: ")
def _hosts_of_a_cluster_ip_have_names() -> AbstractContextManager[Any]:
    return patch.object(set_rows, "_host_zone", lambda row: row["dnsName"])


@_fault("dnsName: ")
def _the_name_has_the_cluster_in_it() -> AbstractContextManager[Any]:
    return patch.object(
        service_sets, "dns_name", lambda namespace, name: f"east.{name}.{namespace}.svc.clusterset.local"
    )


@_fault("exports: |type: ")
def _two_clusters_with_one_id_are_merged() -> AbstractContextManager[Any]:
    real = service_set._validity
    return patch.object(service_set, "_validity", lambda each, owners: real(each, {**owners, each.id: each.cluster}))


@_fault("exports: ")
def _an_id_that_changes_is_not_heard_of() -> AbstractContextManager[Any]:
    return patch.object(Exports, "take_outdated", lambda *_: iter(()))


# ---- endpoints ---------------------------------------------------------------------------------------------


@_fault("claims: ", in_outages=True)
def _an_address_of_two_clusters_is_there_twice() -> AbstractContextManager[Any]:
    return patch.object(set_rows, "_one_winner", lambda endpoints: endpoints)


@_fault("versions: ")
def _a_set_has_the_version_of_its_own_row() -> AbstractContextManager[Any]:
    return patch.object(set_rows, "_head", lambda row, _: {"version": row["version"], "previous": row["previous"]})


# ---- restarts ----------------------------------------------------------------------------------------------


@_fault("clusterset has other records", "restart")
def _sets_of_rows_that_are_written_already_are_not_made() -> AbstractContextManager[Any]:
    real = ServiceSets.load
    return patch.object(ServiceSets, "load", lambda self, rows, _: real(self, rows, {}))


@_fault("clusterset has other records", "restart")
def _sets_are_made_anew_after_a_restart() -> AbstractContextManager[Any]:
    real = ServiceSets.load
    return patch.object(ServiceSets, "load", lambda self, _, unsealed: real(self, {}, unsealed))


# ---- clusters of which nothing is heard ------------------------------------------------------------------------


@_fault("unavailable: ", "decisions", in_outages=True)
def _who_is_heard_of_again_is_back_at_once() -> AbstractContextManager[Any]:
    real = unavailability.decide

    def decide(policies: Any, before: Any, signal_of: Any, count: Any, now: int) -> Any:
        decisions = real(policies, before, signal_of, count, now)
        return {name: each for name, each in decisions.items() if now - ms(signal_of(name).heard) > WAIT}

    return patch.object(service_sets, "decide", decide)


@_fault("unavailable: ", "decisions", in_outages=True)
def _a_snapshot_that_is_not_complete_brings_endpoints_back() -> AbstractContextManager[Any]:
    real = PartitionFold._signal_of
    return patch.object(PartitionFold, "_signal_of", lambda self, name: real(self, name)._replace(is_complete=True))


@_fault("unavailable: ", "decisions", in_outages=True)
def _the_last_endpoints_are_dropped_too() -> AbstractContextManager[Any]:
    real = unavailability.decide

    def decide(policies: Any, *more: Any) -> Any:
        return real({name: each and DropPolicy(each.after_seconds) for name, each in policies.items()}, *more)

    return patch.object(service_sets, "decide", decide)


@_fault("unavailable: ", "decisions", in_outages=True)
def _the_time_for_a_decision_passes_unseen() -> AbstractContextManager[Any]:
    return patch.object(service_sets, "next_time", lambda *_: None)


@_fault("unavailable: ", "decisions", in_outages=True)
def _nobody_looks_for_those_who_return() -> AbstractContextManager[Any]:
    return patch.object(ServiceSets, "_may_return", lambda *_: False)


@_fault("unavailable: ", "decisions", in_outages=True)
def _a_dropped_clusters_endpoints_do_not_count_as_missing() -> AbstractContextManager[Any]:
    real = unavailability._choose_action

    def choose(cluster: str, policy: Any, counts: Any, _: Any) -> Any:
        return real(cluster, policy, counts, {})

    return patch.object(unavailability, "_choose_action", choose)


@_fault("clusterset has other records", "restart", in_outages=True)
def _a_restart_forgets_what_was_decided() -> AbstractContextManager[Any]:
    return patch.object(service_sets, "_DROP", b"~")
