"""Faults of the clusterset's table: of exports, and of its rows after a crash. `properties/clusterset_faults` has those
of the rules by which exports are combined."""

from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import msgspec

from streams.facets.contribution import ContributionTable
from streams.facets.unavailability import Signal
from streams.fold import progress, service_sets
from streams.fold.fold import PartitionFold
from streams.fold.service_sets import ServiceSets
from streams.objects.collector import Collector
from streams.objects.multicluster import Exports
from tests.simulation.planting import fault
from tests.support.clustersets import kept_after_unexport


@fault(2, "a new export comes without the endpoints that are there", since=36)
def _export_without_its_endpoints() -> AbstractContextManager[Any]:
    return patch.object(Collector, "_repeat_exported", lambda _: None)


@fault(6, "an export that only a relist shows has none of what was there before", since=32)
def _export_of_a_relist_without_its_endpoints() -> AbstractContextManager[Any]:
    return patch.object(ContributionTable, "takes_up", lambda *_: False)


@fault(2, "what was exported stays in the table when the export is taken back", since=32)
def _exported_for_ever() -> AbstractContextManager[Any]:
    return kept_after_unexport()


@fault(2, "exports keep the id that their cluster had", since=16)
def _id_change_not_followed() -> AbstractContextManager[Any]:
    return patch.object(Exports, "take_outdated", lambda *_: iter(()))


@fault(5, "after a crash the sets of rows that are written already are not made", since=290)
def _sets_of_written_rows_not_made() -> AbstractContextManager[Any]:
    real = ServiceSets.load
    return patch.object(ServiceSets, "load", lambda self, rows, _: real(self, rows, {}))


@fault(1, "after a restart a set does not follow the one that is written", since=32)
def _sets_forgotten_at_a_restart() -> AbstractContextManager[Any]:
    real = ServiceSets.load
    return patch.object(ServiceSets, "load", lambda self, _, unsealed: real(self, {}, unsealed))


@fault(2, "that a cluster is not heard of any more is looked at only when something else changes its sets", since=80)
def _decisions_only_with_changes() -> AbstractContextManager[Any]:
    return patch.object(service_sets, "next_time", lambda *_: None)


@fault(2, "a cluster whose process's progress shows it alive is taken for missing, as it has no commits of its own")
def _progress_is_no_sign_of_life() -> AbstractContextManager[Any]:
    def signal_of(self: PartitionFold, cluster: str) -> Signal:
        seal = self._cluster(cluster).seal
        return Signal(seal.appended, bool(seal.frontier) and seal.snapshot_begin is None)

    return patch.object(PartitionFold, "_signal_of", signal_of)


@fault(2, "a watcher that has lost its API server shows the cluster alive", since=186)
def _watcher_passes_for_its_cluster() -> AbstractContextManager[Any]:
    real = progress.signal_of

    def signal_of(self: PartitionFold, cluster: str) -> Signal:
        seal = self._cluster(cluster).seal
        heard = real(msgspec.structs.replace(seal, stale_since=""), self.progress).heard
        return Signal(heard, real(seal, self.progress).is_complete)

    return patch.object(PartitionFold, "_signal_of", signal_of)
