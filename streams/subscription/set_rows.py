"""The clusterset's sets as the commands print them: each row with the endpoints of all clusters that count in it."""

from collections.abc import Iterable, Iterator
from typing import Any

from streams.facets.service_set import precedence, set_state
from streams.subscription.delivery import Row

_Json = dict[str, Any]


class SetRows:
    """The newest rows of sets, and of the clusters' contributions to them."""

    def __init__(self) -> None:
        self._sets: dict[tuple[str, str], Row] = {}
        self._contributions: dict[tuple[str, str], dict[str, Row]] = {}

    def take(self, rows: Iterable[Row]) -> list[_Json]:
        """Take rows, all of one moment; returns the sets that they change."""
        touched: dict[tuple[str, str], None] = {}
        for row in rows:
            name = row.namespace, row.name
            touched[name] = None
            if row.cluster:
                self._contributions.setdefault(name, {})[row.cluster] = row
            else:
                self._sets[name] = row
        return [self._join(name) for name in touched if name in self._sets]

    def _join(self, name: tuple[str, str]) -> _Json:
        contributions = {cluster: row.decode() for cluster, row in self._contributions.get(name, {}).items()}
        return join_set(self._sets[name].decode(), contributions)


def join_set(row: _Json, contributions: dict[str, _Json]) -> _Json:
    """A set's decoded row with what the decoded rows of its clusters add: `asOf` of each export (where in its cluster's
    history the contribution stands), its state as this reader sees it, and `endpoints`, each with its `cluster`. Their
    ports have the set's names; those that the set doesn't have are left out."""
    joined = {**row, "exports": [{**export} for export in row["exports"]]}
    for export in joined["exports"]:
        if (contribution := contributions.get(export["cluster"])) is not None:
            export |= {name: contribution[name] for name in ("state", "reason", "asOf")}
    if joined["exports"]:
        state, reason = set_state([(each["id"], each["state"], each["counted"]) for each in joined["exports"]])
        joined["state"], joined["reason"] = state, reason
    joined["endpoints"] = _one_winner(list(_endpoints(joined, contributions)))
    return joined


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
                yield {**endpoint, "ports": ports, "cluster": export["cluster"]}


def _one_winner(endpoints: list[_Json]) -> list[_Json]:
    """The endpoints with one winner for each (family, address, port name, protocol, number): a serving, non-terminating
    one wins, then the one of precedence. (Of two clusters no resourceVersion is the newer.) A loser keeps its other
    ports."""
    owners: dict[tuple[Any, ...], int] = {}
    order = sorted(range(len(endpoints)), key=lambda i: (not endpoints[i]["serving"] or endpoints[i]["terminating"], i))
    for i in order:
        for port in endpoints[i]["ports"]:
            owners.setdefault(_claim(endpoints[i], port), i)
    kept = []
    for i, endpoint in enumerate(endpoints):
        ports = [port for port in endpoint["ports"] if owners[_claim(endpoint, port)] == i]
        if ports:
            kept.append({**endpoint, "ports": ports})
    return sorted(kept, key=lambda each: (each["cluster"], each["family"], each["address"], each["slice"]))


def _claim(endpoint: _Json, port: _Json) -> tuple[Any, ...]:
    return endpoint["family"], endpoint["address"], port["name"], port["protocol"], port["port"]
