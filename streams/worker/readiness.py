"""A worker's readiness, for `/readyz` and `/metrics`."""

import time
from collections.abc import Callable

from streams.runtime.probes import Readiness
from streams.subscription.cluster_metrics import show_freshness
from streams.subscription.freshness import Place, of_clusters, silences
from streams.wire.records import Seal
from streams.worker.materializer import Materializer
from streams.worker.metrics import BEHIND

LAG_COMMITS = 100
"""A worker that is further behind the journal than this has yet to catch up."""

LATE_SECONDS = 10.0
"""How long the broker may take to acknowledge rows."""


Highwater = Callable[[int], int | None]
"""The end of a journal partition, if the broker has told it."""


def work_readiness(materializer: Materializer, highwater: Highwater) -> Readiness:
    """The worker's readiness."""

    def writing() -> str:
        late = materializer.unacknowledged_seconds()
        return f"the broker has not acknowledged rows for {late:.0f} s" if late > LATE_SECONDS else ""

    def folding() -> str:
        behind = behind_by_partition(materializer, highwater)
        worst = max(behind, key=lambda partition: behind[partition], default=0)
        if behind.get(worst, 0) <= LAG_COMMITS:
            return ""
        return f"partition {worst} is {behind[worst]} commits behind the journal"

    def refresh() -> None:
        BEHIND.set(sum(behind_by_partition(materializer, highwater).values()))
        seals: dict[Place, Seal] = {
            (partition, name): seal
            for partition, fold in materializer.folds.items()
            for name, seal in fold.seals().items()
        }
        now = time.time()
        show_freshness(of_clusters(seals, now, silences(seals, now)))

    needs = {"partitions": lambda: materializer.assigning, "rows": writing, "journal": folding}
    return Readiness(needs, details=lambda: {"partitions": sorted(materializer.folds)}, refresh=refresh)


def behind_by_partition(materializer: Materializer, highwater: Highwater) -> dict[int, int]:
    """How many journal records wait to be folded, for partitions whose end is known."""
    behind = {}
    for partition, offset in materializer.positions().items():
        end = highwater(partition)
        if end is not None:
            behind[partition] = max(0, end - offset)
    return behind
