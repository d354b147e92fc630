"""Services in several clusters, as they change, and what must hold of the resources that clients get of them.

Each check is called for by the README or by a client (`support/xds_checks`), and recomputes what it needs from the
rows (`support/xds_expected`).
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple, get_args

from hypothesis import strategies as st

from streams.serve.xds.build.catalog import Catalog
from streams.serve.xds.build.client import Client, Place
from streams.serve.xds.build.names import Kind
from streams.serve.xds.build.resource import Absence, Resource
from streams.subscription.delivery import Row
from streams.wire.records import decode_row
from tests.support import xds_expected as expected
from tests.support.routes import annotated
from tests.support.xds_checks import Refused, addresses_of, check_resource
from tests.support.xds_follower import Follower
from tests.unit.xds.world import World, endpoint, service, slice_of

DOMAIN = "cart.shop.svc.cluster.local"
NAMES = [f"{DOMAIN}:80", f"{DOMAIN}:53", f"{DOMAIN}:53/udp"]
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
            {}, {"zone": "z1", "nodeName": "n1"}, {"zone": "z2", "nodeName": "n1"}, {"zone": "z1", "nodeName": "n2"},
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


_steps = st.builds(Step, _clusters, st.one_of(_services(), _slices(), _slices()), st.sampled_from([False] * 4 + [True]))


@st.composite
def journals(draw: st.DrawFn) -> list[Step]:
    """Changes in two clusters. Most begin with a Service and a slice in each."""
    start = [Step(cluster, item) for cluster in ("east", "west") for item in (draw(_services()), draw(_slices()))]
    return (start if draw(st.sampled_from([True] * 5 + [False])) else []) + draw(st.lists(_steps, max_size=8))


def applied(world: World, step: Step) -> set[str]:
    """The names that a step changes."""
    change = world.drop if step.is_delete else world.put
    return change(step.item, cluster=step.cluster)


def check_followers(steps: list[Step]) -> None:
    """Clients of every kind take what they get, at each step. Raises Refused."""
    world = World("east", "west")
    kinds = product((False, True), (False, True))
    followers = [Follower(world.catalog, NAMES, Client(grpc=grpc), delta=delta) for grpc, delta in kinds]
    for step in steps:
        changed = applied(world, step)
        for follower in followers:
            follower.follow(changed)


def check_resources(steps: list[Step]) -> None:
    """What the catalog gives to clients anywhere, at the end. Raises Refused."""
    world = World("east", "west")
    for i, step in enumerate(steps):
        if i == len(steps) // 2:
            # What was built before a change must not be there after it.
            list(_asked(world.catalog))
        applied(world, step)
    rows = _rows(world)
    _check_catalog(world.catalog, rows)
    _check_equal(world.catalog, _from_snapshot(world, rows))


def check_unknown(steps: list[Step]) -> None:
    """The same, where the endpoints of one cluster, or of the other, are not known. Raises Refused."""
    world = World("east", "west")
    for step in steps:
        applied(world, step)
    for cluster in ("east", "west"):
        rows = _rows(world)
        if "backend" in rows.get(cluster, {}):
            rows[cluster]["backend"] = {**rows[cluster]["backend"], "state": "unknown"}
            _check_catalog(_from_snapshot(world, rows), rows)


def _rows(world: World) -> dict[str, dict[str, expected.Row]]:
    rows: dict[str, dict[str, expected.Row]] = {}
    for (table, key, _), value in world.rows.items():
        row = decode_row(table, value)
        if row["state"] != "deleted":
            rows.setdefault(key.split("/")[0], {})[table] = row
    return {cluster: tables for cluster, tables in rows.items() if "frontend" in tables}


def _from_snapshot(world: World, rows: expected.Tables) -> Catalog:
    """Another server's catalog: it reads the newest rows only, in another order."""
    catalog = Catalog(1)
    snapshot = []
    for (table, key, _), value in reversed(world.rows.items()):
        cluster, namespace, name = key.split("/")
        row = rows.get(cluster, {}).get(table)
        if row is not None:
            state = decode_row(table, value)["state"]
            written = value.replace(f'"state":"{state}"'.encode(), f'"state":"{row["state"]}"'.encode(), 1)
            snapshot.append(Row(table, cluster, namespace, name, row["version"], written))
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


def _check_catalog(catalog: Catalog, rows: expected.Tables) -> None:
    for kind, name, client, resource in _asked(catalog):
        if not isinstance(resource, Resource):
            continue
        message = check_resource(kind, name, resource.body.value, grpc=client.grpc)
        if kind == "eds":
            cds = catalog.resource("cds", name, client)
            assert isinstance(cds, Resource)
            cluster = check_resource("cds", name, cds.body.value)
            route = cluster.metadata.filter_metadata["facets"]["routing"]
            check_set(message, name, client, rows, route)


def check_set(message: Any, name: str, client: Client, rows: expected.Tables, route: str) -> None:
    """A set is of the rows' endpoints, empty only when known to be, and usable if they are; in each address it names
    the client's own cluster first."""
    number, transport = (53, "UDP") if name.endswith("/udp") or _is_udp_only(rows, name) else (int(name[-2:]), "TCP")
    owners = {
        address: entry.metadata.filter_metadata["facets"]["cluster"]
        for locality in message.endpoints
        for entry in locality.lb_endpoints
        for address in addresses_of(entry)
    }
    place = expected.Place(client.place.cluster, client.place.node)
    if route == "service":
        if not owners or not (set(owners.values()) == {place.cluster} or not place.cluster):
            raise Refused(f"cluster IPs of {set(owners.values())} for a client of {place.cluster}")
        return
    possible = expected.candidates(rows, DOMAIN, number, transport, place)
    if not owners and (possible or not expected.is_known(rows, DOMAIN, number, transport)):
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


def _is_udp_only(rows: expected.Tables, name: str) -> bool:
    ports = [port for tables in rows.values() for port in tables["frontend"]["ports"]]
    return name.endswith(":53") and not any((port["port"], port["protocol"]) == (53, "TCP") for port in ports)
