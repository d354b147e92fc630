"""The clusterset's sets as readers are shown them: each row with the endpoints of all clusters that count in it."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from streams.facets.service_set import host_dns_name, precedence, set_state
from streams.subscription.freshness import overlay
from streams.subscription.rows import Row
from streams.wire.partitioning import partition_of
from streams.wire.records import CLUSTERSET
from streams.wire.row_codec import is_deleted

_Json = dict[str, Any]
_Name = tuple[str, str]
_Claim = tuple[Any, ...]

_encode = msgspec.json.encode


class _Naming(NamedTuple):
    """How a set calls what is a cluster's: `ports` are the names of the cluster's ports, each with the set's.
    `dns_name` is the set's, of one whose endpoints have names of their own, else ""."""

    ports: tuple[tuple[str, str], ...]
    cluster_id: str
    dns_name: str


class SetRows:
    """The newest rows of sets, and of the clusters' contributions to them."""

    def __init__(self) -> None:
        self._sets: dict[_Name, _Properties] = {}
        self._contributions: dict[_Name, dict[str, _Contribution]] = {}

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
                contributions[cluster] = _Contribution(contributions[cluster].row.with_silence(silence))

    def take(self, rows: Iterable[Row]) -> list[Row]:
        """As `update`; a set's row has its printed form as its value."""
        return [joined.row() for joined in self.update(rows)]

    def update(self, rows: Iterable[Row]) -> list["JoinedSet"]:
        """Take the clusterset's rows, all of one moment (a tombstone is a row without a value). Returns the sets that
        they change."""
        touched: dict[_Name, list[str]] = {}
        for row in rows:
            if row.value:
                name = row.namespace, row.name
                touched.setdefault(name, []).append(row.cluster)
                if row.cluster:
                    self._contributions.setdefault(name, {})[row.cluster] = _Contribution(row)
                else:
                    self._sets[name] = _Properties(row)
        joined = [
            JoinedSet(self._sets[name], dict(self._contributions.get(name, {})))
            for name in touched
            if name in self._sets
        ]
        for name, clusters in touched.items():
            self._forget_deleted(name, clusters)
        return joined

    def _forget_deleted(self, name: _Name, clusters: Iterable[str]) -> None:
        """A contribution is deleted with a row of its set, so nothing is lost of the set's versions."""
        contributions = self._contributions.get(name, {})
        for cluster in clusters:
            if cluster in contributions and contributions[cluster].is_deleted:
                del contributions[cluster]
        if not contributions:
            self._contributions.pop(name, None)
        if name in self._sets and is_deleted(self._sets[name].row.value):
            del self._sets[name]


class JoinedSet:
    """A set with what its clusters add, at one moment. It is put together when it is first shown: most of it is of
    contributions that have not changed, whose text is kept with them.

    What is added is `asOf` of each export (where in its cluster's history the contribution stands), its state as this
    reader sees it, and `endpoints`, each with its `cluster`; one with a `hostname` in a Headless set also has its
    `dnsName`. Their ports have the set's names; those that the set doesn't have are left out. The head is that of the
    newest change, of the set's own row or of a contribution: `version`, `asOf`, `cause` and `origin`; `previous` is the
    version that the joined set had before."""

    __slots__ = ("_contributions", "_properties", "version")

    def __init__(self, properties: "_Properties", contributions: dict[str, "_Contribution"]) -> None:
        self.version = max(properties.row.version, *(each.row.version for each in contributions.values()), -1)
        self._properties = properties
        self._contributions = contributions

    @property
    def is_deleted(self) -> bool:
        """Whether the set's state is `deleted`."""
        return is_deleted(self._properties.row.value)

    def row(self, *, is_shown: bool = True) -> Row:
        """The set as a row of no cluster; `is_shown`: with its text as the value."""
        row = self._properties.row
        return Row(CLUSTERSET, "", row.namespace, row.name, self.version, self.text() if is_shown else b"")

    def text(self) -> bytes:
        """The printed form as JSON."""
        properties, contributions = self._properties, self._contributions
        row = properties.decoded
        joined: _Json = {**row, "exports": [{**export} for export in row["exports"]]}
        joined |= _head(row, [each.head for each in contributions.values()])
        for export in joined["exports"]:
            if (contribution := contributions.get(export["cluster"])) is not None:
                export |= {name: contribution.head[name] for name in ("state", "reason", "asOf")}
        _set_state(joined)
        counted = [(contributions[name], naming) for name, naming in properties.counted if name in contributions]
        return b'%b,"endpoints":[%b]}' % (_encode(joined)[:-1], _print_endpoints(counted))


class _Properties:
    """A set's own row, decoded when it is first shown. `counted` are the clusters whose endpoints are in the set, by
    precedence."""

    def __init__(self, row: Row) -> None:
        self.row = row

    @cached_property
    def decoded(self) -> _Json:
        return self.row.decode()

    @cached_property
    def counted(self) -> list[tuple[str, _Naming]]:
        row = self.decoded
        exports = [export for export in row["exports"] if export["counted"]]
        exports.sort(key=lambda export: precedence(export["created"], export["id"]))
        return [
            (export["cluster"], _Naming(_own_ports(row, export["id"]), export["id"], _host_zone(row)))
            for export in exports
        ]


def _host_zone(row: _Json) -> str:
    """The name under which a set's endpoints have names of their own; "" where they have none (KEP-1645, DNS)."""
    return str(row["dnsName"]) if row["type"] == "Headless" else ""


def _own_ports(row: _Json, cluster_id: str) -> tuple[tuple[str, str], ...]:
    return tuple(
        (port["clusters"][cluster_id], port["name"]) for port in row["ports"] if cluster_id in port["clusters"]
    )


class _Contribution:
    """A cluster's row, decoded when its set is first shown, and as it is then shown."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self._shown: tuple[_Naming, _Shown] | None = None

    @property
    def is_deleted(self) -> bool:
        return is_deleted(self.row.value)

    @cached_property
    def head(self) -> _Json:
        """The fields that a set is made of, but for the endpoints."""
        row = self.row.decode()
        return {name: row[name] for name in ("cluster", "version", "previous", "asOf", "cause", "state", "reason")}

    def endpoints(self, naming: _Naming) -> list[_Json]:
        """Those that have a port of the set."""
        names = dict(naming.ports)
        endpoints = []
        for endpoint in self.row.decode()["endpoints"]:
            own = [{**port, "name": names[port["name"]]} for port in endpoint["ports"] if port["name"] in names]
            if own:
                host = {}
                if naming.dns_name and "hostname" in endpoint:
                    host["dnsName"] = host_dns_name(endpoint["hostname"], naming.cluster_id, naming.dns_name)
                endpoints.append({**endpoint, "ports": own, "cluster": self.row.cluster, **host})
        return endpoints

    def shown(self, naming: _Naming) -> "_Shown":
        """Its endpoints, as if no other cluster had one of their addresses."""
        if self._shown is None or self._shown[0] != naming:
            endpoints = self.endpoints(naming)
            claims = frozenset(_claim(endpoint, port) for endpoint in endpoints for port in endpoint["ports"])
            self._shown = naming, _Shown(_print(_one_winner(endpoints)), claims)
        return self._shown[1]


class _Shown(NamedTuple):
    """A cluster's endpoints as JSON, without the brackets, and what they claim."""

    text: bytes
    claims: frozenset[_Claim]


def _print_endpoints(counted: Sequence[tuple[_Contribution, _Naming]]) -> bytes:
    """The endpoints of these contributions, which are in the order of precedence: a list's JSON, without the
    brackets."""
    shown = {each.row.cluster: each.shown(naming) for each, naming in counted}
    texts = {cluster: of_cluster.text for cluster, of_cluster in shown.items()}
    claims = [of_cluster.claims for of_cluster in shown.values()]
    if len(frozenset().union(*claims)) < sum(map(len, claims)):
        shared = {claim for claim, count in Counter(chain.from_iterable(claims)).items() if count > 1}
        rivals = [(each, naming) for each, naming in counted if not shared.isdisjoint(shown[each.row.cluster].claims)]
        winners = _one_winner([endpoint for each, naming in rivals for endpoint in each.endpoints(naming)])
        texts |= {each.row.cluster: b"" for each, _ in rivals}
        texts |= {cluster: _print(list(own)) for cluster, own in groupby(winners, key=itemgetter("cluster"))}
    return b",".join(text for _, text in sorted(texts.items()) if text)


def _print(endpoints: list[_Json]) -> bytes:
    return _encode(endpoints)[1:-1]


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


def _claim(endpoint: _Json, port: _Json) -> _Claim:
    return endpoint["family"], endpoint["address"], port["name"], port["protocol"], port["port"]
