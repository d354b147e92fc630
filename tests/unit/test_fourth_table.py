"""A table is a file: a fourth one, unknown to the fold, is sealed, recovered, marked stale and tombstoned."""

from typing import Any, NamedTuple

import msgspec
import orjson

from streams.facets.changes import ServiceChange
from streams.facets.overlay import overlaid
from streams.facets.table import RowUpdate, Table
from streams.facets.tables import FACET_TABLES
from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.wire.records import Cause, Rejection, RowHead
from streams.wire.row_codec import RowContext, encode_head


class SlicesRow(RowHead, kw_only=True):
    uid: str
    slices: list[str]


class SlicesEntry(NamedTuple):
    version: int | None
    state: str
    reason: str
    rejected: tuple[Rejection, ...]
    uid: str
    slices: tuple[str, ...]


class SlicesTable(Table[SlicesEntry]):
    """The names of a Service's slices."""

    name = "slices"
    kinds = frozenset({"Service", "EndpointSlice"})
    nothing = SlicesEntry(None, "deleted", "", (), "", ())

    def read(self, row: bytes) -> SlicesEntry:
        fields = msgspec.json.decode(row, type=SlicesRow)
        return SlicesEntry(fields.version, fields.state, fields.reason, (), fields.uid, tuple(fields.slices))

    def fold(
        self, ctx: RowContext, key: str, entry: SlicesEntry, change: ServiceChange
    ) -> RowUpdate[SlicesEntry] | None:
        uid, names = entry.uid, set(entry.slices)
        if change.service is not None:
            uid = change.service.content[1].uid if change.service.content else ""
        for content, cause, _ in change.of(("EndpointSlice",)):
            names.discard(cause.name) if content is None else names.add(cause.name)
        state, reason = overlaid("ready" if uid else "deleted", "", ctx, ())
        new = SlicesEntry(ctx.offset, state, reason, (), uid, tuple(sorted(names)))
        if new[1:] == entry[1:]:
            return None
        return RowUpdate(new, self.encode(ctx, key, new, entry.version))

    def encode(self, ctx: RowContext, key: str, entry: SlicesEntry, previous: int | None) -> bytes:
        head = encode_head(ctx, key, previous, state=entry.state, reason=entry.reason, rejected=(), causes=())
        return b'%b,"uid":%b,"slices":%b}' % (head, orjson.dumps(entry.uid), orjson.dumps(list(entry.slices)))

    def objects(self, key: str, entry: SlicesEntry) -> list[Cause]:
        service = [Cause("Service", key.rpartition("/")[2], entry.uid, "")] if entry.uid else []
        return service + [Cause("EndpointSlice", name, "", "") for name in entry.slices]

    def is_finished(self, entry: SlicesEntry) -> bool:
        return not entry.uid and not entry.slices


TABLES = (*FACET_TABLES, SlicesTable())
WINDOW = 60
KEY = b"east/shop/cart"
SERVICE = {
    "uid": "u1", "type": "ClusterIP", "clusterIPs": ["10.96.0.7"], "ipFamilies": ["IPv4"],
    "dnsName": "cart.shop.svc.cluster.local", "externalName": None, "headless": False, "ports": [], "selector": None,
    "sessionAffinity": "None", "sessionAffinityTimeoutSeconds": None, "trafficDistribution": None,
    "internalTrafficPolicy": None, "externalTrafficPolicy": None, "publishNotReadyAddresses": False,
}  # fmt: skip
SLICE = {"groups": [{"family": "IPv4", "ports": [], "endpoints": []}]}


def event(op: str, kind: str, name: str, version: int, content: Any = None) -> dict[str, Any]:
    head = {"op": op, "kind": kind, "namespace": "shop", "name": name, "service": "cart", "uid": "u1"}
    return {**head, "resourceVersion": str(version), **({"object": content} if content else {})}


def commit(seq: int, phase: str, *events: dict[str, Any], second: int = 0, stale_since: str = "") -> bytes:
    at = f"2026-11-24T12:{second // 60:02}:{second % 60:02}.000Z"
    stamps = {"cluster": "east", "epoch": 1, "writer": "w", "seq": seq, "at": at, "phase": phase, "frontier": {}}
    return orjson.dumps({**stamps, "staleSince": stale_since, "events": list(events)})


CART = event("apply", "Service", "cart", 1, SERVICE)
JOURNAL = [
    commit(1, "begin"),
    commit(2, "snapshot", CART, event("apply", "EndpointSlice", "a", 2, SLICE)),
    commit(3, "end"),
    commit(4, "live", event("apply", "EndpointSlice", "b", 3, SLICE)),
    commit(5, "live", stale_since="2026-11-24T12:00:01.000Z"),
    commit(6, "live"),
    commit(7, "live", event("delete", "EndpointSlice", "a", 4), event("delete", "EndpointSlice", "b", 5)),
    commit(8, "live", event("delete", "Service", "cart", 6)),
    commit(9, "live", second=WINDOW),
]


def folded(journal: list[bytes], tables: Any = TABLES) -> list[Write]:
    fold = PartitionFold(0, tables, WINDOW)
    return [write for offset, value in enumerate(journal) for write in fold.step(offset, value)]


def slices_of(writes: list[Write]) -> list[tuple[int, Any]]:
    """The fourth table's rows: version, and (state, slices); None for a tombstone."""
    rows = [write for write in writes if write.table == "slices" and write.key == KEY]
    decoded = [(write.version, write.value and orjson.loads(write.value)) for write in rows]
    return [(version, row and (row["state"], row["slices"])) for version, row in decoded]


def test_its_rows_follow_from_the_journal_and_end_with_a_tombstone() -> None:
    assert slices_of(folded(JOURNAL)) == [
        (2, ("ready", ["a"])),
        (3, ("ready", ["a", "b"])),
        (4, ("stale", ["a", "b"])),
        (5, ("ready", ["a", "b"])),
        (6, ("ready", [])),
        (7, ("deleted", [])),
        (8, None),
    ]


def test_it_is_sealed_like_the_others_and_changes_nothing_of_them() -> None:
    writes = folded(JOURNAL)
    seals: dict[str, list[Any]] = {table.name: [] for table in TABLES}
    for write in writes:
        if write.key == b"~seal/east":
            seals[write.table].append(write[1:])
    assert seals["slices"] == seals["backend"]
    assert len(seals["slices"]) == len(JOURNAL)
    assert [write for write in writes if write.table != "slices"] == folded(JOURNAL, FACET_TABLES)


def test_it_recovers_from_its_own_changelog_after_a_crash_between_the_tables() -> None:
    whole = folded(JOURNAL)
    for crash in range(len(whole)):
        again = PartitionFold(0, TABLES, WINDOW)
        for write in whole[:crash]:
            again.load(write.table, write.key, write.value, write.version)
        resume, writes = again.recover()
        for offset in range(resume, len(JOURNAL)):
            writes += again.step(offset, JOURNAL[offset])
        rows = dict(slices_of(whole[:crash])) | dict(slices_of(writes))
        assert rows == dict(slices_of(whole))


def test_a_snapshot_that_names_nothing_deletes_its_row() -> None:
    second_epoch = [value.replace(b'"epoch":1', b'"epoch":2') for value in (commit(1, "begin"), commit(2, "end"))]
    assert slices_of(folded(JOURNAL[:4] + second_epoch))[-1] == (5, ("deleted", []))
