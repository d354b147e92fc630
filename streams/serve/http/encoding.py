"""Snapshots, batches and heartbeats as JSON, and as server-sent events (WHATWG HTML, "Server-sent events")."""

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, cast, get_args

import msgspec

from streams.facets.parsed_rows import BackendFacet
from streams.subscription.freshness import Place, Silence, clusters_in, overlay_json, worst
from streams.subscription.rows import Filter, Row
from streams.subscription.set_rows import JoinedSet
from streams.wire import row_forms
from streams.wire.records import Record, Seal
from streams.wire.row_codec import is_deleted
from streams.wire.row_forms import without_endpoints

encode = msgspec.json.encode

SnapshotReason = Literal["start", "expired", "gap", "lost", "corrected"]
"""Why a snapshot is sent."""

EndReason = Literal["slow", "shutdown", "unavailable"]
"""Why the server ends a stream."""


RowForm = Literal["whole", "changes"]
"""How a batch's rows are printed: with all of a backend's endpoints, or only with those that changed."""

ROW_FORMS: tuple[RowForm, ...] = get_args(RowForm)


class Selection(NamedTuple):
    """What one client asks for: rows of these tables that the filter lets through, in this form."""

    tables: frozenset[str]
    row_filter: Filter = Filter()
    row_form: RowForm = "whole"

    def takes(self, row: Row) -> bool:
        """Whether a row is selected."""
        return row.table in self.tables and self.row_filter.wants(row.cluster, row.namespace, row.name)


class PrintedRow:
    """A row, with its JSON as the commands print it: encoded on first use, once for all clients."""

    __slots__ = ("_endpoints", "_text", "row")

    def __init__(self, row: Row) -> None:
        self.row = row
        self._text = b""
        self._endpoints = -1

    @property
    def text(self) -> bytes:
        """The row with its table's name first."""
        if not self._text:
            self._text = print_row(self.row)
            # The wire form is no longer needed.
            self.row = self.row._replace(value=b"")
        return self._text

    @property
    def size(self) -> int:
        """About how many bytes it takes, encoded and not."""
        return 2 * max(len(self.row.value), len(self._text))

    @property
    def is_deleted(self) -> bool:
        """Whether the row's state is `deleted`."""
        return is_deleted(self.row.value or self._text)

    @property
    def endpoints(self) -> int:
        """How many endpoints the row has: counted on first use."""
        if self._endpoints < 0:
            facet = self.row.facet if self.row.value and self.row.table == "backend" else None
            if isinstance(facet, BackendFacet):
                self._endpoints = sum(len(group.endpoints) for group in facet.groups)
            else:
                self._endpoints = len(_decode_endpoints(self.text).endpoints)
        return self._endpoints


class _Endpoints(msgspec.Struct):
    endpoints: list[msgspec.Raw] = []


_decode_endpoints = msgspec.json.Decoder(_Endpoints).decode


class PrintedSet(PrintedRow):
    """A set of the clusterset, which is put together when the first client gets it: it has the endpoints of all its
    clusters, however little has changed."""

    __slots__ = ("_is_deleted", "_joined")

    def __init__(self, joined: JoinedSet) -> None:
        super().__init__(joined.row(is_shown=False))
        self._is_deleted = joined.is_deleted
        self._joined: JoinedSet | None = joined

    @property
    def text(self) -> bytes:
        """The row with its table's name first."""
        if self._joined is not None:
            self._text = row_forms.print_row(self.row.table, self._joined.text(), [])
            self._joined = None
        return self._text

    @property
    def is_deleted(self) -> bool:
        """Whether the set's state is `deleted`."""
        return self._is_deleted

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return max(_UNPRINTED_BYTES, 2 * len(self._text))


_UNPRINTED_BYTES = 16 * 1024
"""What a set takes that is not put together: its clusters' rows are held anyway."""


def text_of(row: PrintedRow) -> bytes:
    """A row's JSON, as it was written."""
    return row.text


def print_in_batch(text: bytes, form: RowForm) -> bytes:
    """A printed row as it is in a batch: what it replaces is held by whoever gets it."""
    return text if form == "whole" else without_endpoints(text)


def print_row(row: Row) -> bytes:
    """A row as JSON, with its table's name first: `stale` while its cluster is silent."""
    facet = row.facet if row.table == "backend" else None
    groups = facet.groups if isinstance(facet, BackendFacet) else []
    return overlay_json(row_forms.print_row(row.table, row.value, groups), row.silence)


class BatchHead(Record):
    """Data of an event `batch`: all rows (that are asked for) of one journal offset. Apply them together."""

    type: Literal["batch", "progress"]
    partition: int
    offset: int
    cluster: str
    epoch: int
    seq: int
    at: str
    phase: str
    frontier: dict[str, str]


class SnapshotHead(Record):
    """Data of an event `snapshot`, a part of all rows. The parts from the `first` to the `last` replace everything
    held; the reason is `start`, or why the changes since the cursor can't be had: `expired`, `gap`, `lost`, or
    `corrected`: the tables have other rows than the server had made of the journal."""

    type: Literal["snapshot"]
    reason: SnapshotReason
    first: bool
    last: bool


class Stale(Record):
    """Why a cluster's rows are stale though they don't say so: nothing has come of it since then. `partitions` are
    those that it is about; a Service is in partition `crc32("namespace/service")` modulo their number."""

    reason: str
    since: str
    partitions: list[int]


class Heartbeat(Record):
    """Data of an event `heartbeat`. `frontiers` are by cluster and resource type: everything up to this
    resourceVersion has been sent. A cluster whose snapshot is not complete has none. `stale` names the clusters that
    have fallen silent; their rows are what was last known."""

    type: Literal["heartbeat"]
    at: str
    frontiers: dict[str, dict[str, str]]
    stale: dict[str, Stale]


class End(Record):
    """Data of an event `end`: the server closes the stream. Reconnect with Last-Event-ID."""

    type: Literal["end"]
    reason: EndReason
    message: str


def batch_head(partition: int, seal: Seal, *, quiet: bool) -> BatchHead:
    """A batch without its rows; `quiet` if it has none."""
    kind: Literal["batch", "progress"] = "progress" if quiet else "batch"
    return BatchHead(
        kind, partition, seal.offset, seal.cluster, seal.epoch, seal.seq, seal.at, seal.phase, seal.frontier
    )


def with_rows(head: Mapping[str, Any] | Record, texts: Iterable[bytes]) -> bytes:
    """The head as JSON, with `rows` as its last field."""
    return b'%b,"rows":[%b]}' % (encode(head)[:-1], b",".join(texts))


def event(name: str, data: bytes, cursor: str = "") -> bytes:
    """A server-sent event; JSON has no raw line break, so the data is one line. Without a cursor the client keeps its
    last one."""
    head = b"event: %b\nid: %b\n" % (name.encode(), cursor.encode()) if cursor else b"event: %b\n" % name.encode()
    return b"%bdata: %b\n\n" % (head, data)


def heartbeat(at: str, frontiers: dict[str, dict[str, str]], silent: Mapping[Place, Silence]) -> Heartbeat:
    """A heartbeat: how far everything is, and which clusters are silent, in which partitions."""
    by_cluster: dict[str, dict[int, Silence]] = {}
    for (partition, cluster), silence in sorted(silent.items()):
        by_cluster.setdefault(cluster, {})[partition] = silence
    stale: dict[str, Stale] = {}
    for cluster, own in sorted(by_cluster.items()):
        longest = worst(own.values())
        stale[cluster] = Stale(longest.reason, longest.since, list(own))
    return Heartbeat("heartbeat", at, frontiers, stale)


def end(reason: EndReason, text: str) -> bytes:
    """The last event of a stream that the server ends."""
    return event("end", encode(End("end", reason, text)))


def snapshot_part(reason: str, texts: Iterable[bytes], *, first: bool) -> bytes:
    """A part of a snapshot, but not the last. It has no id: half a snapshot can't be resumed from."""
    return event("snapshot", with_rows(_snapshot_head(reason, first=first, last=False), texts))


def snapshot_end(reason: str, texts: Iterable[bytes], cursor: str, *, first: bool) -> bytes:
    """The last part of a snapshot."""
    return event("snapshot", with_rows(_snapshot_head(reason, first=first, last=True), texts), cursor)


def _snapshot_head(reason: str, *, first: bool, last: bool) -> SnapshotHead:
    return SnapshotHead("snapshot", cast(SnapshotReason, reason), first, last)


def frontiers(seals: Mapping[tuple[int, str], Seal], partitions: int) -> dict[str, dict[str, str]]:
    """By cluster and resource type the lowest resourceVersion of all partitions: everything up to it is included. A
    cluster without a complete snapshot in some partition has none, and neither has a type that can't be listed at the
    moment."""
    by_cluster: dict[str, dict[str, str]] = {}
    for cluster in sorted(clusters_in(seals)):
        own = [seal.frontier for p in range(partitions) if (seal := seals.get((p, cluster))) and seal.frontier]
        known_types = [{name for name, version in at.items() if version} for at in own]
        shared = set.intersection(*known_types) if len(own) == partitions else set()
        if shared:
            by_cluster[cluster] = {name: min((at[name] for at in own), key=int) for name in sorted(shared)}
    return by_cluster
