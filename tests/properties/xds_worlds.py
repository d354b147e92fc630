"""Services in several clusters, as they change and are exported, and what must hold of the resources that clients get.

Each check is called for by the README or by a client (`support/xds_checks`), and recomputes what it needs from the
rows (`support/xds_expected`).
"""

from collections.abc import Iterator
from ipaddress import ip_address
from itertools import product
from typing import Any, NamedTuple, get_args

from hypothesis import strategies as st

from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.names import Kind
from streams.serve.xds.build.resource import Absence, Resource
from streams.subscription.rows import Row
from streams.wire.keys import parse_row_key
from streams.wire.records import CLUSTERSET, decode_row
from tests.support import xds_expected as expected
from tests.support.routes import annotated
from tests.support.xds_checks import Refused, addresses_of, check_resource
from tests.support.xds_follower import Follower
from tests.unit.xds.world import World, endpoint, exported_cart, service, slice_of

DOMAIN = "cart.shop.svc.cluster.local"
OF_SET = "cart.shop.svc.clusterset.local"
HOSTS = [f"{host}.{cluster}.{OF_SET}:80" for host, cluster in (("web-0", "east"), ("web-0", "west"), ("web-1", "east"))]
NAMES = [f"{domain}:{port}" for domain in (DOMAIN, OF_SET) for port in ("80", "53", "53/udp")] + HOSTS
CLIENTS = [
    Client(),
    Client(grpc=True),
    Client(Place(cluster="west")),
    Client(Place("z1", "n1")),
    Client(Place("z1", "n1", "west")),
    Client(Place("z1", "n1", "west"), grpc=True),
    Client(Place("", "n1", "nowhere")),
    Client(Place("z1", "", "east"), "gateway"),
]
_KINDS: tuple[Kind, ...] = get_args(Kind)
_HTTP, _WEB = {"name": "http", "port": 80}, {"name": "web", "port": 80}
_UDP, _TCP = {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}
_OWN_PORTS = {
    "http": {"name": "http", "port": 8080, "protocol": "TCP"},
    "web": {"name": "web", "port": 8080, "protocol": "TCP"},
    "dns": {"name": "dns", "port": 5353, "protocol": "UDP"},
    "dns-tcp": {"name": "dns-tcp", "port": 5353, "protocol": "TCP"},
}


class Step(NamedTuple):
    """A change of one cluster's object."""

    cluster: str
    item: dict[str, Any]
    is_delete: bool = False


_clusters = st.sampled_from(["east", "west"])


@st.composite
def _services(draw: st.DrawFn) -> dict[str, Any]:
    ports = draw(st.sampled_from([[_HTTP], [_WEB], [_HTTP, _UDP], [_UDP, _TCP], [_HTTP, _UDP, _TCP]]))
    ips = draw(st.sampled_from([["10.96.0.7"], ["10.96.0.8", "fd00:96::8"], ["None"]]))
    families = ["IPv4", "IPv6"] if len(ips) > 1 else ["IPv4"]
    spec: dict[str, Any] = {"ports": ports, "clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families}
    options: list[dict[str, Any]] = [
        {}, {}, {"internalTrafficPolicy": "Local"}, {"trafficDistribution": "PreferClose"},
        {"trafficDistribution": "PreferSameNode"}, {"sessionAffinity": "ClientIP"}, {"publishNotReadyAddresses": True},
        {"type": "ExternalName", "externalName": "cart.example.net", "clusterIP": "", "clusterIPs": []},
    ]  # fmt: skip
    item = service(**{**spec, **draw(st.sampled_from(options))})
    return annotated(item, mesh="service") if draw(st.sampled_from([False, False, True])) else item


@st.composite
def _endpoints(draw: st.DrawFn, family: str) -> dict[str, Any]:
    pool = ["10.0.0.1", "10.0.0.2", "10.0.0.3"] if family == "IPv4" else ["fd00::1", "fd00::2"]
    address = draw(st.sampled_from(pool))
    fields: dict[str, Any] = draw(
        st.sampled_from([
            {}, {}, {"ready": False, "serving": False}, {"ready": False, "serving": True, "terminating": True},
        ])
    )  # fmt: skip
    place: dict[str, Any] = draw(
        st.sampled_from([
            {"hostname": "web-0"}, {"zone": "z1", "nodeName": "n1", "hostname": "web-0"},
            {"zone": "z2", "nodeName": "n1", "hostname": "web-1"}, {"zone": "z1", "nodeName": "n2"},
        ])
    )  # fmt: skip
    hint = {"hints": {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}}
    hints: dict[str, Any] = draw(st.sampled_from([{}, {}, hint]))
    pod = {"targetRef": {"kind": "Pod", "name": "p", "namespace": "shop", "uid": f"pod-{address[-1]}"}}
    return endpoint(address, **fields, **place, **hints, **draw(st.sampled_from([{}, pod])))


@st.composite
def _slices(draw: st.DrawFn) -> dict[str, Any]:
    family = draw(st.sampled_from(["IPv4", "IPv4", "IPv6"]))
    ports = draw(st.sampled_from([["http"], ["web"], ["http", "dns", "dns-tcp"], ["dns"]]))
    endpoints = draw(st.lists(_endpoints(family), max_size=3, unique_by=lambda item: item["addresses"][0]))
    name = f"cart-{family[-1]}{draw(st.sampled_from('ab'))}"
    return slice_of(*endpoints, name=name, addressType=family, ports=[_OWN_PORTS[port] for port in ports])


_exports = st.builds(exported_cart, st.sampled_from([f"2026-11-{day}T12:00:00Z" for day in (20, 21)]))
_steps = st.builds(
    Step, _clusters, st.one_of(_services(), _slices(), _slices(), _exports), st.sampled_from([False] * 4 + [True])
)


@st.composite
def journals(draw: st.DrawFn) -> list[Step]:
    """Changes in two clusters. Most begin with a Service and a slice in each, often the same, and with exports."""
    begun = draw(_services()), draw(_slices())
    start = [Step("east", item) for item in begun]
    begun = begun if draw(st.booleans()) else (draw(_services()), draw(_slices()))
    start += [Step("west", item) for item in begun]
    exporting = draw(st.sampled_from([("east", "west"), ("east", "west"), ("west",), ()]))
    start += [Step(cluster, draw(_exports)) for cluster in exporting]
    return (start if draw(st.sampled_from([True] * 5 + [False])) else []) + draw(st.lists(_steps, max_size=8))


def applied(world: World, step: Step) -> set[str]:
    """The names that a step changes."""
    change = world.drop if step.is_delete else world.put
    return change(step.item, cluster=step.cluster)


def check_followers(steps: list[Step]) -> None:
    """Clients of every kind take what they get, at each step. Raises Refused."""
    world = World("east", "west")
    kinds = product((False, True), (False, True))
    followers = [Follower(world.catalog, NAMES, Client(grpc=grpc), delta=delta, hosts=HOSTS) for grpc, delta in kinds]
    for step in steps:
        changed = applied(world, step)
        for follower in followers:
            follower.follow(changed, world.changed_hosts)


def check_resources(steps: list[Step]) -> None:
    """What the catalog gives to clients anywhere, at the end. Raises Refused."""
    world = World("east", "west")
    for i, step in enumerate(steps):
        if i == len(steps) // 2:
            # What was built before a change must not be there after it.
            list(_asked(world.catalog))
        applied(world, step)
    rows = rows_of(world)
    _check_catalog(world.catalog, rows)
    _check_equal(world.catalog, _from_snapshot(world, rows))


def check_unknown(steps: list[Step]) -> None:
    """The same, where the endpoints of one cluster, or of the other, are not known. Raises Refused."""
    world = World("east", "west")
    for step in steps:
        applied(world, step)
    for cluster in ("east", "west"):
        rows = rows_of(world)
        if "backend" in rows.own.get(cluster, {}):
            rows.own[cluster]["backend"] = {**rows.own[cluster]["backend"], "state": "unknown"}
            if cluster in rows.contributions:
                rows.contributions[cluster] = {**rows.contributions[cluster], "state": "unknown", "reason": "Lost"}
            _check_catalog(_from_snapshot(world, rows), rows)


def rows_of(world: World) -> expected.Rows:
    """The Service's newest rows."""
    rows = expected.Rows({}, None, {})
    for (table, key, _), value in world.rows.items():
        row, cluster = decode_row(table, value), parse_row_key(key).cluster
        if row["state"] == "deleted":
            continue
        if table != CLUSTERSET:
            rows.own.setdefault(cluster, {})[table] = row
        elif cluster:
            rows.contributions[cluster] = row
        else:
            rows = rows._replace(of_set=row)
    return rows._replace(own={cluster: tables for cluster, tables in rows.own.items() if "frontend" in tables})


def _from_snapshot(world: World, rows: expected.Rows) -> Catalog:
    """Another server's catalog: it reads the newest rows only, in another order."""
    catalog = Catalog(1)
    snapshot = []
    for (table, key, _), value in reversed(world.rows.items()):
        owner = parse_row_key(key)
        if table != CLUSTERSET:
            row = rows.own.get(owner.cluster, {}).get(table)
        else:
            row = rows.contributions.get(owner.cluster) if owner.cluster else rows.of_set
        if row is not None:
            before = decode_row(table, value)
            written = value
            for field in ("state", "reason"):
                old, new = (f'"{field}":"{fields[field]}"'.encode() for fields in (before, row))
                written = written.replace(old, new, 1)
            snapshot.append(Row(table, *owner, row["version"], written))
    catalog.replace(snapshot, world.catalog.seals)
    return catalog


def _asked(catalog: Catalog) -> Iterator[tuple[Kind, str, Client, Resource | Absence]]:
    for client, name, kind in product(CLIENTS, NAMES, _KINDS):
        yield kind, name, client, catalog.resource(kind, name, client)


def _check_equal(one: Catalog, other: Catalog) -> None:
    """Equal rows make equal resources in every server."""
    for kind, name, client, resource in _asked(one):
        there = other.resource(kind, name, client)
        if isinstance(resource, Resource) and isinstance(there, Resource):
            is_equal = (resource.version, resource.body) == (there.version, there.body)
        else:
            is_equal = resource is there
        if not is_equal:
            raise Refused(f"two servers differ: {kind} {name} for {client}")


def _check_catalog(catalog: Catalog, rows: expected.Rows) -> None:
    for kind, name, client, resource in _asked(catalog):
        if not isinstance(resource, Resource):
            if kind == "cds" and not client.grpc and is_there(rows, name, client):
                raise Refused(f"no resource although the Service is there: {name} for {client}")
            continue
        message = check_resource(kind, name, resource.body.value, grpc=client.grpc)
        if kind == "eds":
            cds = catalog.resource("cds", name, client)
            assert isinstance(cds, Resource)
            cluster = check_resource("cds", name, cds.body.value)
            route = cluster.metadata.filter_metadata["facets"]["routing"]
            check_set(message, name, client, rows, route)
        elif not is_there(rows, name, client):
            raise Refused(f"a Service that is not the client's: {kind} {name} for {client}")


def is_there(rows: expected.Rows, name: str, client: Client) -> bool:
    """Whether the client has a Service with a port of this name."""
    tables = expected.rows_for(rows, name, client.place.cluster)
    return expected.has_port(tables, *_port_of(tables, name))


def check_set(message: Any, name: str, client: Client, rows: expected.Rows, route: str) -> None:
    """A set is of the rows' endpoints, empty only when known to be, and usable if they are; in each address it names
    the client's own cluster first."""
    tables = expected.rows_for(rows, name, client.place.cluster)
    port = _port_of(tables, name)
    owners = {
        address: entry.metadata.filter_metadata["facets"]["cluster"]
        for locality in message.endpoints
        for entry in locality.lb_endpoints
        for address in addresses_of(entry)
    }
    if not is_there(rows, name, client):
        raise Refused(f"a Service that is not the client's: eds {name} for {client}")
    is_own = port[0] == DOMAIN
    place = expected.Place(next(iter(tables)) if is_own else client.place.cluster, client.place.node)
    if route == "service":
        ips = [str(ip_address(ip)) for ip in tables[place.cluster]["frontend"]["clusterIPs"]] if is_own else []
        if set(owners.values()) != {place.cluster} or sorted(address for address, _ in owners) != sorted(ips):
            raise Refused(f"cluster IPs {owners} for a client of {place.cluster}")
        return
    possible = expected.candidates(tables, *port, place)
    if not owners and (possible or not expected.is_known(tables, *port)):
        raise Refused(f"an empty set that is not known to be empty: {name} for {client}")
    for address, cluster in owners.items():
        if address not in {each.address for each in possible}:
            raise Refused(f"{address} is not in the rows, or not for {client}")
        if cluster != expected.owner(address, possible, place):
            raise Refused(f"{address} is {cluster}'s for {client}")
    winners = [each for each in possible if each.cluster == expected.owner(each.address, possible, place)]
    healths = {entry.health_status for locality in message.endpoints for entry in locality.lb_endpoints}
    if winners and all(each.serves for each in winners) and 1 not in healths:
        raise Refused(f"no usable endpoint although all serve: {name} for {client}")


def _port_of(tables: expected.Tables, name: str) -> tuple[str, int, str]:
    """The DNS name, number and protocol that a resource name means: TCP's, unless there is UDP alone."""
    domain, _, rest = name.partition(":")
    number = int(rest.partition("/")[0])
    ports = [port for of_cluster in tables.values() for port in of_cluster["frontend"]["ports"]]
    protocols = {port["protocol"] for port in ports if port["port"] == number}
    is_udp = rest.endswith("/udp") or protocols == {"UDP"}
    if rest.endswith("/udp") and "TCP" not in protocols:
        number = 0  # Then its name is without it.
    return domain, number, "UDP" if is_udp else "TCP"
