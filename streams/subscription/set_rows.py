"""The clusterset's sets as readers are shown them: each row with the endpoints of all clusters that count in it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from streams.facets.service_set import host_dns_name, precedence, set_state
from streams.subscription.delivery import Row
from streams.subscription.freshness import overlay
from streams.wire.partitioning import partition_of
from streams.wire.records import CLUSTERSET
from streams.wire.row_codec import is_deleted

_Json = dict[str, Any]


class SetRows:
    """The newest rows of sets, and of the clusters' contributions to them."""

    def __init__(self) -> None:
        self._sets: dict[tuple[str, str], Row] = {}
        self._contributions: dict[tuple[str, str], dict[str, Row]] = {}

    def join(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Rows of any tables, all of one moment: those of the clusterset as `take` returns them, after the others."""
        if all(row.table != CLUSTERSET for row in rows):
            return rows
        others = [row for row in rows if row.table != CLUSTERSET]
        return [*others, *self.take(row for row in rows if row.table == CLUSTERSET)]

    def set_silence(self, cluster: str, reason: str, partitions: Collection[int], count: int) -> None:
        """A cluster is silent in these of `count` partitions, and is heard of in the others."""
        for name, contributions in self._contributions.items():
            if cluster in contributions:
                silence = reason if partition_of(*name, count) in partitions else ""
                contributions[cluster] = contributions[cluster].with_silence(silence)

    def take(self, rows: Iterable[Row]) -> list[Row]:
        """Take the clusterset's rows, all of one moment (a tombstone is a row without a value). Returns the sets that
        they change, joined with their contributions (`join_set`); a row's value is then its printed form."""
        touched: dict[tuple[str, str], None] = {}
        for row in rows:
            if row.value:
                name = row.namespace, row.name
                touched[name] = None
                if row.cluster:
                    self._contributions.setdefault(name, {})[row.cluster] = row
                else:
                    self._sets[name] = row
        joined = [self._join(name) for name in touched if name in self._sets]
        for name in touched:
            self._forget_deleted(name)
        return joined

    def _join(self, name: tuple[str, str]) -> Row:
        contributions = {cluster: row.decode() for cluster, row in self._contributions.get(name, {}).items()}
        joined = join_set(self._sets[name].decode(), contributions)
        return Row(CLUSTERSET, "", *name, joined["version"], msgspec.json.encode(joined))

    def _forget_deleted(self, name: tuple[str, str]) -> None:
        """A contribution is deleted with a row of its set, so nothing is lost of the set's versions."""
        contributions = self._contributions.pop(name, {})
        if kept := {cluster: row for cluster, row in contributions.items() if not is_deleted(row.value)}:
            self._contributions[name] = kept
        if name in self._sets and is_deleted(self._sets[name].value):
            del self._sets[name]


def join_set(row: _Json, contributions: dict[str, _Json]) -> _Json:
    """A set's decoded row with what the decoded rows of its clusters add: `asOf` of each export (where in its cluster's
    history the contribution stands), its state as this reader sees it, and `endpoints`, each with its `cluster`; one
    with a `hostname` in a Headless set also has its `dnsName`. Their ports have the set's names; those that the set
    doesn't have are left out.

    Its head is that of the newest change, of the set's own row or of a contribution: `version`, `asOf`, `cause` and
    `origin`; `previous` is the version that the joined set had before."""
    joined = {**row, "exports": [{**export} for export in row["exports"]]}
    joined |= _head(row, contributions.values())
    for export in joined["exports"]:
        if (contribution := contributions.get(export["cluster"])) is not None:
            export |= {name: contribution[name] for name in ("state", "reason", "asOf")}
    _set_state(joined)
    joined["endpoints"] = _one_winner(list(_endpoints(joined, contributions)))
    return joined


def overlay_set(text: bytes, silences: Mapping[str, str]) -> bytes:
    """A joined set's JSON as it is shown while clusters are silent; `silences` are the reasons, by cluster."""
    joined: _Json = msgspec.json.decode(text)
    silent = [export for export in joined["exports"] if export["cluster"] in silences]
    if not silent:
        return text
    for export in silent:
        overlay(export, silences[export["cluster"]])
    _set_state(joined)
    return msgspec.json.encode(joined)


def _head(row: _Json, contributions: Iterable[_Json]) -> _Json:
    members = [row, *contributions]
    # Of one commit's rows the set's own has the causes of all.
    newest = max(members, key=lambda member: (member["version"], not member["cluster"]))
    version = newest["version"]
    before = [member["previous"] if member["version"] == version else member["version"] for member in members]
    previous = max((number for number in before if number is not None), default=None)
    origin = newest["cluster"] or newest["origin"]
    return {
        "version": version,
        "previous": previous,
        "origin": origin,
        "asOf": newest["asOf"],
        "cause": newest["cause"],
    }


def _set_state(joined: _Json) -> None:
    if joined["exports"]:
        state, reason = set_state(
            [(export["id"], export["state"], export["counted"]) for export in joined["exports"]],
            any_dropped=any("unavailable" in export for export in joined["exports"]),
        )
        joined["state"], joined["reason"] = state, reason


def _endpoints(row: _Json, contributions: dict[str, _Json]) -> Iterator[_Json]:
    """All endpoints of the clusters that count, by precedence."""
    exports = [export for export in row["exports"] if export["counted"] and export["cluster"] in contributions]
    for export in sorted(exports, key=lambda export: precedence(export["created"], export["id"])):
        names = {port["clusters"][export["id"]]: port for port in row["ports"] if export["id"] in port["clusters"]}
        for endpoint in contributions[export["cluster"]]["endpoints"]:
            ports = [
                {**port, "name": names[port["name"]]["name"]} for port in endpoint["ports"] if port["name"] in names
            ]
            if ports:
                host = {}
                if row["type"] == "Headless" and "hostname" in endpoint:
                    host["dnsName"] = host_dns_name(endpoint["hostname"], export["id"], row["dnsName"])
                yield {**endpoint, "ports": ports, "cluster": export["cluster"], **host}


def _one_winner(endpoints: list[_Json]) -> list[_Json]:
    """The endpoints with one winner for each (family, address, port name, protocol, number): the one of precedence, as
    for a router that says of no cluster that it is its own. A loser keeps its other ports."""
    owners: dict[tuple[Any, ...], int] = {}
    for i, endpoint in enumerate(endpoints):
        for port in endpoint["ports"]:
            owners.setdefault(_claim(endpoint, port), i)
    kept = []
    for i, endpoint in enumerate(endpoints):
        ports = [port for port in endpoint["ports"] if owners[_claim(endpoint, port)] == i]
        if ports:
            kept.append({**endpoint, "ports": ports})
    return sorted(kept, key=lambda each: (each["cluster"], each["family"], each["address"], each["slice"]))


def _claim(endpoint: _Json, port: _Json) -> tuple[Any, ...]:
    return endpoint["family"], endpoint["address"], port["name"], port["protocol"], port["port"]
