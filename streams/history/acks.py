"""Reads `facets.acks` up to a time."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import Protocol, Self

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.history.coverage import NotKnown
from streams.history.router_log import Key, earliest, read_batch
from streams.kafka.range_reader import RangeReader
from streams.kafka.skipped_records import report
from streams.runtime.closing import Closing
from streams.runtime.progress import ProgressReport
from streams.subscription.names import unknown_name
from streams.wire.ack_records import ACKS, AckBatch
from streams.wire.partitioning import partition_of
from streams.wire.timestamps import milliseconds, of_milliseconds, write

_LATE_MS = 5 * 60 * 1000
"""How much later than it happened a step may be in the log: what Kafka could not take at once, and clocks that
differ."""

_REPORT_EVERY = 200


class AckLog(Protocol):
    """What batches are folded into. `names` are all routers that they name, `partitions` how many the topic has."""

    names: set[str]
    partitions: int

    def take(self, batch: AckBatch, partition: int) -> None:
        """Take the next batch, and the partition that it is of."""


class NotRecorded(FacetsError):
    """No server has recorded which router has what."""

    exit_code = ExitCode.NOT_KNOWN


class AckReader(Closing):
    """Use it in a `with`. After `batches`, `begins_at` is when the first step that is retained happened ("" if there is
    none), `is_whole` says that the log still has its beginning, and `skipped` counts the records that can't be read."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._reader = RangeReader(bootstrap, "facets-acks-range")
        self.partitions = 0
        self.begins_at = ""
        self.is_whole = True
        self.skipped = 0

    def __enter__(self) -> Self:
        try:
            self.partitions = self._reader.partitions(ACKS)
            if not self.partitions:
                raise NotRecorded(
                    f"which router has what is not recorded: there is no topic {ACKS} at {self._bootstrap}",
                    "facets topics create, then restart facets serve",
                )
        except BaseException:
            self.close()
            raise
        return self

    def close(self) -> None:
        """Disconnect."""
        self._reader.close()

    def batches(
        self, until: int, partitions: Collection[int] = (), progress: ProgressReport = lambda _, __: None
    ) -> Iterator[tuple[AckBatch, int]]:
        """The batches of these partitions (none: of all) in which there may be something of up to this time, in
        milliseconds since 1970, each with its partition. Raises BrokerError."""
        chosen = sorted(partitions) or list(range(self.partitions))
        begins, ends = self._reader.bounds(ACKS, chosen)
        begun: dict[int, int] = {}
        count, total = 0, max(1, sum(ends[p] - begins[p] for p in chosen))
        for partition in chosen:
            self.is_whole = self.is_whole and begins[partition] == 0
            for record in self._reader.records(ACKS, partition, begins[partition], ends[partition]):
                count += 1
                if count % _REPORT_EVERY == 0:
                    progress(f"reading {ACKS}", min(1.0, count / total))
                # The first one is looked at in any case: it says since when something is known.
                if record.timestamp > until + _LATE_MS and partition in begun:
                    break
                try:
                    batch = read_batch(record.value)
                except ValueError as error:
                    self.skipped += 1
                    report(ACKS, partition, record.offset, str(error), "facets serve")
                    continue
                # They are about in order: what is in the first record was first.
                if partition not in begun:
                    begun[partition] = earliest(batch)
                yield batch, partition
        self.begins_at = of_milliseconds(min(begun.values(), default=0))


def fold_acks(
    bootstrap: str,
    log: AckLog,
    at: str = "",
    node: str = "",
    services: Collection[Key] = (),
    progress: ProgressReport = lambda _, __: None,
) -> list[str]:
    """Fold what routers acknowledged up to a time ("": by now), of these Services' partitions or of all. Returns
    remarks on what is not known. Raises NotKnown for a time before the log, UnknownName for a node that it never names
    (with "" none is asked for), NotRecorded, BrokerError."""
    until = milliseconds(at or write(datetime.now(UTC)))
    with AckReader(bootstrap) as reader:
        partitions = {partition_of(*service, reader.partitions) for service in services}
        log.partitions = reader.partitions
        for batch, partition in reader.batches(until, partitions, progress):
            log.take(batch, partition)
    if not reader.begins_at:
        raise NotRecorded(f"{ACKS} is empty: no facets serve has recorded which router has what", "facets doctor")
    if at and at < reader.begins_at:
        raise NotKnown(
            f"{at} is before what is known of routers",
            f"{ACKS} begins at {reader.begins_at}; its retention decides how far back it goes: facets topics",
        )
    if node and node not in log.names:
        raise unknown_name("router", node, log.names, f" in {ACKS}" + f" up to {at}" * bool(at))
    remarks = []
    if reader.skipped:
        remarks.append(f"{reader.skipped} records of {ACKS} can't be read, and are left out")
    if not reader.is_whole:
        remarks.append(f"what a router has had since before {reader.begins_at}, when {ACKS} begins, is not known")
    return remarks
