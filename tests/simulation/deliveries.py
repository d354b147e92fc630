"""What subscribers must get: each change once, in sealed batches, from a snapshot or a cursor on (guarantees 3, 5)."""

import base64
from bisect import bisect_right
from collections.abc import Iterator

import orjson

from streams.subscription.delivery import Batch
from streams.subscription.rows import EVERYTHING, Row
from streams.wire.keys import parse_row_key, row_key
from tests.simulation.base import Violation
from tests.simulation.checkers import Checkers, Made
from tests.simulation.cuts import Cuts
from tests.simulation.subscriber import Subscriber

Key = tuple[str, str]


class Deliveries:
    """Holds what each subscriber was given against what was written to the changelogs."""

    def __init__(self, checkers: Checkers) -> None:
        self.checkers = checkers
        self.snapshots: dict[str, int] = {}
        self.batches = 0
        self._applied: dict[str, dict[int, int]] = {}
        self._times: dict[str, dict[int, int]] = {}
        self._views: dict[str, dict[Key, bytes]] = {}
        self._cuts: dict[str, Cuts] = {}
        self._saved: dict[str, tuple[dict[int, int], dict[int, str], dict[Key, bytes]]] = {}

    def fail(self, who: Subscriber, text: str) -> None:
        """A guarantee is broken."""
        raise Violation(f"subscriber {who.name}: {text}")

    def view(self, who: Subscriber) -> dict[Key, bytes]:
        """The rows that the subscriber holds, without deleted ones."""
        return {key: value for key, value in self._views[who.name].items() if b'"state":"deleted"' not in value[:1000]}

    def expected(self, who: Subscriber, applied: dict[int, int]) -> dict[Key, bytes]:
        """The rows in the tables that it should hold when these offsets are applied."""
        found: dict[Key, bytes] = {}
        for (table, name), rows in self.checkers.rows.items():
            cluster, namespace, service = parse_row_key(name)
            if all(row.value is None for row in rows):
                continue  # Garbage under a set's key, which a worker has deleted.
            partition = self._partition(service)
            if table in who.tables and who.wanted.wants(cluster, namespace, service):
                held = [each for each in rows if each.version <= applied.get(partition, -1)]
                if held and held[-1].value is not None and held[-1].body["state"] != "deleted":
                    found[table, name] = self.checkers.whole.get(held[-1].value, held[-1].value)
        return found

    def folded(self, who: Subscriber, applied: dict[int, int], rows: dict[Key, bytes]) -> bool:
        """Whether who folds the journal may have these rows when these offsets are applied: those in the tables, and on
        from there what the journal makes."""
        in_tables = self.expected(who, applied)
        for partition, offset in applied.items():
            sealed = min(self._last_sealed(table, partition) for table in who.tables)
            names = self.checkers.keys[partition]
            held = {key: value for key, value in rows.items() if key[1].rpartition("/")[2] in names}
            of_tables = {key: value for key, value in in_tables.items() if key[1].rpartition("/")[2] in names}
            if not any(
                held == self._folded_on(who, of_tables, truth, sealed, offset) for truth in self._truths(partition)
            ):
                return False
        return True

    def _last_sealed(self, table: str, partition: int) -> int:
        return (self.checkers.seals[table, partition] or [-1])[-1]

    def _truths(self, partition: int) -> Iterator[dict[int, Made]]:
        """What each offset makes: for the workers, and for who folded the journal before it expired to them."""
        yield self.checkers.truth[partition]
        for _, truth in self.checkers.earlier[partition]:
            yield truth

    def saved(self, who: Subscriber) -> None:
        """The subscriber wrote its cursor down: from there it may go on."""
        if who.name in self._applied:
            self._saved[who.name] = (
                dict(self._applied[who.name]),
                dict(self._times[who.name]),
                dict(self._views[who.name]),
            )

    def resumed(self, who: Subscriber) -> None:
        """It goes on from the cursor: it is where it was when that was written."""
        applied, times, view = self._saved[who.name]
        body = orjson.loads(base64.urlsafe_b64decode(who.cursor))
        if {int(p): offset for p, offset in body["applied"].items()} != applied:
            self.fail(who, f"the cursor says {body['applied']}, but {applied} was delivered")
        self._applied[who.name], self._times[who.name] = dict(applied), dict(times)
        self._views[who.name] = dict(view)
        self._restart_cuts(who)

    def snapshot(self, who: Subscriber, reason: str, rows: tuple[Row, ...]) -> None:
        """Exactly what the tables held at the cut; and only where the changes can't be had."""
        self.snapshots[reason] = self.snapshots.get(reason, 0) + 1
        is_to_be_corrected = who.may_be_ahead and any(self.checkers.earlier)
        if reason in {"gap", "lost", "corrected", "different"} and not (
            is_to_be_corrected and reason in {"gap", "corrected"}
        ):
            self.fail(who, f"{reason}: {who.why}")
        assert who.state is not None
        if reason == "expired":
            oldest = min(self._times[who.name].values())
            if who.since - oldest <= who.sim.window_ms:
                self.fail(who, f"was told that its cursor has expired, {who.since - oldest} ms after its last seal")
        applied = dict(who.state.cursor.applied)
        got = {(row.table, row_key(row.cluster, row.namespace, row.name)): row.value for row in rows}
        if got != (wanted := self.expected(who, applied)) and not (who.folds and self.folded(who, applied, got)):
            wrong = {key for key in got.keys() | wanted.keys() if got.get(key) != wanted.get(key)}
            for key in sorted(wrong)[:1]:
                self.fail(who, f"snapshot at {applied}: {key} is {got.get(key)!r}, not {wanted.get(key)!r}")
        for partition, offset in applied.items():
            for table in who.tables:
                sealed = self.checkers.seals[table, partition]
                # What is folded before the tables seal it, or before they lose it with the journal.
                is_folded = offset > max(sealed, default=-1) or any(
                    offset in truth for _, truth in self.checkers.earlier[partition]
                )
                if offset >= 0 and offset not in sealed and not (who.folds and is_folded):
                    self.fail(who, f"snapshot at {offset} in [{partition}], which {table} has not sealed")
        self._applied[who.name] = applied
        self._times[who.name] = {p: self._ms(p, offset) for p, offset in applied.items()}
        self._views[who.name] = got
        self._restart_cuts(who)

    def batch(self, who: Subscriber, batch: Batch) -> None:
        """The next offset that all tables have sealed, with all rows up to it and no others. (More than one
        offset's only where the journal expired, with rows that had no seal yet.)"""
        self.batches += 1
        partition, offset = batch.partition, batch.seal.offset
        applied, view = self._applied[who.name], self._views[who.name]
        last = applied[partition]
        if batch.seal.more:
            if batch.rows or offset > last:
                self.fail(who, f"[{partition}]: a further seal of {offset} after {last}")
            if (cuts := self._cuts.get(who.name)) is not None and (problem := cuts.take(batch)):
                self.fail(who, problem)
            return
        got: dict[Key, list[bytes]] = {}
        for row in batch.rows:
            got.setdefault((row.table, row_key(row.cluster, row.namespace, row.name)), []).append(row.value)
        wanted: dict[Key, list[bytes]] = {}
        for table, name, value in self._due(who, batch, last, got):
            if table not in who.tables:
                continue
            if value is None:
                view.pop((table, name), None)
            elif who.wanted.wants(*parse_row_key(name)):
                wanted.setdefault((table, name), []).append(value)
        for row in batch.rows:
            key = (row.table, row_key(row.cluster, row.namespace, row.name))
            before = view.get(key)
            previous = orjson.loads(row.value)["previous"]
            held = orjson.loads(before)["version"] if before is not None else None
            if held is not None and held != previous:
                self.fail(who, f"[{partition}] {offset}: {key} follows {previous}, but {held} is held")
            view[key] = row.value
        if got != wanted:
            self.fail(who, f"[{partition}] {offset}: got {sorted(got)}, the commit made {sorted(wanted)}")
        applied[partition] = offset
        self._times[who.name][partition] = self._ms(partition, offset)
        if (cuts := self._cuts.get(who.name)) is not None and (problem := cuts.take(batch)):
            self.fail(who, problem)

    def _due(
        self, who: Subscriber, batch: Batch, last: int, got: dict[Key, list[bytes]]
    ) -> list[tuple[str, str, bytes | None]]:
        """The records that are due after an offset. Who folds the journal may have them before they are sealed."""
        partition, offset = batch.partition, batch.seal.offset
        if who.folds and offset == last + 1:
            for truth in self._truths(partition):
                rows = [row for row in self._rows(truth.get(offset, {})) if row[0] in who.tables]
                if offset in truth and got == {(table, name): [value] for table, name, value in rows if value}:
                    return rows
        sealed = {table: self._sealed_after(table, partition, last) for table in who.tables}
        common = set.intersection(*map(set, sealed.values()))
        if not common or offset != min(common):
            self.fail(who, f"[{partition}]: a batch of {offset} after {last}, where {sorted(common)[:1]} was due")
        return list(self._made(partition, last, offset))

    def _restart_cuts(self, who: Subscriber) -> None:
        """(A split commit's frontier comes with its last part: what is before it is of no frontier.)"""
        checkers = self.checkers
        if "routing" in who.tables and who.wanted == EVERYTHING and not checkers.split:
            if who.name not in self._cuts:
                services = sorted(name for names in checkers.keys.values() for name in names)
                self._cuts[who.name] = Cuts(len(checkers.keys), services, checkers.routing, who.sim.note)
            self._cuts[who.name].restart(self._views[who.name])

    def _sealed_after(self, table: str, partition: int, offset: int) -> list[int]:
        sealed = self.checkers.seals[table, partition]
        return sealed[bisect_right(sealed, offset) :]

    def _made(self, partition: int, last: int, offset: int) -> Iterator[tuple[str, str, bytes | None]]:
        """The rows after one offset, up to another."""
        if offset == last + 1 and (partition, offset) not in self.checkers.leftover:
            yield from self._rows(self.checkers.truth[partition][offset])
            return
        for (table, name), rows in self.checkers.rows.items():
            if name.rpartition("/")[2] in self.checkers.keys[partition]:
                for row in rows[bisect_right(rows, last, key=lambda each: each.version) :]:
                    if row.version <= offset:
                        yield table, name, self.checkers.whole.get(row.value or b"", row.value)

    def _partition(self, service: str) -> int:
        return next(p for p, names in self.checkers.keys.items() if service in names)

    def _ms(self, partition: int, offset: int) -> int:
        """When Kafka took the journal's record at an offset; long ago, if it never had one."""
        return self.checkers.times[partition].get(offset, -(10**9))

    def _rows(self, made: Made) -> list[tuple[str, str, bytes | None]]:
        """The rows of a commit: table, key and value, in its whole form."""
        whole = self.checkers.whole
        rows = ((table, key.decode(), value) for (table, key), value in made.items() if not key.startswith(b"~"))
        return [(table, key, whole.get(value or b"", value)) for table, key, value in rows]

    def _folded_on(
        self, who: Subscriber, rows: dict[Key, bytes], truth: dict[int, Made], sealed: int, offset: int
    ) -> dict[Key, bytes]:
        """The rows once the commits after one offset, up to another, are folded, too. None is deleted."""
        folded = dict(rows)
        for each in range(sealed + 1, offset + 1):
            for table, name, value in self._rows(truth.get(each, {})):
                if table not in who.tables:
                    continue
                if value is None or b'"state":"deleted"' in value[:1000]:
                    folded.pop((table, name), None)
                else:
                    folded[table, name] = value
        return folded
