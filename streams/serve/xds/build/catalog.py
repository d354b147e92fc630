"""The xDS resources of all Services at the newest sealed state, built for a client on demand.

A Service's own name, in its cluster's domain, is for a client that of its own cluster alone: the same name may be
another Service in another cluster (KEP-1645, namespace sameness holds for what is exported). What clusters export to
each other has names of its own, in the clusterset's domain, which are the same for all clients.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import NamedTuple

from streams.serve.xds.build.client import Client
from streams.serve.xds.build.clusterset import is_set_name
from streams.serve.xds.build.endpoints import Address, Clusters
from streams.serve.xds.build.hosts import HostName, SetHosts, host_of
from streams.serve.xds.build.names import Kind
from streams.serve.xds.build.ports import ports_by_name
from streams.serve.xds.build.resource import Absence, Resource
from streams.serve.xds.build.service import Service
from streams.serve.xds.build.service_index import Key, ServiceIndex, Unit
from streams.serve.xds.build.service_resources import PortName, ServiceResources
from streams.subscription.rows import Row
from streams.wire.records import Seal, ServicePort

UNPLACED = Client()
"""A client that doesn't say where it is."""


class Change(NamedTuple):
    """The change of a Service in a batch: `by_cluster` are the names of the resources that it has or had, by the
    cluster whose clients get them ("": those of the clusterset, for all); `at` is the commit's time, `trigger` when its
    cause happened (as in Kubernetes' network programming latency), if an object says so. `of_hosts` says that its hosts
    have, or had, names of their own in the clusterset, which are not among these. `of_others` are the names in all
    clusters, where other clusters have the Service now: to clients that name none they may mean another's."""

    by_cluster: dict[str, set[str]]
    at: str
    trigger: str = ""
    of_hosts: bool = False
    of_others: frozenset[str] = frozenset()

    @property
    def names(self) -> Set[str]:
        """The names for whichever client."""
        return self.of_others.union(*self.by_cluster.values())

    def names_for(self, cluster: str) -> Set[str]:
        """The names that make a difference to a cluster's clients; one that names none may get any."""
        if not cluster:
            return self.names
        return self.by_cluster.get("", set()) | self.by_cluster.get(cluster, set())


Changes = dict[Key, Change]


class Catalog:
    """Takes the rows of sealed batches, and builds resources from them. With `follows_sets` it is given the
    clusterset's rows too; without them nothing is known of any set."""

    def __init__(self, partitions: int, *, follows_sets: bool = True) -> None:
        self.index = ServiceIndex(partitions)
        self.follows_sets = follows_sets
        self._names: dict[str, dict[str, PortName]] = {}
        """By name, then by cluster ("": the clusterset), what it means there."""
        self._of_unit: dict[Unit, tuple[str, ...]] = {}
        self._resources: dict[Unit, ServiceResources] = {}
        self._headless: set[Key] = set()
        self._hosts: dict[Key, SetHosts] = {}

    # ---- the state -------------------------------------------------------------------------------------

    @property
    def partitions(self) -> int:
        """How many partitions the tables have."""
        return self.index.partitions

    @property
    def seals(self) -> Mapping[tuple[int, str], Seal]:
        """The newest seals, by partition and cluster."""
        return self.index.seals

    @property
    def known(self) -> tuple[int, int]:
        """See ServiceIndex."""
        return self.index.known

    def replace(self, rows: Iterable[Row], seals: Mapping[tuple[int, str], Seal]) -> Changes:
        """Take a snapshot. Returns the Services whose resources may have changed."""
        at = max((seal.at for seal in seals.values()), default="")
        before = {key: self._names_by_cluster(self.index.units(key)) for key in self.index.all_keys()}
        were_headless = self._headless
        self.index.replace(rows, seals)
        self._names, self._of_unit, self._resources = {}, {}, {}
        self._headless, self._hosts = set(), {}
        for key in self.index.all_keys():
            names = before.setdefault(key, {})
            for unit in self.index.units(key):
                names.setdefault(unit.cluster, set()).update(self._rename(unit))
        of_hosts = were_headless | self._headless
        return {key: Change(names, at, of_hosts=key in of_hosts) for key, names in before.items()}

    def apply(self, rows: Iterable[Row], seal: Seal, partition: int) -> Changes:
        """Take the rows of one sealed batch. Returns the Services whose resources may have changed."""
        changes: Changes = {}
        for key, taken in self.index.apply(rows, seal, partition).items():
            names = self._names_by_cluster(taken.units)
            was_headless = key in self._headless
            for unit in taken.units:
                names[unit.cluster].update(self._rename(unit))
            of_hosts = "" in names and (was_headless or key in self._headless)
            of_others = frozenset(self.names_of(key) if taken.in_other_clusters else ())
            changes[key] = Change(names, taken.at, taken.trigger, of_hosts, of_others)
        return changes

    def is_settled_for(self, client: Client, *, drops: bool) -> bool:
        """Whether every partition has a complete snapshot of the client's cluster (or of some cluster, if it names
        none). Before that it does not get all resources: one that had more would drop the rest. One that `drops`
        nothing by itself gets the clusterset's also if its own cluster is not followed."""
        cluster = client.place.cluster
        return self.index.is_complete(cluster if drops or cluster in self.index.clusters else "")

    # ---- names -------------------------------------------------------------------------------------------

    def names(self, kind: Kind, client: Client = UNPLACED) -> Iterable[str]:
        """All names of a type, for a client's wildcard subscription. A wildcard gets no listeners: gRPC's clients ask
        for theirs by name, and Envoy could not use them. Nor does it get the hosts of headless sets."""
        if kind == "lds":
            return ()
        cluster = client.place.cluster
        if not cluster:
            return self._names.keys()
        return (name for name, meanings in self._names.items() if "" in meanings or cluster in meanings)

    def own(self, name: str) -> str:
        """The string for a name that all clients share: the catalog's own, if it has the name."""
        meanings = self._names.get(name)
        return next(iter(meanings.values())).name if meanings else sys.intern(name)

    def service_of(self, name: str) -> Key | None:
        """The Service that a resource name belongs to, or would belong to: SERVICE.NAMESPACE.svc.DOMAIN:PORT, or a
        host's of a set."""
        if name in self._names:
            return next(iter(self._names[name].values())).unit.service
        if (host := host_of(name)) is not None:
            return host.service
        parts = name.split(".", 3)
        return (parts[1], parts[0]) if len(parts) == 4 and parts[2] == "svc" else None

    def services(self) -> Iterator[Key]:
        """All Services."""
        return iter(self.index.all_keys())

    def names_of(self, key: Key) -> tuple[str, ...]:
        """The names of a Service's resources, whichever client gets them; without those of hosts."""
        units = self.index.units(key)
        if len(units) == 1:
            return self._of_unit.get(units[0], ())
        return tuple(dict.fromkeys(name for unit in units for name in self._of_unit.get(unit, ())))

    def names_for(self, key: Key, client: Client) -> tuple[str, ...]:
        """The names of a Service's resources that the client may get; without those of hosts."""
        if not client.place.cluster:
            return self.names_of(key)
        own, of_set = (self._of_unit.get(Unit(cluster, *key), ()) for cluster in (client.place.cluster, ""))
        return own + of_set if own and of_set else own or of_set

    def newest(self, key: Key) -> tuple[int, str]:
        """See ServiceIndex."""
        return self.index.newest(key)

    def partition(self, key: Key) -> int:
        """The partition that holds a Service."""
        return self.index.partition(key)

    # ---- resources -------------------------------------------------------------------------------------

    def resource(self, kind: Kind, name: str, client: Client) -> Resource | Absence:
        """The resource as this client gets it."""
        if name not in self._names and (host := host_of(name)) is not None:
            return self._of_host(kind, name, host, client)
        key = self.service_of(name)
        if key is None:
            return Absence.MISSING
        if is_set_name(name):
            return self._of_set(kind, name, key, client)
        cluster = self.cluster_for(name, client)
        if isinstance(cluster, Absence):
            return cluster
        meaning = self._names.get(name, {}).get(cluster)
        if meaning is not None:
            if not client.place.cluster:
                # Equal for all clients that get it, whether they name the cluster or not.
                client = client._replace(place=client.place._replace(cluster=cluster))
            return self._built(meaning.unit).resource(kind, name, meaning, client)
        facets = self.index.services.get(key, {}).get(cluster)
        is_unknown = facets is not None and facets.frontend is None
        return Absence.UNKNOWN if is_unknown or not self.index.is_known(key, cluster) else Absence.MISSING

    def cluster_for(self, name: str, client: Client) -> str | Absence:
        """The cluster whose Service a name in a cluster's own domain is for this client: its own. Of a client that
        names none, the first by name that has the Service; whether one that is not known has it, is not known."""
        if client.place.cluster:
            return client.place.cluster
        key, dns_name = self.service_of(name), name.partition(":")[0]
        if key is None:
            return Absence.MISSING
        services = self.index.services.get(key, {})
        clusters = self.index.clusters | services.keys()
        for cluster in sorted(clusters):
            facets = services.get(cluster)
            if facets is not None and facets.frontend is not None:
                if facets.frontend.dns_name == dns_name:
                    return cluster
            elif facets is not None or not self.index.is_known(key, cluster):
                return Absence.UNKNOWN
        return Absence.MISSING if clusters else Absence.UNKNOWN

    def _of_set(self, kind: Kind, name: str, key: Key, client: Client) -> Resource | Absence:
        """The resource of the clusterset's name. That a set is not there, or is empty, is only known if that is known
        of every cluster (of one that lists again, if there is a row of its contribution)."""
        service_set = self.index.set_of(key)
        meaning = self._names.get(name, {}).get("")
        if meaning is None:
            return Absence.MISSING if self._is_set_known(key) else Absence.UNKNOWN
        resource = self._built(meaning.unit).resource(kind, name, meaning, client)
        if isinstance(resource, Resource) and resource.is_empty:
            others = self.index.clusters - service_set.contributions.keys()
            if service_set.is_unknown or not all(self.index.is_known(key, cluster) for cluster in others):
                return Absence.UNKNOWN
        return resource

    def _of_host(self, kind: Kind, name: str, host: HostName, client: Client) -> Resource | Absence:
        """The resource of a host's name in the clusterset. That it is not there is known if that is known of the set,
        and, of a headless one, if no endpoint of the host's cluster was left out."""
        key, service_set = host.service, self.index.set_of(host.service)
        port = self._names.get(host.set_name, {}).get("")
        if port is not None:
            if key not in self._hosts:
                self._hosts[key] = SetHosts(service_set, key)
            resources = self._hosts[key].resources(host, port.port)
            if resources is not None:
                return resources.resource(kind, name, port, client)
        may_be_unread = service_set.is_headless and service_set.is_partial_in(host.cluster_id)
        return Absence.MISSING if self._is_set_known(key) and not may_be_unread else Absence.UNKNOWN

    def _is_set_known(self, key: Key) -> bool:
        """Whether it is known of every cluster what it exports of the Service."""
        return self.follows_sets and not self.index.set_of(key).is_unknown and self.index.is_known_in_all(key)

    def shared_addresses(self) -> Iterator[tuple[str, Address, Clusters]]:
        """The addresses in the built endpoint sets that more than one cluster has, by resource name, each with these
        clusters. One of them has it in each set."""
        for built in self._resources.values():
            for name, shared in built.shared.items():
                for address, clusters in shared.items():
                    yield name, address, clusters

    def clusters_with(self, key: Key) -> list[str]:
        """The clusters that have a Service of their own, in order."""
        return sorted(self.index.services.get(key, ()))

    def _built(self, unit: Unit) -> ServiceResources:
        if unit not in self._resources:
            imports = {} if unit.cluster else self.index.imports.of(unit.service)
            self._resources[unit] = ServiceResources(self._service(unit), imports)
        return self._resources[unit]

    def _service(self, unit: Unit) -> Service:
        if not unit.cluster:
            return self.index.sets[unit.service].service(*unit.service)
        return Service(*unit.service, (self.index.services[unit.service][unit.cluster],))

    def _names_by_cluster(self, units: Iterable[Unit]) -> dict[str, set[str]]:
        return {unit.cluster: set(self._of_unit.get(unit, ())) for unit in units}

    def _rename(self, unit: Unit) -> tuple[str, ...]:
        """Renew the names of a Service in a cluster, or of a set. Returns those that it has now."""
        before = self._of_unit.pop(unit, ())
        for name in before:
            meanings = self._names[name]
            del meanings[unit.cluster]
            if not meanings:
                del self._names[name]
        self._resources.pop(unit, None)
        if not unit.cluster:
            self._hosts.pop(unit.service, None)
            if self.index.set_of(unit.service).is_headless:
                self._headless.add(unit.service)
            else:
                self._headless.discard(unit.service)
        dns_name, ports = self._ports(unit)
        own_strings = {name: name for name in before}
        named = {self.own(own_strings.get(name, name)): port for name, port in ports_by_name(dns_name, ports).items()}
        if named:
            names = tuple(named)
            self._of_unit[unit] = before if names == before else names
        for name, port in named.items():
            self._names.setdefault(name, {})[unit.cluster] = PortName(name, unit, port)
        return tuple(named)

    def _ports(self, unit: Unit) -> tuple[str, Iterable[ServicePort]]:
        """The DNS name and the ports of a set, or of a Service in a cluster; no ports if there is none to be served."""
        if not unit.cluster:
            return self.index.set_of(unit.service).ports()
        facets = self.index.services.get(unit.service, {}).get(unit.cluster)
        frontend = facets.frontend if facets is not None else None
        # A cluster that calls its own domain so can't take the clusterset's names.
        if frontend is None or is_set_name(frontend.dns_name):
            return "", ()
        if frontend.type == "ExternalName" and not frontend.external_name:
            return "", ()
        return frontend.dns_name, frontend.ports
