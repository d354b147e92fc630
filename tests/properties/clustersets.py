"""Histories of clusters that export Services, and checks of what the fold makes of them."""

from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import strategies as st

from streams.facets.tables import WORKER_TABLES
from streams.fold.fold import PartitionFold
from streams.objects.commits import JournalRecord
from streams.subscription.rows import Row
from streams.subscription.set_rows import SetRows
from streams.wire.keys import is_row, is_set, parse_row_key
from tests.support.clustersets import (
    WINDOW,
    Journal,
    Member,
    cluster_id,
    endpoint_slice,
    export,
    joined,
    newest,
    service,
    sets_in,
)
from tests.support.naive_availability import ClusterFacts, decisions_in, naive_decisions, take_fact
from tests.support.naive_clusterset import (
    NaiveCluster,
    NaiveHost,
    naive_claims,
    naive_endpoints,
    naive_hosts,
    naive_set,
)

NAMES = ("cart", "tea")
PORTS = [
    {"name": "http", "port": 80, "protocol": "TCP"},
    {"name": "web", "port": 80, "protocol": "TCP"},
    {"name": "http", "port": 81, "protocol": "TCP", "appProtocol": "h2c"},
    {"name": "dns", "port": 53, "protocol": "UDP"},
    {"name": "http", "port": 80, "protocol": "UDP"},
]
ports = st.lists(
    st.sampled_from(PORTS), max_size=3, unique_by=(lambda p: p["name"], lambda p: (p["protocol"], p["port"]))
)
specs = st.fixed_dictionaries(
    {
        "clusterIP": st.sampled_from(["10.96.0.7", "None"]),
        "ports": ports,
        "ipFamilies": st.sampled_from([["IPv4"], ["IPv6", "IPv4"]]),
    },
    optional={
        "sessionAffinity": st.just("ClientIP"),
        "internalTrafficPolicy": st.sampled_from(["Cluster", "Local"]),
        "trafficDistribution": st.just("PreferClose"),
        "type": st.just("ExternalName"),
    },
)
labels = st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"), max_size=2)
export_specs = st.fixed_dictionaries({}, optional={"exportedLabels": labels, "exportedAnnotations": labels})
days = st.sampled_from([f"2026-11-{day}T12:00:00Z" for day in (20, 21, 22)])
names = st.sampled_from(["cart", "cart", "cart", "tea"])
_ADDRESSES = [f"10.1.0.{i}" for i in range(6)]
addresses = st.sets(st.sampled_from(_ADDRESSES), max_size=4).map(sorted)
hostnames = st.sampled_from(
    [{}, {each: f"web-{i % 2}" for i, each in enumerate(_ADDRESSES)}, dict.fromkeys(_ADDRESSES[1:], "web-0")]
)
objects = st.one_of(
    st.builds(lambda name, spec: service(name, **spec), names, specs),
    st.builds(
        lambda name, i, own, named: endpoint_slice(f"{name}-{i}", *own, of=name, hostnames=named),
        names,
        st.sampled_from([1, 2]),
        addresses,
        hostnames,
    ),
    st.builds(
        lambda name, created, spec: export(name, created, prefer="own-cluster, cluster=one" if spec else "", **spec),
        names,
        days,
        export_specs,
    ),
    st.builds(cluster_id, st.sampled_from(["east", "one", "two"])),
)
Objects = list[dict[str, Any]]
Step = Callable[[Member, int], list[JournalRecord]]


def one_of_each(items: Objects) -> Objects:
    return list({(item["kind"], item["metadata"]["name"]): item for item in items}.values())


def apply(items: Objects) -> Step:
    return lambda member, _: member.apply(*one_of_each(items))


def delete(item: dict[str, Any]) -> Step:
    return lambda member, _: member.delete(item) if member.has(item) else []


def begin_again(items: Objects) -> Step:
    return lambda member, number: member.begin_again(number + 2, *one_of_each(items))


def begin_to_list(member: Member, number: int) -> list[JournalRecord]:
    """Another watcher, which ends in its first list."""
    return member.begin_again(number + 2)[:1]


def heartbeat(stale_since: str) -> Step:
    return lambda member, _: member.heartbeat(stale_since=stale_since)


steps = st.one_of(
    st.builds(apply, st.lists(objects, min_size=1, max_size=3)),
    st.builds(apply, st.lists(st.builds(export, st.just("cart"), days), min_size=1, max_size=1)),
    st.builds(delete, objects),
    st.builds(delete, st.just(export())),
    st.builds(begin_again, st.lists(objects, max_size=2)),
    st.builds(heartbeat, st.sampled_from(["", "2026-11-24T12:00:00.000Z"])),
)
clusters = st.sampled_from(["east", "north", "west"])
beginnings = st.lists(st.lists(objects, min_size=2, max_size=6), min_size=3, max_size=3)
histories = st.tuples(beginnings, st.lists(st.tuples(clusters, steps, st.just(1)), min_size=3, max_size=10))
History = tuple[list[Objects], list[tuple[str, Step, int]]]
"""The clusters' first objects; and steps, each with the seconds since the one before, by the broker's clock."""

drops = st.sampled_from([("30s", "0%"), ("30s", "50%"), ("40s", "60%"), None])
hosts = st.integers(1, 4).map(lambda count: [f"10.1.0.{i}" for i in range(count)])
exporting = st.builds(lambda drop, own: [service(), endpoint_slice("cart-1", *own), export(drop=drop)], drops, hosts)
signs_of_life = st.one_of(
    st.builds(heartbeat, st.sampled_from(["", "", "", "2026-11-24T12:00:00.000Z"])),
    st.builds(heartbeat, st.just("")),
    st.builds(begin_again, st.just([])),
    st.just(begin_to_list),
    st.builds(apply, st.lists(st.builds(lambda own: endpoint_slice("cart-1", *own), hosts), min_size=1, max_size=1)),
    st.builds(apply, st.lists(st.builds(lambda drop: export(drop=drop), drops), min_size=1, max_size=1)),
)
outages = st.tuples(
    st.lists(exporting, min_size=3, max_size=3),
    st.lists(st.tuples(clusters, signs_of_life, st.sampled_from([1, 11, 16, 31])), min_size=6, max_size=14),
)
"""Histories in which clusters that export a Service are not heard of for a while."""


def folded(drawn: History) -> tuple[Journal, list[Member]]:
    journal = Journal()
    members = {name: Member(name) for name in ("east", "north", "west")}
    first, history = drawn
    for member, items in zip(members.values(), first, strict=True):
        journal.take(member.begin(*one_of_each(items)))
    for number, (name, step, waited) in enumerate(history):
        journal.now += waited * 1000
        for member in members.values():
            member.second += 1
        journal.take(step(members[name], number))
    return journal, list(members.values())


def check_sets(drawn: History) -> None:
    """Every set is what the KEP's words make of the clusters' objects, and nothing is there of what is not exported."""
    journal, members = folded(drawn)
    rows = journal.rows()
    naive = [member.naive for member in members]
    _check_printed(rows, naive)
    for name in NAMES:
        row, expected = sets_in(rows).get(f"shop/{name}"), naive_set(naive, ("shop", name))
        assert (row is None) == (expected is None), f"the set is {row}, it should be {expected}"
        if row is None or expected is None:
            continue
        dropped = dropped_from(row)
        counts = {each["cluster"] for each in row["exports"] if each["counted"]}
        row["exports"] = [
            (
                *(each[field] for field in ("cluster", "id", "created", "valid", "conflict")),
                each["counted"] or each["cluster"] in dropped,
            )
            for each in row["exports"]
        ]
        row["conflicts"] = [(each["reason"], each["clusterID"]) for each in row["conflicts"]]
        for field, value in expected.items():
            assert row[field] == value, f"{field}: {row[field]} should be {value}"
        addresses = {
            cluster: sorted({e["address"] for g in rows[f"{cluster}/shop/{name}"]["groups"] for e in g["endpoints"]})
            for cluster in counts
        }
        wanted = naive_endpoints(naive, ("shop", name), dropped)
        assert addresses == wanted, f"endpoints: {addresses} should be {wanted}"
    _check_unexported(rows, members)
    _check_versions(journal)


def dropped_from(row: dict[str, Any]) -> set[str]:
    """The clusters whose endpoints were dropped from a set."""
    return {cluster for cluster, decision in decisions_in(row).items() if decision["action"] == "dropped"}


def check_decisions(drawn: History) -> None:
    """At every record each set says of each cluster what its policy makes of the journal's times until then."""
    journal, _ = folded(drawn)
    facts: dict[str, ClusterFacts] = {}
    rows: dict[str, dict[str, Any]] = {}
    decided: dict[str, dict[str, Any]] = {}
    writes = [write for write in journal.writes if write.table == "clusterset" and is_row(write.key)]
    for offset, (value, now) in enumerate(zip(journal.values, journal.times, strict=True)):
        take_fact(facts, orjson.loads(value), now)
        rows |= newest([write for write in writes if write.version == offset])
        for key, row in rows.items():
            if is_set(key.encode()):
                counts = {
                    cluster: sum(
                        len(g["endpoints"]) + len(g.get("shadowed", ())) for g in rows[f"{cluster}/{key}"]["groups"]
                    )
                    for cluster in (each["cluster"] for each in row["exports"] if each["valid"] == "Valid")
                }
                wanted = naive_decisions(row["exports"], decided.get(key, {}), facts, counts, now)
                has = decisions_in(row)
                assert has == wanted, f"unavailable: at {offset} {key} says {has}, it should say {wanted}"
                decided[key] = has


def _check_unexported(rows: dict[str, dict[str, Any]], members: list[Member]) -> None:
    exported = {(member.naive.name, *name) for member in members for name in member.naive.exports}
    for key, row in rows.items():
        if not is_set(key.encode()) and tuple(key.split("/")) not in exported:
            held = row["state"], row["export"], row["service"], row["groups"]
            assert held == ("deleted", None, None, []), f"leaked: {key} is not exported and has {held}"


def _check_printed(rows: dict[str, dict[str, Any]], naive: list[NaiveCluster]) -> None:
    values = [Row("clusterset", *parse_row_key(key), row["version"], orjson.dumps(row)) for key, row in rows.items()]
    for row in (each.decode() for each in SetRows().take(values)):
        claims = sorted(
            (endpoint["cluster"], endpoint["address"], port["name"], port["protocol"], port["port"])
            for endpoint in row["endpoints"]
            for port in endpoint["ports"]
        )
        wanted = naive_claims(naive, ("shop", row["name"]), dropped_from(row))
        assert claims == wanted, f"claims: {claims} should be {wanted}"
        named = {
            NaiveHost(
                endpoint["dnsName"], endpoint["cluster"], endpoint["address"], port["name"], port["protocol"],
                port["port"],
            )
            for endpoint in row["endpoints"]
            if "dnsName" in endpoint
            for port in endpoint["ports"]
        }  # fmt: skip
        # Of clusters that share an address one has it in the set.
        hosts = {
            host for host in naive_hosts(naive, ("shop", row["name"]), dropped_from(row)) if host[1:] in set(claims)
        }
        assert named == hosts, f"hosts: {named} should be {hosts}"


def _check_versions(journal: Journal) -> None:
    """What a reader is shown of a set names the version that it replaces, whichever row of it has changed; the last is
    as who reads the newest rows alone is shown it."""
    newest_shown: dict[str, dict[str, Any]] = {}
    for row in joined(journal.writes):
        before = newest_shown.get(row["name"])
        wanted = None if before is None else before["version"]
        assert row["previous"] == wanted, f"versions: {row['version']} follows {row['previous']}, not {wanted}"
        assert before is None or row["version"] > before["version"], f"versions: {row['version']} is not newer"
        newest_shown[row["name"]] = row
    rows = [
        Row("clusterset", *parse_row_key(key), row["version"], orjson.dumps(row))
        for key, row in journal.rows().items()
        if row["state"] != "deleted"
    ]
    alone = {row.name: row.decode() for row in SetRows().take(rows)}
    shown = {name: row for name, row in newest_shown.items() if row["state"] != "deleted"}
    differing = [name for name in {*alone, *shown} if _content(alone.get(name)) != _content(shown.get(name))]
    assert not differing, f"shown otherwise: {differing}"


def _content(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """Without what is replaced: who begins with a snapshot has not had it."""
    return row and {name: value for name, value in row.items() if name != "previous"}


def check_restart(drawn: History, cuts: list[float]) -> None:
    """A worker that is killed between any two records goes on to the same rows, byte for byte."""
    journal, _ = folded(drawn)
    crash, counts = int(cuts[0] * len(journal.values)), {}
    for place, table in enumerate(("frontend", "backend", "routing", "clusterset"), 1):
        own = [write for write in journal.writes if write.table == table]
        least = sum(1 for write in own if write.version < crash)
        most = sum(1 for write in own if write.version <= crash + 1)
        counts[table] = own[: least + round(cuts[place] * (most - least))]
    again = PartitionFold(0, WORKER_TABLES, WINDOW)
    for kept in counts.values():
        for write in kept:
            again.load(*write)
    resume, writes = again.recover()
    for offset in range(resume, len(journal.values)):
        writes += again.step(offset, journal.values[offset], journal.times[offset])
    for table, kept in counts.items():
        whole = {(write.key, write.version): write.value for write in journal.writes if write.table == table}
        made = {(write.key, write.version): write.value for write in (*kept, *writes) if write.table == table}
        differing = sorted(key for key in {*whole, *made} if whole.get(key, 0) != made.get(key, 0))
        assert not differing, f"after a restart {table} has other records: {differing}"


restarts = st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 0.99]), min_size=5, max_size=5)


def check_others(drawn: History) -> None:
    """The other tables are, byte for byte, as without it."""
    journal, _ = folded(drawn)
    without = PartitionFold(0, window_seconds=WINDOW)
    records = enumerate(zip(journal.values, journal.times, strict=True))
    writes = [write for offset, (value, now) in records for write in without.step(offset, value, now)]
    assert [write for write in journal.writes if write.table != "clusterset"] == writes
