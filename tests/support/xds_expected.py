"""What an endpoint set must be by the rows alone, in the plainest way: rows are read as any Kafka client reads them.

A Service's own name is for a client that of its own cluster, and nobody else's; a name of the clusterset is that of the
clusters that export (KEP-1645), under the set's ports and with its properties.
"""

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple

Row = dict[str, Any]
Tables = Mapping[str, Mapping[str, Row]]
"""A Service's rows: by cluster, then by table. The first cluster wins an address that several have."""


class Place(NamedTuple):
    """Where a client is, as it says."""

    cluster: str = ""
    node: str = ""


class Candidate(NamedTuple):
    """An endpoint of a row that has the port."""

    cluster: str
    address: tuple[str, int]
    node: str
    serves: bool


class Rows(NamedTuple):
    """A Service's own rows in each cluster; the clusterset's, of the set and of each cluster."""

    own: dict[str, dict[str, Row]]
    of_set: Row | None
    contributions: dict[str, Row]


def rows_for(rows: Rows, name: str, cluster: str) -> Tables:
    """The rows that a name means for a client of a cluster ("": it names none, and gets the Service of the first that
    has it)."""
    if not name.partition(":")[0].endswith(".clusterset.local"):
        home = cluster or min(rows.own, default="")
        return {home: rows.own[home]} if home in rows.own else {}
    if rows.of_set is None:
        return {}
    exports = [export for export in rows.of_set["exports"] if export["counted"]]
    host = _host_in(name)
    if host is not None:
        return _rows_of_host(rows, *host, exports)
    tables: dict[str, dict[str, Row]] = {}
    for export in sorted(exports, key=lambda export: (export["created"], export["id"])):
        ports = [port for port in rows.of_set["ports"] if export["id"] in port["clusters"]]
        frontend = {
            "dnsName": rows.of_set["dnsName"],
            "internalTrafficPolicy": rows.of_set["internalTrafficPolicy"],
            "ports": [{**port, "name": port["clusters"][export["id"]]} for port in ports],
        }
        tables[export["cluster"]] = {"frontend": frontend, "backend": rows.contributions[export["cluster"]]}
    return tables


def _host_in(name: str) -> tuple[str, str, str] | None:
    """The host and the cluster's id in a name, and the name itself without the port (KEP-1645, specification, 2.4.1);
    None where it is the set's."""
    domain = name.partition(":")[0]
    hostname, *middle = domain.removesuffix(".svc.clusterset.local").split(".")
    return (hostname, ".".join(middle[:-2]), domain) if len(middle) > 2 else None


def _rows_of_host(rows: Rows, hostname: str, cluster_id: str, domain: str, exports: list[Row]) -> Tables:
    """The one cluster's rows, with the host's endpoints and with the ports that these have."""
    assert rows.of_set is not None
    if rows.of_set["type"] != "Headless":
        return {}
    tables: dict[str, dict[str, Row]] = {}
    for export in exports:
        backend = rows.contributions[export["cluster"]]
        endpoints = [each for each in backend["endpoints"] if each.get("hostname") == hostname]
        if export["id"] != cluster_id or _is_lost(backend):
            continue
        own = {(port["name"], port["protocol"]) for each in endpoints for port in each["ports"] if port["port"]}
        ports = [
            {**port, "name": port["clusters"][cluster_id]}
            for port in rows.of_set["ports"]
            if (port["clusters"].get(cluster_id), port["protocol"]) in own
        ]
        if ports:
            frontend = {
                "dnsName": domain, "internalTrafficPolicy": rows.of_set["internalTrafficPolicy"], "ports": ports,
            }  # fmt: skip
            tables[export["cluster"]] = {"frontend": frontend, "backend": {**backend, "endpoints": endpoints}}
    return tables


def has_port(rows: Tables, dns_name: str, number: int, protocol: str) -> bool:
    """Whether some cluster has the port."""
    return any(_port(tables.get("frontend"), dns_name, number, protocol) is not None for tables in rows.values())


def candidates(rows: Tables, dns_name: str, number: int, protocol: str, place: Place) -> list[Candidate]:
    """The endpoints that may be in the set of a port: those of these clusters, where internalTrafficPolicy is Local
    those of the client's node (v1 ServiceSpec.internalTrafficPolicy)."""
    possible: list[Candidate] = []
    local: set[str] = set()
    for cluster, tables in rows.items():
        frontend, backend = tables.get("frontend"), tables.get("backend")
        port = _port(frontend, dns_name, number, protocol)
        if frontend is None or backend is None or port is None or _is_lost(backend):
            continue
        if frontend["internalTrafficPolicy"] == "Local":
            local.add(cluster)
        for endpoint in backend["endpoints"]:
            for own in endpoint["ports"]:
                if (own["name"], own["protocol"]) == (port["name"], protocol) and own["port"]:
                    address = (str(ip_address(endpoint["address"])), own["port"])
                    serves = endpoint["serving"] or endpoint["ready"]
                    possible.append(Candidate(cluster, address, endpoint["node"] or "", serves))
    if not place.node:
        return possible
    # Which of several nodes of that name is the client's is not known without its cluster: one, at most.
    home = place.cluster or min((each.cluster for each in possible if each.node == place.node), default="")
    return [each for each in possible if each.cluster not in local or (each.cluster, each.node) == (home, place.node)]


def owner(address: tuple[str, int], possible: Iterable[Candidate], place: Place) -> str:
    """Whose endpoint an address is for the client: its own cluster's, else that of the first."""
    clusters = [each.cluster for each in possible if each.address == address]
    return place.cluster if place.cluster in clusters else clusters[0]


def is_known(rows: Tables, dns_name: str, number: int, protocol: str) -> bool:
    """Whether the endpoints of every cluster that has the port are known."""
    return all(
        "backend" in tables and tables["backend"]["state"] != "unknown"
        for tables in rows.values()
        if _port(tables.get("frontend"), dns_name, number, protocol) is not None
    )


def _is_lost(backend: Row) -> bool:
    """Whether nothing is known of a set; one with an object that can't be read is known but for that."""
    return backend["state"] == "unknown" and backend["reason"] != "ObjectRejected"


def _port(frontend: Row | None, dns_name: str, number: int, protocol: str) -> Row | None:
    if frontend is None or frontend["dnsName"] != dns_name:
        return None
    ports: list[Row] = frontend["ports"]
    return next((port for port in ports if (port["port"], port["protocol"]) == (number, protocol)), None)
