"""What a subscriber knows at a cut: when every partition has sealed at least one number of a cluster's commits, all of
its rows are those of one frontier. A route's change, or that of a Gateway, a grant or a Namespace, bears on Services in
several partitions: there they have all of it, or nothing."""

from collections.abc import Callable
from typing import NamedTuple

import orjson

from streams.subscription.delivery import Batch
from streams.wire.keys import parse_row_key
from streams.wire.records import Seal
from tests.simulation import naive
from tests.simulation.routing_checks import RoutingChecks
from tests.simulation.world import NAMESPACE

LINKED = "several Services' routing changed at a cut"


class _Sealed(NamedTuple):
    """A batch of one partition: its seal, and the routing rows by Service."""

    seal: Seal
    rows: dict[str, bytes]


class Cuts:
    """One subscriber's. `take` is told of each batch that it is given, `restart` of each time that it begins anew."""

    def __init__(
        self, partitions: int, services: list[str], checks: RoutingChecks, note: Callable[[str], None]
    ) -> None:
        self._partitions = range(partitions)
        self._services = services
        self._checks = checks
        self._note = note
        self._ahead: dict[str, list[list[_Sealed]]] = {}
        self._seals: dict[str, list[Seal | None]] = {}
        self._rows: dict[str, dict[str, bytes]] = {}
        self._expired: dict[tuple[str, int], int] = {}

    def restart(self, view: dict[tuple[str, str], bytes]) -> None:
        """It holds these rows now, by table and `CLUSTER/NAMESPACE/SERVICE`."""
        self._ahead, self._seals, self._rows = {}, {}, {}
        self._expired.clear()
        for (table, key), row in view.items():
            cluster, _, name = parse_row_key(key)
            if table == "routing":
                self._rows.setdefault(cluster, {})[name] = row

    def take(self, batch: Batch) -> str:
        """What is wrong with the cuts that are complete with this batch ("": nothing)."""
        seal = batch.seal
        rows: dict[str, dict[str, bytes]] = {seal.cluster: {}}
        for row in batch.rows:
            if row.table == "routing":
                rows.setdefault(row.cluster, {})[row.name] = row.value
        for cluster in rows.keys() - {seal.cluster}:
            # Of a cluster that has ended: its tombstones come with another's commits. And where the journal expired,
            # one batch marks all clusters.
            self._rows.setdefault(cluster, {}).update(rows[cluster])
            if any(orjson.loads(row)["state"] == "unknown" for row in rows[cluster].values() if row):
                self._expired[cluster, batch.partition] = seal.offset
        if seal.cluster.startswith("~"):
            return ""  # A watcher's progress, which is of no one cluster.
        ahead = self._ahead.setdefault(seal.cluster, [[] for _ in self._partitions])
        ahead[batch.partition].append(_Sealed(seal, rows[seal.cluster]))
        return self._advance(seal.cluster) if all(ahead) else ""

    def _advance(self, cluster: str) -> str:
        ahead = self._ahead[cluster]
        seals = self._seals.setdefault(cluster, [None for _ in self._partitions])
        cut = min((queue[-1].seal.epoch, queue[-1].seal.seq) for queue in ahead)
        rows = self._rows.setdefault(cluster, {})
        changed: set[str] = set()
        for partition, queue in enumerate(ahead):
            # The last one of a partition stays: by it the next cut is told.
            while len(queue) > 1 and (queue[0].seal.epoch, queue[0].seal.seq) <= cut:
                seals[partition] = self._apply(queue.pop(0), rows, changed)
            if (queue[0].seal.epoch, queue[0].seal.seq) <= cut:
                seals[partition] = self._apply(queue[0], rows, changed)
        if len(changed) > 1:
            self._note(LINKED)
        sealed = [seal for seal in seals if seal is not None]
        # Where one partition has heard of a next watcher, the last one's commits may never come to the others.
        is_replaced = len({queue[-1].seal.epoch for queue in ahead}) > 1
        # Where the journal expired, what a partition had up to the cut may be among what is lost.
        is_lost = any(queue[0].seal.lost for queue in ahead) or any(
            self._expired.get((cluster, partition), -1) > (seal.offset if seal else -1)
            for partition, seal in enumerate(seals)
        )
        if len(sealed) < len(seals) or is_replaced or is_lost or not _is_whole(sealed):
            return ""
        newest = max(sealed, key=lambda seal: seal.seq)
        return self._compare(cluster, newest, rows)

    def _apply(self, sealed: _Sealed, rows: dict[str, bytes], changed: set[str]) -> Seal:
        for name, row in sealed.rows.items():
            if rows.get(name) != row:
                changed.add(name)
            rows[name] = row
        return sealed.seal

    def _compare(self, cluster: str, seal: Seal, rows: dict[str, bytes]) -> str:
        world = self._checks.world(cluster, naive.revisions(seal.frontier))
        for name in self._services:
            value = rows.get(name)
            row = orjson.loads(value) if value is not None else None
            if problem := self._checks.decision(world, name, row):
                return f"at the cut {seal.epoch}/{seal.seq}: {cluster}/{NAMESPACE}/{name}: {problem}"
        return ""


def _is_whole(seals: list[Seal]) -> bool:
    """Whether the cluster is complete in all partitions, by the word of one watcher."""
    return len({seal.epoch for seal in seals}) == 1 and all(
        seal.frontier and not seal.lost and not seal.closed and seal.snapshot_begin is None for seal in seals
    )
