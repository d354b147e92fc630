"""What clients in three clusters get of Services that some of them export: by the naive oracle, from the clusters'
objects."""

from itertools import product
from typing import Any

from hypothesis import strategies as st

from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.resource import Resource
from streams.subscription.delivery import Subscription
from streams.subscription.rows import EVERYTHING
from streams.wire.records import FOLDED_TABLES
from tests.properties.clustersets import History, apply, days, delete, folded
from tests.support.clustersets import Journal, cluster_id, endpoint_slice, export, service
from tests.support.naive_clusterset import NaiveCluster, naive_hosts, naive_set
from tests.support.xds_checks import Refused, check_resource

CART = ("shop", "cart")
CLUSTERS = ("east", "north", "west")
Addresses = dict[tuple[str, int], str]
"""By address and port number the cluster whose endpoint it is."""


_PORTS = {
    "http": {"name": "http", "port": 80, "protocol": "TCP"},
    "web": {"name": "web", "port": 80, "protocol": "TCP"},
    "moved": {"name": "http", "port": 81, "protocol": "TCP"},
    "dns": {"name": "dns", "port": 53, "protocol": "UDP"},
}
_OWN_PORTS = [
    {"name": name, "port": port, "protocol": protocol}
    for name, port, protocol in (("http", 8080, "TCP"), ("web", 8081, "TCP"), ("dns", 5353, "UDP"))
]
_specs = st.fixed_dictionaries(
    {
        "clusterIP": st.sampled_from(["10.96.0.7", "10.96.0.7", "None"]),
        "ports": st.sampled_from([["http"], ["web"], ["http", "dns"], ["moved", "web"], ["moved"]]).map(
            lambda names: [_PORTS[name] for name in names]
        ),
    },
    optional={
        "type": st.sampled_from(["ClusterIP", "ClusterIP", "ClusterIP", "ExternalName"]),
        "internalTrafficPolicy": st.just("Local"),
    },
)
_services = st.builds(lambda spec: service(**spec), _specs)
_ADDRESSES = ["10.1.0.1", "10.1.0.2", "10.1.0.3"]
_slices = st.builds(
    lambda addresses, hostnames: {**endpoint_slice("cart-a", *addresses, hostnames=hostnames), "ports": _OWN_PORTS},
    st.lists(st.sampled_from(_ADDRESSES), max_size=3, unique=True),
    st.sampled_from([{}, {"10.1.0.1": "web-0", "10.1.0.3": "web-1"}, dict.fromkeys(_ADDRESSES, "web-0")]),
)
_ids = st.sampled_from(["one", "id.of.two", "east"]).map(cluster_id)
_exports = st.builds(lambda created: export(created=created), days)
_begun = st.tuples(_services, _slices, _exports, st.sampled_from([2, 3, 3])).map(lambda items: list(items[: items[3]]))
_steps = st.one_of(
    st.builds(lambda item: apply([item]), st.one_of(_services, _slices, _exports, _ids)),
    st.builds(delete, st.sampled_from([service(), export(), export()])),
)
histories = st.tuples(
    st.lists(_begun, min_size=3, max_size=3),
    st.lists(st.tuples(st.sampled_from(CLUSTERS), _steps, st.just(1)), max_size=4),
)
"""A Service in three clusters, most of which export it, and what changes then."""


def catalog_of(journal: Journal) -> Catalog:
    """What a server has that has followed the tables from the start."""
    catalog, state = Catalog(1), Subscription(FOLDED_TABLES, 1, EVERYTHING)
    state.ready()
    for position, write in enumerate(journal.writes, 1):
        for batch in state.feed(write.table, 0, position, write.key, write.value, write.version):
            catalog.apply(batch.rows, batch.seal, 0)
    return catalog


def check_clusterset_names(drawn: History) -> None:
    """A name of the clusterset has, at each port, the endpoints of the clusters that export it, and of no others.
    Raises Refused."""
    journal, members = folded(drawn)
    catalog = catalog_of(journal)
    naive = [member.naive for member in members]
    expected = naive_set(naive, CART)
    ports = {(port["port"], port["protocol"]): port for port in (expected["ports"] if expected else [])}
    dns_name = "cart.shop.svc.clusterset.local"
    _check_names(catalog, dns_name, set(ports))
    for cluster, port in product(("", *CLUSTERS), ports.values()):
        resource = _resource_name(dns_name, port, set(ports))
        served = addresses(catalog, resource, Client(Place(cluster=cluster)))
        assert expected is not None
        wanted = merged(naive, port, expected["exports"], cluster)
        if served != wanted:
            raise Refused(f"{resource} in {cluster or 'no cluster'} has {served}, not {wanted}")


def check_host_names(drawn: History) -> None:
    """A host's name has, at each port, the endpoints of its cluster with its hostname, and no others, for every
    client; what is no host's has nothing. A wildcard has none of them. Raises Refused."""
    journal, members = folded(drawn)
    catalog = catalog_of(journal)
    naive = [member.naive for member in members]
    expected = naive_set(naive, CART)
    ports = {port["name"]: port for port in (expected["ports"] if expected else [])}
    numbers = {(port["port"], port["protocol"]) for port in ports.values()}
    wanted: dict[str, Addresses] = {}
    for host in naive_hosts(naive, CART):
        name = _resource_name(host.dns_name, ports[host.port], numbers)
        wanted.setdefault(name, {})[host.address, host.number] = host.cluster
    ids = {*CLUSTERS, "one", "id.of.two"}
    possible = {
        f"{hostname}{cluster}.cart.shop.svc.clusterset.local:{port}"
        for hostname, cluster, port in product(("web-0.", "web-1.", ""), ids, ("80", "81", "53", "53/udp"))
    }
    if missed := wanted.keys() - possible:
        raise Refused(f"{missed} are not asked for")
    if listed := possible & set(catalog.names("cds")):
        raise Refused(f"a wildcard has {listed}")
    for cluster, name in product(("", *CLUSTERS), sorted(possible)):
        served = addresses(catalog, name, Client(Place(cluster=cluster)))
        if served != wanted.get(name):
            raise Refused(f"{name} in {cluster or 'no cluster'} has {served}, not {wanted.get(name)}")


def check_own_names(drawn: History) -> None:
    """A Service's own name has, for clients of each cluster, what that cluster has alone, and for one that names none
    what the first has that has the Service. Raises Refused."""
    journal, members = folded(drawn)
    catalog = catalog_of(journal)
    naive = {member.naive.name: member.naive for member in members}
    having = sorted(name for name, cluster in naive.items() if CART in cluster.services)
    for asking in ("", *CLUSTERS):
        home = asking or (having[0] if having else "")
        spec = naive[home].services[CART]["spec"] if home in having else {}
        ports = [] if spec.get("type") == "ExternalName" else spec.get("ports", [])
        numbers = {(port["port"], port["protocol"]) for port in ports}
        client = Client(Place(cluster=asking))
        for number in (80, 81, 53):
            of_number = [port for port in ports if port["port"] == number]
            name = f"cart.shop.svc.cluster.local:{number}"
            wanted: Addresses | None = None
            for port in of_number:
                assert _resource_name("cart.shop.svc.cluster.local", port, numbers) == name
                own = own_addresses(naive[home], port["name"], port["protocol"])
                wanted = dict.fromkeys(own, home)
            served = addresses(catalog, name, client)
            if served != wanted:
                raise Refused(f"{name} in {asking or 'no cluster'} has {served}, not {wanted}")


def merged(clusters: list[NaiveCluster], port: dict[str, Any], exports: list[Any], own: str) -> Addresses:
    """The addresses of a set's port, each of the client's own cluster if that has it, else of that with the oldest
    export."""
    by_name = {each.name: each for each in clusters}
    counted = [row for row in exports if row[5] and row[1] in port["clusters"]]
    counted.sort(key=lambda row: (row[0] != own, row[2], row[1]))
    result: Addresses = {}
    for cluster, id_, *_ in counted:
        for address in own_addresses(by_name[cluster], port["clusters"][id_], port["protocol"]):
            result.setdefault(address, cluster)
    return result


def own_addresses(cluster: NaiveCluster, port: str, protocol: str) -> set[tuple[str, int]]:
    """What a cluster's slices have for a port of this name."""
    return {
        (endpoint["addresses"][0], own["port"])
        for item in cluster.slices.values()
        for endpoint in item["endpoints"]
        for own in item["ports"]
        if (own["name"], own["protocol"]) == (port, protocol)
    }


def addresses(catalog: Catalog, name: str, client: Client) -> Addresses | None:
    """The endpoint set of this name as a client gets it; None if it gets none."""
    answer = catalog.resource("eds", name, client)
    if not isinstance(answer, Resource):
        return None
    return {
        (entry.endpoint.address.socket_address.address, entry.endpoint.address.socket_address.port_value): (
            entry.metadata.filter_metadata["facets"]["cluster"]
        )
        for locality in check_resource("eds", name, answer.body.value).endpoints
        for entry in locality.lb_endpoints
    }


def _check_names(catalog: Catalog, dns_name: str, ports: set[tuple[int, str]]) -> None:
    named = {name for name in catalog.names("cds") if name.startswith(f"{dns_name}:")}
    wanted = {_resource_name(dns_name, {"port": number, "protocol": protocol}, ports) for number, protocol in ports}
    if named != wanted:
        raise Refused(f"the names are {named}, not {wanted}")


def _resource_name(dns_name: str, port: dict[str, Any], ports: set[tuple[int, str]]) -> str:
    is_second = port["protocol"] == "UDP" and (port["port"], "TCP") in ports
    return f"{dns_name}:{port['port']}" + ("/udp" if is_second else "")
