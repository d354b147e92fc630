"""The clusterset's rows: the Service of all clusters that export it, from the table's row of each cluster.

A partition has all clusters' rows of a Service. The set of a name is made again when the row of a cluster has changed;
it is written where it differs. Its endpoints are not in it, so that their changes cost it nothing.

After a crash between the rows of one commit, those that are in the log are above the table's seal: their sets are made
with that commit again, to the same bytes.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from streams.facets import invariants
from streams.facets.contribution import NOT_EXPORTED, ContributionEntry, ContributionTable
from streams.facets.service_set import Contribution, ServiceSet, combine, dns_name
from streams.fold.table import TableState, Write
from streams.wire.clusterset_records import SetRow
from streams.wire.keys import is_row, is_set, parse_row_key, set_key_of
from streams.wire.records import Cause
from streams.wire.row_codec import RowContext, encode_head, same_content

_encode = msgspec.json.encode
_NOTHING = ServiceSet("deleted", NOT_EXPORTED, None, [], "None", None, None, None, [], {}, {}, [], [])


class _Caused(msgspec.Struct):
    cause: list[Cause]


_decode_caused = msgspec.json.Decoder(_Caused).decode


class _Row(NamedTuple):
    """A set's row. `contributions` are those that it was made of, none where it was read back."""

    version: int
    value: bytes
    contributions: Mapping[str, Contribution]


class ServiceSets:
    """The sets of one partition; `table` has the clusters' contributions."""

    @classmethod
    def of(cls, tables: Iterable[TableState[Any]]) -> "ServiceSets | None":
        """Those of the clusterset's table; None where it is not among the tables."""
        return next((cls(table) for table in tables if isinstance(table.rules, ContributionTable)), None)

    def __init__(self, table: TableState[ContributionEntry]) -> None:
        self._table = table
        self._members: dict[str, set[str]] = {}
        """The keys of the contributions to each set."""
        self._rows: dict[str, _Row] = {}
        self._unfinished: dict[str, bytes | None] = {}
        """The contributions of the commit after the newest seal that are written already."""

    def load(
        self, rows: Mapping[str, tuple[int, bytes]], unsealed: Mapping[tuple[str, bytes], tuple[int, bytes | None]]
    ) -> None:
        """Take the sets' rows as read back, and all rows above their table's seal (version and value)."""
        for key in self._table:
            self._members.setdefault(set_key_of(key), set()).add(key)
        self._rows = {key: _Row(version, value, {}) for key, (version, value) in rows.items()}
        self._unfinished = {
            key.decode(): value
            for (table, key), (_, value) in unsealed.items()
            if table == self._table.name and not is_set(key)
        }

    def fold(self, writes: Iterable[Write], offset: int, context: Callable[[str], RowContext]) -> list[Write]:
        """The sets' rows after a commit's writes; `context` is that of the commit, for a cluster."""
        if offset <= self._table.sealed:
            return []
        changed, self._unfinished = self._unfinished, {}
        for write in writes:
            if write.table == self._table.name and is_row(write.key):
                changed[write.key.decode()] = write.value
        by_set: dict[str, dict[str, bytes | None]] = {}
        for key, value in sorted(changed.items()):
            by_set.setdefault(set_key_of(key), {})[key] = value
        return [write for name, rows in by_set.items() for write in self._fold_set(context, name, rows, offset)]

    def _fold_set(
        self,
        context: Callable[[str], RowContext],
        name: str,
        changed: Mapping[str, bytes | None],
        offset: int,
    ) -> list[Write]:
        """`changed` are the rows of the contributions that have changed, in the order of their keys."""
        members = {key for key in {*self._members.get(name, ()), *changed} if key in self._table}
        self._members[name] = members
        before = self._rows.get(name)
        if not members:
            del self._members[name]
            # The last contribution's row is older than the resume window, and so is the set's.
            return [] if self._rows.pop(name, None) is None else [Write(self._table.name, name.encode(), None, offset)]
        if before is not None and before.version >= offset:
            return []
        contributions = {key: _contribution(key, self._table.entry(key)) for key in sorted(members)}
        if before is not None and contributions == before.contributions:
            return []
        combined = combine(list(contributions.values()))
        if combined is None and before is None:
            return []
        previous = None if before is None else before.version
        origin, cause = next(iter(changed.items()))
        row = _encode_row(context(parse_row_key(origin).cluster), name, previous, cause, combined or _NOTHING)
        if before is not None and same_content(before.value, row):
            self._rows[name] = before._replace(contributions=contributions)
            return []
        invariants.assert_row_follows(self._table.name, name, previous, offset, row)
        self._rows[name] = _Row(offset, row, contributions)
        return [Write(self._table.name, name.encode(), row, offset)]


def _contribution(key: str, entry: ContributionEntry) -> Contribution:
    state: Any = entry.state
    return Contribution(parse_row_key(key).cluster, entry.export, entry.service, state, entry.reason)


def _encode_row(ctx: RowContext, name: str, previous: int | None, changed: bytes | None, combined: ServiceSet) -> bytes:
    causes = [] if changed is None else _decode_caused(changed).cause
    head = encode_head(
        ctx, f"/{name}", previous, state=combined.state, reason=combined.reason, rejected=(), causes=causes
    )
    namespace, service = name.split("/")
    content = b",".join(
        [
            b'"%b":%b' % (field.encode_name.encode(), _encode(getattr(combined, field.name)))
            for field in msgspec.structs.fields(SetRow)
            if field.name in ServiceSet._fields and field.name not in {"state", "reason"}
        ]
    )
    return b'%b,"origin":%b,"dnsName":%b,%b}' % (
        head,
        _encode(ctx.cluster),
        _encode(dns_name(namespace, service)),
        content,
    )
