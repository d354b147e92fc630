"""The clusterset's rows: the Service of all clusters that export it, from the table's row of each cluster.

A partition has all clusters' rows of a Service. The set of a name is made again when the row of a cluster has changed;
it is written where it differs. Its endpoints are not in it, so that their changes cost it nothing.

Where an export has a policy for when nothing is heard of its cluster, a set also changes as the journal's time passes
(`facets.unavailability`): it is looked at when that may be, with whichever record comes then.

After a crash between the rows of one commit, those that are in the log are above the table's seal: their sets are made
with that commit again, to the same bytes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from typing import Any, NamedTuple

import msgspec

from streams.facets import invariants
from streams.facets.contribution import NOT_EXPORTED, ContributionEntry, ContributionTable
from streams.facets.endpoint_set import count_endpoints
from streams.facets.service_set import Contribution, ServiceSet, combine, dns_name, valid_exports
from streams.facets.unavailability import NO_DECISIONS, Decisions, Signal, decide, is_due, next_time
from streams.fold.table import TableState, Write
from streams.objects.resources import SERVICE_EXPORT
from streams.wire.clusterset_records import NO_PREFERENCE, DropPolicy, SetExport, SetRow, Unavailability
from streams.wire.keys import is_row, is_set, parse_row_key, set_key_of
from streams.wire.records import Cause
from streams.wire.row_codec import RowContext, encode_head, same_content

_encode = msgspec.json.encode
_NEVER = 1 << 63
_NOTHING = ServiceSet("deleted", NOT_EXPORTED, None, [], "None", None, None, None, NO_PREFERENCE, [], {}, {}, [], [])


class _Caused(msgspec.Struct):
    cause: list[Cause]


class _Exporting(msgspec.Struct):
    exports: list[SetExport]


_decode_caused = msgspec.json.Decoder(_Caused).decode
_decode_exporting = msgspec.json.Decoder(_Exporting).decode
_DROP = b'"drop":{'


class Moment(NamedTuple):
    """A journal record as the sets see it: `appended` is its Kafka timestamp in milliseconds (0: it has none).
    `context` is that of its rows, for a cluster; `signal_of` tells of a cluster as of this record."""

    offset: int
    appended: int
    context: Callable[[str], RowContext]
    signal_of: Callable[[str], Signal]


class _Row(NamedTuple):
    """A set's row. `contributions` are those that it was made of, none where it was read back."""

    version: int
    value: bytes
    contributions: Mapping[str, Contribution]
    decisions: Decisions = NO_DECISIONS


class _Missing(NamedTuple):
    """A cluster about which something is decided, as it was when that was last looked at. `retry` is from when on (in
    the journal's time) it may be back in a set, `any_kept` whether one has kept it, which a sign of life ends."""

    signal: Signal
    retry: int
    any_kept: bool


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
        self._policies: dict[str, dict[str, DropPolicy]] = {}
        """By cluster, and set, those of valid exports."""
        self._next_time = 0
        """Before that, in the journal's time, no decision becomes another one by itself."""
        self._missing: dict[str, _Missing] = {}
        """The clusters about which something is decided."""

    def load(
        self, rows: Mapping[str, tuple[int, bytes]], unsealed: Mapping[tuple[str, bytes], tuple[int, bytes | None]]
    ) -> None:
        """Take the sets' rows as read back, and all rows above their table's seal (version and value)."""
        for key in self._table:
            self._members.setdefault(set_key_of(key), set()).add(key)
        for key, (version, value) in rows.items():
            self._rows[key] = _Row(version, value, {})
            if _DROP in value:
                self._hold(key, self._rows[key], _decode_exporting(value).exports)
        self._unfinished = {
            key.decode(): value
            for (table, key), (_, value) in unsealed.items()
            if table == self._table.name and not is_set(key)
        }

    def may_change(self, writes: Iterable[Write]) -> bool:
        """Whether a record with these writes may change a set: not where it is of no Service that is exported, and time
        decides nothing."""
        if self._unfinished or self._policies:
            return True
        own = self._table.name
        return any(write.table == own for write in writes)

    def fold(self, writes: Iterable[Write], moment: Moment) -> list[Write]:
        """The sets' rows after a record's writes."""
        if moment.offset <= self._table.sealed:
            return []
        changed, self._unfinished = self._unfinished, {}
        for write in writes:
            if write.table == self._table.name and is_row(write.key):
                changed[write.key.decode()] = write.value
        by_set: dict[str, dict[str, bytes | None]] = {}
        for key, value in sorted(changed.items()):
            by_set.setdefault(set_key_of(key), {})[key] = value
        due = self._due(moment) if self._policies and moment.appended else frozenset()
        for name in sorted(due):
            by_set.setdefault(name, {})
        return [write for name, rows in by_set.items() for write in self._fold_set(moment, name, rows, due)]

    def _due(self, moment: Moment) -> Set[str]:
        """The sets whose decisions are other ones at this moment, if no contribution has changed."""
        is_time = moment.appended >= self._next_time
        if is_time:
            self._next_time = _NEVER
        due: set[str] = set()
        for cluster in self._policies if is_time else list(self._missing):
            signal, missing = moment.signal_of(cluster), self._missing.get(cluster)
            if is_time or (missing is not None and self._may_return(missing, signal, moment.appended)):
                due.update(self._due_of(cluster, signal, moment.appended))
        return due

    def _may_return(self, missing: _Missing, signal: Signal, now: int) -> bool:
        """Whether a sign of life bears on what was decided about a cluster. If it comes too early, that is noted."""
        if signal == missing.signal:
            return False
        if signal.is_complete and now < missing.retry:
            self._next_time = min(self._next_time, missing.retry)
        return missing.any_kept or (signal.is_complete and now >= missing.retry)

    def _due_of(self, cluster: str, signal: Signal, now: int) -> Iterator[str]:
        """The sets in which the decision about a cluster is due; when the others are is noted."""
        self._missing.pop(cluster, None)
        for name, policy in self._policies[cluster].items():
            decision = self._rows[name].decisions.get(cluster)
            if is_due(policy, decision, signal, now):
                yield name
            else:
                self._await(cluster, policy, decision, signal, now)

    def _await(
        self, cluster: str, policy: DropPolicy, decision: Unavailability | None, signal: Signal, now: int
    ) -> None:
        """Note when a decision may be another one: at a time, with a sign of life, or with what is the later."""
        time = next_time(policy, decision, signal)
        if time is not None and time > now:
            self._next_time = min(self._next_time, time)
        if decision is not None:
            missing = self._missing.get(cluster, _Missing(signal, _NEVER, any_kept=False))
            self._missing[cluster] = _Missing(
                signal, min(missing.retry, time or 0), any_kept=missing.any_kept or decision.action == "kept"
            )

    def _fold_set(self, moment: Moment, name: str, changed: Mapping[str, bytes | None], due: Set[str]) -> list[Write]:
        """`changed` are the rows of the contributions that have changed, in the order of their keys; `due` are the sets
        about whose clusters something is to be decided."""
        members = self._members.setdefault(name, set())
        for key in changed:
            (members.add if key in self._table else members.discard)(key)
        before = self._rows.get(name)
        if not members:
            del self._members[name]
            self._release(name)
            if self._rows.pop(name, None) is None:
                return []
            # The last contribution's row is older than the resume window, and so is the set's.
            return [Write(self._table.name, name.encode(), None, moment.offset)]
        if before is not None and before.version >= moment.offset:
            return []
        known = before.contributions if before is not None else {}
        # After a restart nothing is held of what a row was made of; without a change it would be made of the same.
        read = {
            key: _contribution(key, self._table.entry(key)) for key in members if key in changed or key not in known
        }
        is_same = not changed or (known.keys() <= members and all(known.get(key) == own for key, own in read.items()))
        if is_same and name not in due:
            return []
        contributions = {key: read.get(key) or known[key] for key in sorted(members)}
        decisions_before = before.decisions if before is not None else NO_DECISIONS
        decisions = self._decide(moment, contributions, decisions_before)
        if is_same and decisions == decisions_before:
            return []
        combined = combine(list(contributions.values()), decisions)
        if combined is None and before is None:
            return []
        previous = None if before is None else before.version
        origin, causes = _cause(changed, contributions, decisions_before, decisions)
        combined = combined or _NOTHING
        row = _encode_row(moment.context(origin), name, previous, causes, combined)
        version, value = moment.offset, row
        if before is not None and same_content(before.value, row):
            version, value = before.version, before.value
        self._release(name)
        self._hold(name, _Row(version, value, contributions), combined.exports)
        self._await_all(moment, name)
        if version < moment.offset:
            return []
        invariants.assert_row_follows(self._table.name, name, previous, moment.offset, row)
        return [Write(self._table.name, name.encode(), row, moment.offset)]

    def _decide(self, moment: Moment, contributions: Mapping[str, Contribution], before: Decisions) -> Decisions:
        if not any(each.export is not None and each.export.drop for each in contributions.values()):
            return NO_DECISIONS
        policies = {
            each.cluster: each.export.drop for each in valid_exports(contributions.values()) if each.export is not None
        }
        if not moment.appended:
            return {cluster: decision for cluster, decision in before.items() if policies.get(cluster)}
        keys = {contribution.cluster: key for key, contribution in contributions.items()}

        def count(cluster: str) -> int:
            return count_endpoints(self._table.entry(keys[cluster]).endpoints)

        return decide(policies, before, moment.signal_of, count, moment.appended)

    def _await_all(self, moment: Moment, name: str) -> None:
        for cluster, policies in self._policies.items():
            if (policy := policies.get(name)) is not None:
                decision = self._rows[name].decisions.get(cluster)
                self._await(cluster, policy, decision, moment.signal_of(cluster), moment.appended)

    def _hold(self, name: str, row: _Row, exports: Iterable[SetExport]) -> None:
        """Hold a set's row, and its valid exports' policies and decisions."""
        decisions: dict[str, Any] = {}
        for export in exports:
            if export.drop is not None and export.valid == "Valid":
                self._policies.setdefault(export.cluster, {})[name] = export.drop
            if export.unavailable is not None:
                decisions[export.cluster] = export.unavailable
        self._rows[name] = row._replace(decisions=decisions or NO_DECISIONS)

    def _release(self, name: str) -> None:
        for cluster in list(self._policies):
            policies = self._policies[cluster]
            policies.pop(name, None)
            if not policies:
                del self._policies[cluster]
                self._missing.pop(cluster, None)


def _contribution(key: str, entry: ContributionEntry) -> Contribution:
    state: Any = entry.state
    return Contribution(parse_row_key(key).cluster, entry.export, entry.service, state, entry.reason)


def _cause(
    changed: Mapping[str, bytes | None],
    contributions: Mapping[str, Contribution],
    before: Decisions,
    decisions: Decisions,
) -> tuple[str, list[Cause]]:
    """The cluster by which a set has changed, and the objects: those of a contribution's row, else the export whose
    policy has decided."""
    for key, value in changed.items():
        return parse_row_key(key).cluster, [] if value is None else _decode_caused(value).cause
    decided = [cluster for cluster in sorted({*before, *decisions}) if before.get(cluster) != decisions.get(cluster)]
    key, contribution = next((key, each) for key, each in contributions.items() if each.cluster == decided[0])
    uid = contribution.export.uid if contribution.export else ""
    return contribution.cluster, [Cause(SERVICE_EXPORT.kind, parse_row_key(key).name, uid, "")]


def _encode_row(ctx: RowContext, name: str, previous: int | None, causes: list[Cause], combined: ServiceSet) -> bytes:
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
