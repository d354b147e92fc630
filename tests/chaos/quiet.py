"""Quiet points: nothing changes any more, so tables, subscribers and the API server must all say the same."""

import asyncio
import json
import time
from typing import Any

from streams.subscription.client import Snapshot, Subscriber
from streams.subscription.cursor import Cursor
from streams.wire.records import TABLES
from tests.chaos.churn import FAILURES, Churn
from tests.chaos.cluster import CLUSTER, PARTITIONS, SHOP, Cluster
from tests.chaos.received import Received
from tests.chaos.report import Report
from tests.e2e.test_spine import SERVICE_LABEL, expected_endpoints, expected_frontend
from tests.support.endpoints import by_port

DEADLINE = 120.0
SETTLED_SECONDS = 2.0


class NotInTime(Exception):
    """What must come in the end did not within the deadline."""


def check(cluster: Cluster, churn: Churn, report: Report) -> None:
    """One quiet point: churn and faults have stopped. Adds what is wrong to the report."""
    try:
        for _ in range(5):
            before = settled(cluster)
            snapshot = asyncio.run(_tables(cluster.bootstrap, churn.mark()))
            listed = cluster.plane.list_all()
            if versions(before) == versions(listed):
                break
        else:
            raise NotInTime("the controllers go on changing things")
        for wrong in differences(listed, snapshot):
            report.violation("the tables are not what the API server lists", wrong)
        _subscribers(cluster, snapshot, report)
        report.quiet_points += 1
    except (NotInTime, TimeoutError, *FAILURES) as error:
        report.violation("not up to date at a quiet point", f"{type(error).__name__}: {error}")


def settled(cluster: Cluster) -> dict[str, list[dict[str, Any]]]:
    """What the API server lists once its controllers have nothing more to do."""
    deadline = time.monotonic() + DEADLINE
    cluster.mend_plane()
    last, since = cluster.plane.list_all(), time.monotonic()
    while time.monotonic() < since + SETTLED_SECONDS:
        if time.monotonic() > deadline:
            raise NotInTime(f"the controllers have not come to rest in {DEADLINE:g} s")
        time.sleep(0.25)
        now = cluster.plane.list_all()
        if versions(now) != versions(last):
            last, since = now, time.monotonic()
    return last


def versions(listed: dict[str, list[dict[str, Any]]]) -> dict[str, str]:
    """resourceVersion by uid, without those of the marker (they change at our own hands)."""
    return {
        each["metadata"]["uid"]: each["metadata"]["resourceVersion"]
        for items in listed.values()
        for each in items
        if "chaos" not in (each["metadata"].get("annotations") or {})
    }


async def _tables(bootstrap: str, marks: dict[str, str]) -> Snapshot:
    async with asyncio.timeout(DEADLINE), Subscriber(bootstrap, tables=TABLES) as subscriber:
        for resource, version in marks.items():
            try:
                async with asyncio.timeout(DEADLINE / 2):
                    await subscriber.wait(version, cluster=CLUSTER, resource=resource)
            except TimeoutError:
                at = subscriber.frontiers(CLUSTER, resource)
                raise NotInTime(f"{resource}: {version} was not sealed everywhere in time, but {at}") from None
        return await subscriber.snapshot()


def differences(listed: dict[str, list[dict[str, Any]]], snapshot: Snapshot) -> list[str]:
    """Where the tables are not what is listed, field by field."""
    tables: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
    for row in snapshot.rows:
        tables[row.table][f"{row.namespace}/{row.name}"] = row.decode()
    wanted = {_key(each): each for each in listed["Service"]}
    wrong = []
    for table in ("frontend", "backend"):
        for key in sorted(wanted.keys() ^ tables[table].keys()):
            wrong.append(f"{table} {key}: {'no row' if key in wanted else 'a row without a Service'}")
    legacy = {_key(each): each for each in listed["Endpoints"]}
    slices: dict[str, list[dict[str, Any]]] = {}
    for each in sorted(listed["EndpointSlice"], key=lambda each: int(each["metadata"]["resourceVersion"])):
        meta = each["metadata"]
        slices.setdefault(f"{meta['namespace']}/{(meta.get('labels') or {}).get(SERVICE_LABEL)}", []).append(each)
    for key, service in wanted.items():
        front, back = tables["frontend"].get(key), tables["backend"].get(key)
        if front is None or back is None:
            continue
        frontend = expected_frontend(service) | {"state": "ready"}
        wrong += [
            f"frontend {key} version {front['version']}: {field} is {front[field]!r}, not {value!r}"
            for field, value in frontend.items()
            if front[field] != value
        ]
        endpoints = expected_endpoints(service, slices.get(key, []), legacy.get(key))
        where = f"backend {key} version {back['version']}"
        try:
            found = by_port(back["endpoints"])
        except AssertionError as error:
            wrong.append(f"{where}: {error}")
            continue
        for claim in sorted(found.keys() | endpoints.keys()):
            if found.get(claim) != endpoints.get(claim):
                wrong.append(f"{where}: {json.dumps(found.get(claim))}, not {json.dumps(endpoints.get(claim))}")
        if back["state"] != ("ready" if endpoints else "empty"):
            wrong.append(f"{where}: state {back['state']} ({back['reason']})")
    return wrong


def _key(item: dict[str, Any]) -> str:
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def _subscribers(cluster: Cluster, snapshot: Snapshot, report: Report) -> None:
    """Each subscriber's state is the table, as soon as it has had what the table has had."""
    reached = Cursor.decode(snapshot.cursor).applied
    rows = {
        (row.table, f"{row.cluster}/{row.namespace}/{row.name}"): (row.version, row.value.decode())
        for row in snapshot.rows
    }
    for part in cluster.of_kind("subscriber"):
        deadline = time.monotonic() + DEADLINE
        while True:
            received = Received(part.name, PARTITIONS, lambda _: None).read(cluster.folder / f"{part.name}.jsonl")
            if all(received.at.get(partition, -1) >= offset for partition, offset in reached.items()):
                break
            if time.monotonic() > deadline:
                raise NotInTime(f"subscriber {part.name} stands at {received.at}, the tables at {reached}")
            time.sleep(0.5)
        wanted = rows
        if part.name == "shop":
            wanted = {
                key: row for key, row in rows.items() if key[0] == "backend" and key[1].split("/")[1] in SHOP
            }  # fmt: skip
        state = received.table()
        for table, key in sorted(wanted.keys() | state.keys()):
            theirs, ours = state.get((table, key)), wanted.get((table, key))
            if theirs != ours:
                report.violation(
                    "a subscriber's state is not the table's",
                    f"{part.name}: {table} {key} is {_short(theirs)}, the table has {_short(ours)}",
                )


def _short(row: tuple[int, str] | None) -> str:
    return "nothing" if row is None else f"version {row[0]} {row[1][:200]}"
