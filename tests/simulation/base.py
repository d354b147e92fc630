"""What all nodes of a simulation share: its chance, its clock and its topics."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random

from streams.facets.tables import FACET_TABLES, WORKER_TABLES
from tests.simulation.kafka import Log, Record
from tests.simulation.seeds import REGRESSIONS, WITHOUT_EXPORTS

TABLES = ("frontend", "backend", "routing")
CLUSTERSET = "clusterset"
PROGRESS = b'{"phase":"progress"'
"""How the journal's progress records begin."""

_START = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@lru_cache(maxsize=4096)
def time_of(ms: int) -> str:
    """A time of the simulation, as commits carry it."""
    at = _START + timedelta(milliseconds=ms)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def ms_of(at: str) -> int:
    """The inverse of `time_of`."""
    return round((datetime.fromisoformat(at) - _START) / timedelta(milliseconds=1))


def stamp_of(ms: int) -> int:
    """A time of the simulation as Kafka stamps records with it: milliseconds since the epoch."""
    return round(_START.timestamp() * 1000) + ms


class Violation(AssertionError):
    """A guarantee is broken."""


class Base:
    """`lagging`, `duplicates`, `bookmarks`, `streaming`, `bad`: how the API servers and Kafka misbehave in this run;
    `slow_kind` is a resource type whose lists take long; `gateway_api` says whether the clusters have it, and with it
    routes. `shares_process` says whether one process watches all clusters at first, `blocks` whether changes have to
    wait at times; `divided` whether rows of few endpoints are in parts; `exports` whether the clusters have the
    Multi-Cluster Services API, and workers its table (`table_names`, `rules`). `faults` counts what happened."""

    def __init__(self, seed: int, watch: Callable[[str, int, Record], None]) -> None:
        self.seed = seed
        self.rng = rng = Random(seed)
        self.ms = 0
        self.partitions = rng.choice((1, 2, 3))
        self.window_ms = 30_000
        self.lagging = rng.choice((0.0, 0.3, 0.6))
        self.duplicates = rng.choice((0.0, 0.0, 0.1))
        self.bookmarks = rng.choice((0.0, 0.3, 1.0))
        self.streaming = rng.random() < 0.7
        self.streaming_first = self.streaming or rng.random() < 0.5
        self.bad = rng.random() < 0.4
        self.journal = [Log(lambda record, p=p: watch("journal", p, record)) for p in range(self.partitions)]
        # Drawn apart, so that the other runs stay what they were.
        self.exports = seed not in WITHOUT_EXPORTS and Random(f"{seed}: exports").random() < 0.3
        self.drops = self.exports and seed not in REGRESSIONS and Random(f"{seed}: drop policies").random() < 0.7
        self.table_names = (*TABLES, CLUSTERSET) if self.exports else TABLES
        self.rules = WORKER_TABLES if self.exports else FACET_TABLES
        self.tables = {
            (table, p): Log(lambda record, table=table, p=p: watch(table, p, record))
            for table in self.table_names
            for p in range(self.partitions)
        }
        self.letters: list[tuple[int, int, bytes]] = []
        self.faults: Counter[str] = Counter()
        self.slow_kind = rng.choice((None, None, "Service", "EndpointSlice", "Endpoints"))
        # Drawn apart, so that the other runs stay what they were.
        apart = Random(f"{seed}: Gateway API")
        self.gateway_api = apart.random() < 0.75
        apart_too = Random(f"{seed}: watcher processes")
        self.blocks = apart_too.random() < 0.3
        self.shares_process = apart_too.random() < 0.6
        if self.gateway_api and apart.random() < 0.2:
            self.slow_kind = apart.choice(("Namespace", "Gateway", "ReferenceGrant", "HTTPRoute"))

        self._clocks = Random(f"{seed}: clocks").random() < 0.3
        self.divided = Random(f"{seed}: parts").random() < 0.5

    def at(self, ms: int | None = None) -> str:
        """The time now, or that of `ms`."""
        return time_of(self.ms if ms is None else ms)

    def clock_offset(self, machine: str) -> int:
        """How far a machine's clock is from the broker's, in milliseconds: in some runs up to an hour."""
        if not self._clocks:
            return 0
        self.note("clock that may differ")
        return Random(f"{self.seed}: clock of {machine}").choice((-3_600_000, -2_000, 0, 2_000, 3_600_000))

    def note(self, what: str) -> None:
        """Count something that happened, for the report."""
        self.faults[what] += 1

    def lag(self) -> int:
        """How many revisions the next API server that answers is behind."""
        if self.rng.random() >= self.lagging:
            return 0
        self.note("API server behind")
        return self.rng.randrange(1, 25)

    def times(self, what: str) -> int:
        """How often something comes: once, or now and then twice."""
        if self.rng.random() >= self.duplicates:
            return 1
        self.note(f"{what} duplicated")
        return 2

    def made_progress(self, record: bytes, living: dict[str, int]) -> None:
        """A watcher process made a progress record, while it watched these clusters, with their epochs."""
        raise NotImplementedError

    def journal_expired(self, partition: int, first: int) -> None:
        """A worker found that what it has to read next is gone."""
        raise NotImplementedError
