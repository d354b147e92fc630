"""The guarantees of the README, checked as every record is written. None of it uses the code under test, but for
one fold per partition that never crashes (what any other must equal, byte for byte)."""

from bisect import bisect_right
from collections import defaultdict
from typing import Any, NamedTuple
from zlib import crc32

import orjson

from streams.facets.changelog_records import is_row_key
from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.wire.keys import COMPANION_PREFIX, is_set
from tests.simulation import naive
from tests.simulation.alive import Alive, Heard
from tests.simulation.base import CLUSTERSET, PROGRESS, Base, Violation, ms_of, stamp_of
from tests.simulation.export_checks import contribution_problem, set_problem
from tests.simulation.kafka import Record
from tests.simulation.naive_routing import signature
from tests.simulation.routing_checks import RoutingChecks
from tests.simulation.world import NAMESPACE, ApiServer, is_bad, is_odd
from tests.support.naive_availability import count_endpoints, decisions_in, naive_decisions
from tests.support.parts import PartLost, PlainParts, merged

SEAL = b"~seal/"
PART = b"~part/"
DIVIDED = {"backend": "row in parts", CLUSTERSET: "contribution in parts"}
"""The tables with such rows, and how they are counted."""

Made = dict[tuple[str, bytes], bytes | None]
"""What a commit makes: values by table and key."""


class Standing(NamedTuple):
    """Where a cluster stands in a partition at one journal offset, by the rules of epochs alone."""

    cluster: str
    epoch: int = 0
    writer: str = ""
    seq: int = 0
    at: str = ""
    open: bool = False
    opens: bool = False
    frontier: dict[str, str] = {}  # noqa: RUF012 (a NamedTuple's default, never changed)
    stale: str = ""
    lost: bool = False
    closed: bool = False
    covered: bool = False
    heard: int = 0
    named: int = 0
    may_change: bool = False
    """Whether the commit at this offset may make rows."""


class Row(NamedTuple):
    """A row as written; `body` is None for a tombstone."""

    version: int
    value: bytes | None
    body: Any


class Checkers:
    """`seen` is told of every append, in the order of the run."""

    def __init__(self, sim: Base, servers: dict[str, ApiServer], services: list[str]) -> None:
        self.sim = sim
        self.servers = servers
        self.checks = 0
        count = sim.partitions
        self.keys: dict[int, list[str]] = {
            p: [name for name in services if crc32(f"{NAMESPACE}/{name}".encode()) % count == p] for p in range(count)
        }
        self.standing: list[dict[str, Standing]] = [{} for _ in range(count)]
        self.standings: list[dict[int, Standing]] = [{} for _ in range(count)]
        self.alive = Alive()
        self._progressed: list[dict[int, dict[str, Standing]]] = [{} for _ in range(count)]
        self._named: list[dict[str, int]] = [{} for _ in range(count)]
        """The newest seal of each cluster that another one of its offset follows."""
        self._heard: list[dict[int, dict[str, Heard]]] = [{} for _ in range(count)]
        self.times: list[dict[int, int]] = [{} for _ in range(count)]
        """When each record came, by its offset."""
        self.truth: list[dict[int, Made]] = [{} for _ in range(count)]
        self.earlier: list[list[tuple[PartitionFold, dict[int, Made]]]] = [[] for _ in range(count)]
        """What the commits make for who folded them before a worker found that the journal had expired."""
        self.letters: list[tuple[int, int, str, str]] = []
        self.rows: dict[tuple[str, str], list[Row]] = {}
        self._newest_seals: dict[tuple[str, int, bytes], tuple[int, bytes | None]] = {}
        self.seals: dict[tuple[str, int], list[int]] = {(t, p): [] for t in sim.table_names for p in range(count)}
        self.first: dict[tuple[int, int], str] = {}
        self._losses: dict[int, tuple[int, dict[str, Standing]]] = {}
        self.leftover: set[tuple[int, int]] = set()
        self._jumps: dict[tuple[str, int], int] = {}
        self._folds = [PartitionFold(p, sim.rules, sim.window_ms // 1000) for p in range(count)]
        self._folded_parts: defaultdict[tuple[PartitionFold, str], PlainParts] = defaultdict(PlainParts)
        self.parts: dict[tuple[str, bytes], dict[int, bytes | None]] = {}
        self._written_parts = {table: PlainParts() for table in DIVIDED}
        self.whole: dict[bytes, bytes] = {}
        """The whole form of rows in parts, by the row as it is written."""
        self._checked: dict[tuple[str, str], tuple[Any, naive.Revisions, dict[Any, Any]]] = {}
        self._fresh: dict[tuple[str, int], set[str]] = {each: set() for each in self.seals}
        self._last: dict[tuple[str, int, str], Standing] = {}
        self._archive: dict[tuple[str, int], list[Record]] = {each: [] for each in self.seals}
        self._ahead: dict[tuple[int, str], int] = {}
        """Up to which offset a cluster's standing is of later than the records that are read again."""
        self.split = False
        self.routing = RoutingChecks(servers)
        self._owed: dict[tuple[str, str], dict[str, str]] = {}

    def fail(self, text: str) -> None:
        """A guarantee is broken."""
        raise Violation(text)

    def seen(self, topic: str, partition: int, record: Record) -> None:
        """A record was appended."""
        if topic == "journal":
            self._journal(partition, record)
            return
        is_part = record.key.startswith(PART)
        if record.value is None and not is_part and not is_row_key(record.key.removeprefix(COMPANION_PREFIX), topic):
            return  # Written over garbage.
        self._archive[topic, partition].append(record)
        if record.key.startswith(SEAL):
            self._seal(topic, partition, record)
        elif is_part:
            self._part(topic, partition, record)
        elif not record.key.startswith(b"~"):
            self._row(topic, partition, record)

    # ---- the journal ---------------------------------------------------------------------------------

    def _journal(self, partition: int, record: Record) -> None:
        self._progressed[partition].pop(record.offset, None)
        self.times[partition][record.offset] = record.ms
        self._stand(partition, record)
        self._hear(partition, record.offset)
        self._fold(partition, record)

    def _hear(self, partition: int, offset: int) -> None:
        """Note when each cluster was last heard of, as of an offset."""
        self._heard[partition][offset] = {
            name: Heard(
                each.heard,
                each.named,
                not (each.lost or each.closed) and each.epoch > 0,
                bool(each.stale),
                bool(each.frontier) and not (each.open or each.stale or each.lost),
            )
            for name, each in self.standing[partition].items()
        }

    def _progress(self, partition: int, record: Record) -> None:
        """A watcher process lives: so do the clusters that it covers. Some have moved on."""
        progress, now, offset = orjson.loads(record.value or b""), self.standing[partition], record.offset
        moved: dict[str, Standing] = {}
        for entry in progress.get("clusters", ()):
            before = now.get(entry["cluster"], Standing(""))
            frontier = entry["frontier"]
            if (entry["epoch"], progress["writer"]) != (before.epoch, before.writer) or before.closed:
                continue
            if not entry.get("covered", True):
                moved[before.cluster] = now[before.cluster] = before._replace(
                    at=progress["at"], covered=False, heard=record.ms, named=record.ms
                )
                continue
            goes_back = any(int(frontier.get(name, each)) < int(each) for name, each in before.frontier.items())
            if entry["seq"] < before.seq or goes_back:
                continue
            after = before._replace(seq=entry["seq"], at=progress["at"], covered=True)
            if before.frontier and frontier and not (before.open or before.lost):
                after = after._replace(frontier=frontier)
            moved[before.cluster] = now[before.cluster] = after._replace(heard=record.ms, named=record.ms)
        covered = sorted(n for n, each in now.items() if each.covered and each.writer == progress["writer"])
        for name in covered:
            moved[name] = now[name] = now[name]._replace(heard=record.ms)
            # Of one that is as of later, while old records are read again, this says nothing.
            is_of_later = offset <= self._ahead.get((partition, name), -1)
            if not is_of_later and not self.alive.is_true(record.value or b"", partition, name, now[name].epoch):
                self.fail(f"[{partition}] at {offset}: {name} is covered by a process that does not watch it")
        self._progressed[partition][offset] = moved
        self.standings[partition][offset] = Standing(
            f"~{progress['writer']}" if covered else "",
            at=progress["at"],
            may_change=any(each.lost for each in moved.values()),
        )

    def _stand(self, partition: int, record: Record) -> None:
        offset, value = record.offset, record.value or b""
        if value.startswith(PROGRESS):
            self._progress(partition, record)
            return
        try:
            commit = orjson.loads(value)
            name, phase = commit["cluster"], commit["phase"]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            self.standings[partition][offset] = self.standing[partition].setdefault("", Standing(""))
            return
        now = self.standing[partition].get(name, Standing(name))
        takes_over = phase == "begin" and commit["epoch"] > now.epoch
        goes_on = (commit["epoch"], commit["writer"]) == (now.epoch, now.writer) and commit["seq"] > now.seq
        goes_on = goes_on and not now.closed
        now = now._replace(may_change=False, opens=False)
        if takes_over or goes_on:
            covered = now.covered and not takes_over and phase != "close"
            now = now._replace(heard=record.ms, named=record.ms, covered=covered)
            now = now._replace(epoch=commit["epoch"], writer=commit["writer"], seq=commit["seq"], at=commit["at"])
            closing = phase == "end" and now.open
            now = now._replace(closed=phase == "close")
            if now.closed:
                # It ends here: what it has next may be older than what it had.
                now = now._replace(frontier={}, stale="", lost=False, open=False, may_change=True)
            elif closing or (phase == "live" and not now.lost):
                frontier = commit["frontier"]
                for resource, revision in now.frontier.items():
                    if int(frontier[resource]) < int(revision):
                        self.fail(f"{name} went back in time: {resource} from {revision} to {frontier[resource]}")
                now = now._replace(frontier=frontier, stale=commit.get("staleSince", ""), lost=False, may_change=True)
                for event in commit.get("events", ()):
                    if event["op"] == "reject" or event.get("message"):
                        self.letters.append((partition, offset, event["kind"], event["name"]))
            now = now._replace(open=phase == "begin" or (now.open and not closing), opens=phase == "begin")
        # A lost cluster's rows may have to say so yet.
        now = now._replace(may_change=now.may_change or now.lost)
        self.standing[partition][name] = self.standings[partition][offset] = now

    def _fold(self, partition: int, record: Record) -> None:
        offset = record.offset
        made: Made = {}
        for write in self._step(self._folds[partition], record):
            if write.table != "deadletter":
                made[write.table, write.key] = write.value
                row = not write.key.startswith(b"~") and write.value is not None
                by_time = self.sim.drops and write.table == CLUSTERSET and is_set(write.key)
                if row and not by_time and not self.standings[partition][offset].may_change:
                    self.fail(f"[{partition}] at {offset}: a row is made by a commit that may not change any")
        self.truth[partition][offset] = made
        for fold, truth in self.earlier[partition]:
            if offset == fold.next_offset:
                writes = self._step(fold, record)
                truth[offset] = {
                    (write.table, write.key): write.value for write in writes if write.table != "deadletter"
                }

    def _step(self, fold: PartitionFold, record: Record) -> list[Write]:
        writes = fold.step(record.offset, record.value or b"", stamp_of(record.ms))
        self._join(fold, writes)
        return writes

    def _join(self, fold: PartitionFold, writes: list[Write]) -> None:
        """Note the whole form of the rows that a fold makes in parts."""
        for write in writes:
            if write.table in DIVIDED and (write.key.startswith(PART) or not write.key.startswith(b"~")):
                try:
                    row = self._folded_parts[fold, write.table].take(write.key.decode(), write.value, write.version)
                except PartLost as lost:
                    self.fail(f"a row is made without its parts: {lost}")
                if row is not None and write.value is not None and b',"parts":{' in write.value:
                    self.whole[write.value] = orjson.dumps(merged(row))

    def expired(self, partition: int, first: int, window_ms: int) -> None:
        """A worker found its next offset gone: what follows is as of what is in the tables now."""
        fold = PartitionFold(partition, self.sim.rules, window_ms // 1000)
        for table in self.sim.table_names:
            # What a late writer hid, and compaction took before it was repaired, nobody knows any more.
            left = {record.offset for record in self.sim.tables[table, partition].records}
            for record in self._archive[table, partition]:
                if record.offset in left:
                    fold.load(table, record.key, record.value, record.version)
                    if record.key.startswith(PART):
                        self._folded_parts[fold, table].take(record.key.decode(), record.value, record.version)
        fold.recover()
        writes = fold.expire(first)
        self._join(fold, writes)
        made = {(write.table, write.key): write.value for write in writes}
        self.earlier[partition].append((self._folds[partition], dict(self.truth[partition])))
        self._folds[partition] = fold
        sealed = {table: (self.seals[table, partition] or [-1])[-1] for table in self.sim.table_names}
        self.leftover |= {
            (partition, row.version)
            for (table, name), rows in self.rows.items()
            if name.rpartition("/")[2] in self.keys[partition]
            for row in rows[-1:]
            if row.version > sealed[table]
        }
        due, highest, again = min(sealed.values()) + 1, max(sealed.values()), fold.next_offset or 0
        if first <= due:
            last = due - 1
            gone = self._open_since_before(partition, first, due)
            standing = self._standing_at(partition, last)
            self.standing[partition] = self._standing_at(partition, again - 1)
        else:
            last = max(first - 1, highest)
            standing = self._standing_at(partition, highest)
            for name, offset in self._named[partition].items():
                # A worker was killed between the seals of one offset.
                if offset > highest and name in self._progressed[partition].get(offset, {}):
                    standing[name] = self._progressed[partition][offset][name]
            gone = {name for name, each in standing.items() if each.epoch}
            self.standing[partition] = {}
            self._lost(partition, last, sealed, made, gone)
        for name in gone:
            base = standing[name]
            # Of the journal's records a snapshot may be left whole.
            is_open = base.open and self._begins(partition, last + 1)[name] >= first
            covered = base.covered and first <= due
            if first <= due:
                self._ahead[partition, name] = last
            self.standing[partition][name] = base._replace(
                frontier={}, lost=not base.closed, open=is_open, covered=covered
            )
        if first > due:
            self._hear(partition, last)
            self._losses[partition] = last, {name: self.standing[partition][name] for name in gone}
        before = {offset: self.truth[partition][offset] for offset in range(again, highest + 1)}
        opening = {offset for offset, each in self.standings[partition].items() if each.opens}
        for record in self.sim.journal[partition].records:
            if record.offset > last or (first <= due and record.offset >= again):
                self._journal(partition, record)
            elif record.offset >= again:
                # An open snapshot, read again.
                self._step(fold, record)
                self._cover_again(partition, record)
        for offset in opening & self.standings[partition].keys():
            # A lost cluster is as it was at the last seal, so the begin that is read again is an old one to it.
            self.standings[partition][offset] = self.standings[partition][offset]._replace(opens=True)
        for offset, old in before.items():
            # What a table has sealed stays as it is, and so does what it seals where the journal expired.
            now, through = (
                self.truth[partition][offset],
                {table: max(sealed[table], last) for table in self.sim.table_names},
            )
            kept = {key: value for key, value in old.items() if offset <= through[key[0]]}
            self.truth[partition][offset] = {k: v for k, v in now.items() if offset > through[k[0]]} | kept

    def _cover_again(self, partition: int, record: Record) -> None:
        """Of a cluster whose snapshot is read again, what progress records said meanwhile counts again."""
        if not (record.value or b"").startswith(PROGRESS):
            return
        progress, now = orjson.loads(record.value or b""), self.standing[partition]
        for entry in progress.get("clusters", ()):
            before = now.get(entry["cluster"], Standing(""))
            if before.open and (entry["epoch"], progress["writer"]) == (before.epoch, before.writer):
                now[before.cluster] = before._replace(covered=entry.get("covered", True))

    def _lost(self, partition: int, last: int, sealed: dict[str, int], made: Made, gone: set[str]) -> None:
        """All that the journal had up to this offset counts as lost."""
        for offset in range(max(sealed.values()) + 1, last + 1):
            # Nobody folds these any more.
            self.standings[partition].pop(offset, None)
            self._progressed[partition].pop(offset, None)
        before = self.truth[partition].get(last, {})
        kept = {key: value for key, value in before.items() if last <= sealed[key[0]]}
        if self._loss(partition)[0] == last:
            # A worker was killed in between: what it wrote of this stays.
            made = before | made
        self.truth[partition][last] = made | kept
        self.standings[partition].setdefault(last, Standing("", may_change=True))
        for table in self.sim.table_names:
            if sealed[table] < last:
                self._jumps[table, partition] = last if made else last + 1
                for name in gone:
                    if (table, SEAL + name.encode()) not in made:
                        self.fail(f"{table}[{partition}]: the journal expired, but no seal says so for {name}")

    def _begins(self, partition: int, due: int) -> dict[str, int]:
        """Where each cluster's newest snapshot before an offset begins."""
        standings = self.standings[partition].items()
        return {each.cluster: offset for offset, each in sorted(standings) if offset < due and each.opens}

    def _open_since_before(self, partition: int, first: int, due: int) -> set[str]:
        """The clusters with a snapshot that is open where work goes on, but begins before the journal does; and those
        that are lost there already."""
        begins = self._begins(partition, due)
        now = self._standing_at(partition, due - 1)
        return {name for name, each in now.items() if each.lost or (each.open and begins.get(name, first) < first)}

    def _loss(self, partition: int) -> tuple[int, dict[str, Standing]]:
        """Where the journal's newest loss counts, -1 for none, and what each cluster came to by it."""
        return self._losses.get(partition, (-1, {}))

    def _standing_at(self, partition: int, last: int) -> dict[str, Standing]:
        """Each cluster as the commits up to an offset left it, or a loss at one."""
        newest = {
            standing.cluster: (offset, standing)
            for offset, standing in sorted(self.standings[partition].items())
            if offset <= last and standing.cluster and not standing.cluster.startswith("~")
        }
        for offset, moved in sorted(self._progressed[partition].items()):
            for name, standing in moved.items() if offset <= last else ():
                if newest.get(name, (-1,))[0] < offset:
                    newest[name] = (offset, standing)
        lost_at, lost = self._loss(partition)
        if lost_at <= last:
            newest |= {
                name: (lost_at, standing) for name, standing in lost.items() if newest.get(name, (-1,))[0] <= lost_at
            }
        return {name: standing for name, (_, standing) in newest.items()}

    # ---- rows ----------------------------------------------------------------------------------------

    def _row(self, table: str, partition: int, record: Record) -> None:
        name = record.key.decode()
        rows = self.rows.setdefault((table, name), [])
        where = f"{table}[{partition}] {name} version {record.version}"
        at = bisect_right(rows, record.version, key=lambda each: each.version)
        if at and rows[at - 1].version == record.version:
            if rows[at - 1].value != record.value:
                self.fail(f"{where}: written twice, with other bytes")
            return
        if record.value is None and at == len(rows) and (not rows or rows[-1].value is None):
            return
        if record.value is None and at != len(rows) and record.key in self.sim.tables[table, partition].polluted:
            return  # Written over garbage by a worker that was replaced: a late row like others, and mended like them.
        sealed = self.seals[table, partition]
        if sealed and record.version <= sealed[-1]:
            self.fail(f"{where}: written after the seal {sealed[-1]}")
        made = self.truth[partition].get(record.version, {})
        if (table, record.key) not in made:
            self.fail(f"{where}: no commit makes it")
        if made[table, record.key] != record.value:
            self.fail(f"{where}: not the bytes that the journal's prefix folds to")
        if at != len(rows):
            self.fail(f"{where}: a newer version, {rows[-1].version}, was written before it")
        held = rows[-1] if rows and rows[-1].value is not None else None
        body = self._tombstone(where, held, partition, record) if record.value is None else orjson.loads(record.value)
        if table in DIVIDED:
            body = self._whole(where, table, name, record, body)
        if body is not None:
            self._follow(where, table, body, held, record.version)
        rows.append(Row(record.version, record.value, body))
        self._fresh[table, partition].add(name)

    def _part(self, table: str, partition: int, record: Record) -> None:
        """A part comes before its seal, once, in order, and as the journal's prefix folds to."""
        written = self.parts.setdefault((table, record.key), {})
        where = f"{table}[{partition}] {record.key.decode()} version {record.version}"
        if record.version in written:
            if written[record.version] != record.value:
                self.fail(f"{where}: written twice, with other bytes")
            return
        if (
            record.value is None
            and (
                not written
                or (max(written) < record.version and written[max(written)] is None)
                or record.key in self.sim.tables[table, partition].polluted
            )
            and (table, record.key) not in self.truth[partition].get(record.version, {})
        ):
            return  # Written over garbage.
        sealed = self.seals[table, partition]
        if sealed and record.version <= sealed[-1]:
            self.fail(f"{where}: written after the seal {sealed[-1]}")
        made = self.truth[partition].get(record.version, {})
        if (table, record.key) not in made or made[table, record.key] != record.value:
            self.fail(f"{where}: not the bytes that the journal's prefix folds to")
        if written and max(written) > record.version:
            self.fail(f"{where}: a newer version, {max(written)}, was written before it")
        written[record.version] = record.value
        self._written_parts[table].take(record.key.decode(), record.value, record.version)

    def _whole(self, where: str, table: str, name: str, record: Record, body: Any) -> Any:
        """The row from what is written by then: it has all its parts, and no others are left."""
        try:
            row = self._written_parts[table].take(name, record.value, record.version)
        except PartLost as lost:
            self.fail(f"{where}: {lost}")
        if left := self._written_parts[table].left_over(name):
            self.fail(f"{where}: parts without a row that names them: {sorted(left)}")
        if row is None or "parts" not in body:
            return body
        self.sim.note(DIVIDED[table])
        return merged(row)

    def _tombstone(self, where: str, held: Row | None, partition: int, record: Record) -> None:
        if held is None or held.body["state"] != "deleted":
            self.fail(f"{where}: a tombstone for what is not deleted")
        elif ms_of(self.standings[partition][record.version].at) - ms_of(held.body["asOf"]["at"]) < self.sim.window_ms:
            self.fail(f"{where}: a tombstone within the resume window")

    def _follow(self, where: str, table: str, body: Any, held: Row | None, version: int) -> None:
        if body["version"] != version:
            self.fail(f"{where}: the row says it is version {body['version']}")
        if body["previous"] != (held.version if held else None):
            self.fail(f"{where}: previous is {body['previous']}, but {held and held.version} was written last")
        if table == "backend":
            old = naive.spread(held.body["groups"]) if held else []
            new = naive.spread(body["groups"])
            if twice := naive.twice(new):
                self.fail(f"{where}: more than one endpoint has {twice}")
            says = {
                kind: naive.in_order([each for _, each in naive.by_claim(naive.spread(groups))])
                for kind, groups in body["change"].items()
            }
            wanted = naive.difference(old, new)
            if says != wanted:
                self.fail(f"{where}: change is {says}, but the sets differ by {wanted}")

    # ---- seals ---------------------------------------------------------------------------------------

    def _seal(self, table: str, partition: int, record: Record) -> None:
        offset, sealed = record.version, self.seals[table, partition]
        where = f"{table}[{partition}] seal {offset}"
        written = self._newest_seals.get((table, partition, record.key), (-1, None))
        if self.truth[partition].get(offset, {}).get((table, record.key)) != record.value:
            if written == (offset, record.value):
                return  # Written again, as it was before a loss: a late one of a replaced worker hides it.
            self.fail(f"{where}: not the bytes that the journal's prefix folds to")
        if offset >= written[0]:
            self._newest_seals[table, partition, record.key] = offset, record.value
        last = sealed[-1] if sealed else -1
        problem = self.alive.sealed(table, partition, record, self._heard[partition].get(offset, {}))
        if offset <= last:
            return
        if problem and offset != self._loss(partition)[0]:
            self.fail(f"{where}: {problem}")
        if b'"more":true' in (record.value or b""):
            self._moved(table, partition, offset, orjson.loads(record.value or b""), where)
            return
        jump = self._jumps.pop((table, partition), None)
        if offset != last + 1 and offset != jump:
            self.fail(f"{where}: follows {last}, the seals between are missing")
        sealed.append(offset)
        for (of, key), value in self.truth[partition][offset].items():
            if of == table and not key.startswith(b"~"):
                rows = self.rows.get((table, key.decode()))
                if not rows or rows[-1].version != offset or rows[-1].value != value:
                    self.fail(f"{where}: comes before its row {key.decode()}")
            written = self.parts.get((table, key), {})
            if of == table and key.startswith(PART) and (offset, value) not in written.items():
                self.fail(f"{where}: comes before its part {key.decode()}")
        self.first.setdefault((partition, offset), self.sim.at())
        seal, standing = orjson.loads(record.value or b""), self.standings[partition][offset]
        if jump == offset == self._loss(partition)[0]:
            self._fresh[table, partition].clear()
            return
        if table == CLUSTERSET and self.sim.drops:
            self._check_decisions(partition, offset, where)
        if (seal["cluster"], seal["epoch"], seal["seq"]) != (standing.cluster, standing.epoch, standing.seq):
            self.fail(f"{where}: says {seal['cluster']} {seal['epoch']}/{seal['seq']}, the journal {standing}")
        if seal["frontier"] != standing.frontier or seal.get("lost", False) != standing.lost:
            self.fail(f"{where}: frontier {seal['frontier']}, but the journal's is {standing.frontier}")
        if seal.get("closed", False) != standing.closed:
            self.fail(f"{where}: says closed {seal.get('closed', False)}, the journal {standing.closed}")
        self._compare(table, partition, standing, offset, where)

    def _check_decisions(self, partition: int, offset: int, where: str) -> None:
        """Each set says of the clusters that are not heard of what their exports' policies make of the time."""
        heard = self._heard[partition].get(offset, {})
        if not all(each.counts for each in heard.values()) or self._loss(partition)[0] >= offset:
            return
        # Of one whose watcher can't reach the API server, only what names it tells anything.
        stamped = {
            name: each._replace(ms=stamp_of(each.named if each.is_stale else each.ms)) for name, each in heard.items()
        }
        for name in self.keys[partition]:
            self.checks += 1
            before, row = (self._at(f"{NAMESPACE}/{name}", at) for at in (offset - 1, offset))
            if row is None or row["state"] == "deleted":
                continue
            valid = [each["cluster"] for each in row["exports"] if each["valid"] == "Valid"]
            counts = {each: count_endpoints(self._at(f"{each}/{NAMESPACE}/{name}", offset)) for each in valid}
            now = stamp_of(self.times[partition][offset])
            wanted = naive_decisions(row["exports"], decisions_in(before), stamped, counts, now)
            if (has := decisions_in(row)) != wanted:
                self.fail(f"{where}: the set {name} says {has}, it should say {wanted}")
            for each in has.values():
                self.sim.note(f"endpoints {each['action']}")

    def _at(self, key: str, offset: int) -> Any:
        """The row of the clusterset's table as of an offset."""
        rows = self.rows.get((CLUSTERSET, key), ())
        return next((row.body for row in reversed(rows) if row.version <= offset), None)

    def _moved(self, table: str, partition: int, offset: int, seal: Any, where: str) -> None:
        """A cluster's seal of a progress record's offset."""
        self._named[partition][seal["cluster"]] = offset
        standing = self._progressed[partition].get(offset, {}).get(seal["cluster"])
        if standing is None or offset == self._loss(partition)[0]:
            return
        if (seal["epoch"], seal["seq"]) != (standing.epoch, standing.seq) or seal["frontier"] != standing.frontier:
            self.fail(f"{where}: says {seal}, the journal {standing}")
        self._compare(table, partition, standing, offset, where)

    def _compare(self, table: str, partition: int, standing: Standing, seal: int, where: str) -> None:
        """Each row of the cluster's is what its API server had at the frontier."""
        fresh, last = self._fresh[table, partition], self._last.get((table, partition, standing.cluster))
        if standing.cluster not in self.servers or (
            not fresh
            and last is not None
            and (last.frontier, last.stale, last.lost, last.closed)
            == (standing.frontier, standing.stale, standing.lost, standing.closed)
        ):
            return
        self._last[table, partition, standing.cluster] = standing
        fresh.clear()
        if standing.closed:
            self._compare_closed(table, partition, standing.cluster, where)
            return
        if not standing.frontier:
            for name in self.keys[partition]:
                row = self._newest(table, f"{standing.cluster}/{NAMESPACE}/{name}")
                # Written before the journal expired, it can't be written again: the next commit says it.
                late = standing.lost and row is not None and row["version"] == seal
                # What was deleted before its cluster ended, or by its end.
                ended = row is not None and row["state"] == "deleted" and self._was_closed(partition, standing, seal)
                if (
                    row is not None
                    and not late
                    and not ended
                    and not (standing.lost and row["state"] in {"unknown", "deleted"})
                ):
                    self.fail(f"{where}: {name} is {row['state']} without a complete snapshot")
            return
        at = naive.revisions(standing.frontier)
        for name in self.keys[partition]:
            self._compare_one(table, standing, name, at, where)

    def _was_closed(self, partition: int, standing: Standing, offset: int) -> bool:
        """Whether the cluster ended before, and no epoch since has come to a complete snapshot."""
        before = [
            (at, each.closed)
            for at, each in self.standings[partition].items()
            if at < offset and each.cluster == standing.cluster and (each.closed or each.frontier)
        ]
        return bool(before) and max(before)[1]

    def _compare_closed(self, table: str, partition: int, cluster: str, where: str) -> None:
        """Nothing is left of a cluster that has ended, and nothing of it counts for the next of that name."""
        for name in self.keys[partition]:
            key = f"{cluster}/{NAMESPACE}/{name}"
            row = self._newest(table, key)
            if row is not None and row["state"] != "deleted":
                self.fail(f"{where}: {name} is {row['state']} though its cluster has ended")
            self.checks += 1
            self._checked.pop((table, key), None)
            self._owed.pop((table, key), None)

    def _newest(self, table: str, key: str) -> Any:
        rows = self.rows.get((table, key))
        return rows[-1].body if rows else None

    def _compare_one(self, table: str, standing: Standing, name: str, at: naive.Revisions, where: str) -> None:
        key = f"{standing.cluster}/{NAMESPACE}/{name}"
        row = self._newest(table, key)
        if table == CLUSTERSET:
            self.checks += 1
            server = self.servers[standing.cluster]
            problem = "" if self.split else contribution_problem(server, name, row, at, standing.stale)
            if problem:
                self.fail(f"{where}: {key} at {at}: {problem}; the row: {row}")
            return
        _, before, held = self._checked.get((table, key), (None, dict.fromkeys(at, 0), {}))
        server = self.servers[standing.cluster]
        deciding = naive.bearing_on if table == "backend" else naive.itself
        objects = naive.known(server, deciding(server, name, at), at, before, held)
        mark = (
            [(each.kind, each.name, each.now["metadata"]["resourceVersion"]) for each in objects],
            row and row["version"],
            standing.stale,
            signature(server, at) if table == "routing" else (),
        )
        if self._checked.get((table, key), (None,))[0] == mark:
            self._checked[table, key] = (mark, at, held)
            return
        self.checks += 1
        if table == "routing":
            problem, now = self.routing.compare(standing.cluster, name, row, objects, at, standing.stale)
        else:
            problem, now = (self._frontend if table == "frontend" else self._backend)(row, objects, standing)
        if problem and self.split and self._owed.get((table, key), standing.frontier) == standing.frontier:
            # A part of a split commit: its frontier comes with the last part.
            self._owed[table, key] = standing.frontier
            return
        self._owed.pop((table, key), None)
        if problem:
            self.fail(f"{where}: {key} at {at}: {problem}; the row: {row}")
        self._checked[table, key] = (mark, at, now)

    def _state(self, row: Any, state: str, standing: Standing, bad: list[tuple[str, str]]) -> str:
        wanted = "stale" if standing.stale and state not in {"deleted", "unknown"} else state
        if row["state"] != wanted:
            return f"the state is {row['state']}, it should be {wanted}"
        marked = [(each["kind"], each["name"]) for each in row.get("rejected", ())]
        if state != "deleted" and sorted(marked) != sorted(bad):
            return f"marked are {marked}, it should be {bad}"
        return ""

    def _frontend(
        self, row: Any, objects: list[naive.Known], standing: Standing
    ) -> tuple[str, dict[tuple[str, str], tuple[Any, ...]]]:
        service = next((each for each in objects if each.kind == "Service"), None)
        bad = [(service.kind, service.name)] if service and is_bad(service.now) else []
        fits = []
        problem = ""
        for option in service.possible if service else (None,):
            if option is None and not bad:
                problem = "" if row is None else self._state(row, "deleted", standing, bad)
            elif row is None:
                problem = "there is no row"
            elif option is None:
                problem = self._state(row, "unknown", standing, bad)
                if not problem and (row["clusterIPs"] or row["dnsName"]):
                    problem = "it says more than the uid of a Service that could never be read"
            else:
                wanted = naive.frontend(option)
                wrong = {field: row[field] for field in wanted if row[field] != wanted[field]}
                problem = f"{wrong} is not {wanted}" if wrong else self._state(row, "ready", standing, bad)
            if not problem:
                fits.append(option)
        return "" if fits else problem, {("Service", service.name): tuple(fits)} if service else {}

    def _backend(
        self, row: Any, objects: list[naive.Known], standing: Standing
    ) -> tuple[str, dict[tuple[str, str], tuple[Any, ...]]]:
        service = next((each for each in objects if each.kind == "Service"), None)
        bad = [
            (each.kind, each.name)
            for each in objects
            if each.kind != "Service" and (is_bad(each.now) or is_odd(each.now))
        ]
        held = {(each.kind, each.name): each.possible for each in objects}
        named = {f"Endpoints/{each.name}" if each.kind == "Endpoints" else each.name for each in objects}
        if strangers := sorted({g["slice"] for g in (row["groups"] if row else ())} - named):
            return f"the slices {strangers} are none of the Service's", {}
        reference = (row["service"]["uid"], row["service"]["type"]) if row and row["service"] else None
        options = [each for each in (service.possible if service else (None,)) if self._reference(each) == reference]
        if not options:
            return f"the Service is {reference}, which is none of {service and service.possible}", {}
        if service:
            held["Service", service.name] = tuple(options)
        slices, unread, shown = [], False, {g["slice"]: g["resourceVersion"] for g in (row["groups"] if row else ())}
        for each in objects:
            if each.kind == "EndpointSlice":
                fits = [
                    option
                    for option in each.possible
                    if (option and option["metadata"]["resourceVersion"]) == shown.get(each.name)
                ]
                if not fits and row is not None:
                    return f"slice {each.name} is as of {shown.get(each.name)}, not {each.possible}", {}
                held["EndpointSlice", each.name] = tuple(fits or each.possible)
                slices += [option for option in fits[:1] if option is not None]
                unread = unread or (is_bad(each.now) and fits[:1] == [None])
        if reference is None:
            lost = [("Service", service.name)] if service and is_bad(service.now) else []
            if row is None:
                return "there is no row" if lost else "", held
            problem = "endpoints without a Service" if naive.spread(row["groups"]) else ""
            state = "unknown" if lost else "deleted"
            return problem or self._state(row, state, standing, bad + lost), held
        legacy = next((each for each in objects if each.kind == "Endpoints"), None)
        has, problem, fitting = naive.in_order(naive.spread(row["groups"])), "", []
        is_name = reference[1] == "ExternalName"
        for option in legacy.possible if legacy else (None,):
            wanted = [] if is_name else naive.in_order(naive.union(slices, option))
            # The legacy object counts where no slice was ever read.
            counted = [each for each in bad if each[0] == "EndpointSlice" or not slices]
            lacks = unread or (not slices and legacy is not None and is_bad(legacy.now) and option is None)
            state = "ready" if wanted else "empty"
            if (lacks or (counted and not wanted)) and not is_name:
                state = "unknown"
            if has != wanted:
                problem = f"the set is not {wanted}"
            elif not (problem := self._state(row, state, standing, bad)):
                fitting.append(option)
        if legacy and fitting:
            held["Endpoints", legacy.name] = tuple(fitting)
        return "" if fitting else problem, held

    @staticmethod
    def _reference(service: Any) -> tuple[str, str] | None:
        return (service["metadata"]["uid"], service["spec"].get("type", "ClusterIP")) if service else None

    # ---- the end -------------------------------------------------------------------------------------

    def finish(self, crashed: set[int]) -> None:
        """What can be said only of the whole run."""
        if self.sim.exports:
            for name in (name for names in self.keys.values() for name in names):
                self.checks += 1
                row = self._newest(CLUSTERSET, f"{NAMESPACE}/{name}")
                if problem := set_problem(self.servers, name, row):
                    self.fail(f"the set {name}: {problem}; the row: {row}")
        if self._owed:
            self.fail(f"a split commit's last part never came: {self._owed}")
        written = {
            (p, offset, (letter := orjson.loads(value))["kind"], letter["name"])
            for p, offset, value in self.sim.letters
        }
        for each in self.letters:
            if each[0] not in crashed and each not in written:
                self.fail(f"[{each[0]}] {each[2]} {each[3]} at {each[1]} was not dead-lettered")
