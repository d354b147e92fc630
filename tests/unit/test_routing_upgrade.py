"""From fold version 1, which knew neither hostnames nor matches nor namespaces of consumers: its journal is folded, and
its rows are read back and written anew. `fold_1_routing.jsonl` is what that version wrote: journal records, and the
records of the changelogs that each made."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.fold.fold import PartitionFold
from streams.fold.table import Write
from streams.objects.collector import Collector
from streams.objects.reflector import Kind, ReflectorEvent
from streams.objects.resources import OPTIONAL, RESOURCES
from streams.wire.records import FOLD_VERSION
from tests.support.routed_service import service
from tests.support.routes import by_cookie, route, rule, to_service

RECORDED = [orjson.loads(line) for line in (Path(__file__).parent / "fold_1_routing.jsonl").read_bytes().splitlines()]
JOURNAL = [orjson.dumps(line["journal"]) for line in RECORDED if "journal" in line]
AT = "2026-11-24T12:01:00.000Z"


def rows_in(writes: list[Write]) -> list[Any]:
    return [orjson.loads(write.value) for write in writes if write.table == "routing" and write.key[:1] != b"~"]


def reasons(direction: Any) -> list[tuple[str, str]]:
    return [(entry["route"]["name"], entry["reason"]) for entry in direction["rules"]]


def assert_judged_by_the_new_rules(row: Any) -> None:
    assert reasons(row["gateway"]) == [("r", "RefNotPermitted")]
    assert (row["mesh"]["reason"], reasons(row["mesh"])) == ("Default", [("s", "Default"), ("t", "RuleShadowed")])
    web = row["mesh"]["consumers"]["web"]
    assert (web["reason"], reasons(web)) == ("SessionPersistence", [("r", "SessionPersistence")])


def recovered() -> PartitionFold:
    """The fold after a restart, with the tables that the older version wrote."""
    fold = PartitionFold(0)
    for line in RECORDED:
        if "table" in line:
            fold.load(line["table"], line["key"].encode(), orjson.dumps(line["value"]), line["version"])
    assert fold.recover()[0] == len(JOURNAL)
    return fold


def next_commit(**fields: Any) -> bytes:
    last = orjson.loads(JOURNAL[-1])
    return orjson.dumps({**last, "seq": last["seq"] + 1, "at": AT, "phase": "live", **fields})


def test_an_older_journal_is_folded_by_the_new_rules() -> None:
    fold = PartitionFold(0)
    (row,) = rows_in([write for offset, value in enumerate(JOURNAL) for write in fold.step(offset, value)])
    assert_judged_by_the_new_rules(row)


def test_rows_of_the_older_version_are_read_back_and_written_anew_once() -> None:
    fold = recovered()
    writes = fold.step(len(JOURNAL), next_commit())
    (row,) = rows_in(writes)
    assert_judged_by_the_new_rules(row)
    assert (row["previous"], row["version"], row["cause"]) == (len(JOURNAL) - 1, len(JOURNAL), [])
    seals = [orjson.loads(write.value) for write in writes if write.key.startswith(b"~seal") and write.value]
    assert {seal["fold"] for seal in seals} == {FOLD_VERSION}
    assert rows_in(fold.step(len(JOURNAL) + 1, next_commit(seq=5))) == []


@pytest.mark.parametrize("restarted", [False, True])
def test_a_new_watcher_says_all_of_it(restarted: bool) -> None:
    """Its first snapshot takes the place of what the older one said."""
    fold = recovered() if restarted else PartitionFold(0)
    offset = len(JOURNAL) if restarted else 0
    for value in [] if restarted else JOURNAL:
        fold.step(offset, value)
        offset += 1
    watcher = Collector("east", epoch=2, writer="w2", seq=0, partitions=1, resources=(*RESOURCES, *OPTIONAL))
    records = watcher.begin(AT)
    for resource in (*RESOURCES, *OPTIONAL):
        watcher.ingest(resource.kind, ReflectorEvent(Kind.INIT, None, ""))
    sticky = route("t", [to_service(port=80)], [rule("cart", path="/t", persistence=by_cookie("t"))])
    for version, item in enumerate((service(), sticky), 20):
        stamped = {**item, "metadata": {**item["metadata"], "resourceVersion": str(version)}}
        watcher.ingest(item["kind"], ReflectorEvent(Kind.INIT_APPLY, stamped, ""))
    for resource in (*RESOURCES, *OPTIONAL):
        watcher.ingest(resource.kind, ReflectorEvent(Kind.INIT_DONE, None, "30"))
    rows = []
    for number, record in enumerate(records + watcher.flush(AT), offset):
        rows += rows_in(fold.step(number, record.value))
    assert [held["name"] for held in rows[-1]["routes"]] == ["t"]
    assert rows[-1]["routes"][0]["backends"][0]["matches"] == [{"path": {"type": "PathPrefix", "value": "/t"}}]
    assert (rows[-1]["mesh"]["reason"], rows[-1]["mesh"].get("consumers")) == ("SessionPersistence", None)
