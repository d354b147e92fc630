"""Which clusters a reader takes for alive: those whose watcher was, when the record was made that says so."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from streams.subscription.freshness import alive
from streams.wire.records import Seal
from tests.simulation.base import ms_of
from tests.simulation.kafka import Record

_SEAL = b"~seal/"
_decode_seal = msgspec.json.Decoder(Seal).decode


class Heard(NamedTuple):
    """When the newest record came that shows a cluster's watcher alive, and when the newest one came that names the
    cluster (`named`); `counts` unless it is lost or has ended, `is_stale` while its watcher can't reach the API server,
    and `is_current` if what is there of it is complete and up to date."""

    ms: int
    named: int
    counts: bool
    is_stale: bool
    is_current: bool


class Alive:
    """`made` and `repeated` are told of progress records before they are in the journal."""

    def __init__(self) -> None:
        self._living: dict[bytes, dict[str, int]] = {}
        self._repeated: set[bytes] = set()
        self._taken_up: set[tuple[int, str]] = set()
        self._seals: dict[tuple[str, int], dict[bytes, Seal]] = {}

    def made(self, value: bytes, living: dict[str, int]) -> None:
        """A process that watches these clusters, with their epochs, has made a progress record."""
        self._living[value] = living

    def repeated(self, value: bytes) -> None:
        """A record of before comes again: nothing tells it from one that is true."""
        self._repeated.add(value)

    def is_true(self, value: bytes, partition: int, cluster: str, epoch: int) -> bool:
        """Whether the cluster was watched when the record was made that covers it, or a repeated one took it up again,
        and its process tells of no change since."""
        place = partition, cluster
        if value in self._repeated:
            self._taken_up.add(place)
        elif self._living.get(value, {}).get(cluster) == epoch:
            self._taken_up.discard(place)
        else:
            return place in self._taken_up
        return True

    def sealed(self, table: str, partition: int, record: Record, heard: Mapping[str, Heard]) -> str:
        """What is wrong with what a reader of a table concludes once it has this seal ("": nothing)."""
        seals = self._seals.setdefault((table, partition), {})
        seal = _decode_seal(record.value or b"")
        if (before := seals.get(record.key)) is None or before.offset <= seal.offset:
            seals[record.key] = seal
        if seal.more:
            return ""
        newest = alive({(partition, each.cluster): each for each in seals.values()})
        for cluster, (ms, _, counts, *_) in heard.items():
            said: Any = newest.get((partition, cluster))
            if counts and (said is None or ms_of(said.appended) != ms):
                return f"{cluster} was last heard of at {ms}, for a reader it was at {said and ms_of(said.appended)}"
        return ""
