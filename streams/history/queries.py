"""Queries of the past: how far to fold a journal, which Services have an address, and how two rows differ."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from operator import attrgetter
from typing import Any, NamedTuple

import msgspec

from streams.subscription.rows import Row
from streams.wire.records import CLUSTERSET, FOLDED_TABLES
from streams.wire.row_codec import STAMPS, is_deleted


class _Stamp(msgspec.Struct):
    cluster: str = ""
    seq: int = 0
    at: str = ""


_decode_stamp = msgspec.json.Decoder(_Stamp).decode


def time_of(value: bytes | None) -> str:
    """The time of a journal record's commit; "" if it can't be read."""
    try:
        return _decode_stamp(value or b"").at
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""


class Until(NamedTuple):
    """How far to fold, in each partition: up to a time, by cluster up to a seq, up to an offset (all inclusive). Time
    and seq end a partition at the first commit beyond them, so that what is folded is always a prefix."""

    at: str = ""
    seqs: Mapping[str, int] = {}
    offsets: Mapping[int, int] = {}

    def beyond(self, partition: int, offset: int, value: bytes | None) -> bool:
        """Whether a journal record is beyond the point, and ends the fold."""
        if offset > self.offsets.get(partition, offset):
            return True
        if not self.at and not self.seqs:
            return False
        try:
            stamp = _decode_stamp(value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        return bool(self.at and stamp.at > self.at) or stamp.seq > self.seqs.get(stamp.cluster, stamp.seq)


class Holder(NamedTuple):
    """A Service that has an address: as its `cluster IP`, as an `endpoint` (with its state, port and target), or as an
    endpoint of its set in the `clusterset`, which it is by the `cluster`."""

    cluster: str
    namespace: str
    name: str
    held_as: str
    ports: str
    state: str
    target: str
    version: int


def holders(address: str, rows: Iterable[Row], ports: Collection[int] = ()) -> Iterator[Holder]:
    """The Services among the rows that have an address; with ports, only those that have one of them there. Raises
    ValueError if it is not an IP address."""
    ip = ip_address(address)
    ip_text = str(ip).encode()
    for row in rows:
        # An IPv4 address has one form, so a search of the bytes rules rows out; an IPv6 address has many.
        if row.table not in {"frontend", "backend", CLUSTERSET} or (ip.version == 4 and ip_text not in row.value):
            continue
        if is_deleted(row.value):
            continue
        content = row.decode()
        if row.table == "frontend":
            if any(is_address(ip, cluster_ip) for cluster_ip in content["clusterIPs"]) and has_port(
                _numbers(content["ports"]), ports
            ):
                port_list = ",".join(f"{port['port']}/{port['protocol']}" for port in content["ports"])
                yield Holder(
                    row.cluster, row.namespace, row.name, "cluster IP", port_list, content["state"], "", row.version
                )
            continue
        held_as = CLUSTERSET if row.table == CLUSTERSET else "endpoint"
        # A set is as its best cluster is; an endpoint is as its own.
        states = {export["cluster"]: export["state"] for export in content.get("exports", ())}
        for endpoint in content["endpoints"]:
            if is_address(ip, endpoint["address"]) and has_port(_numbers(endpoint["ports"]), ports):
                cluster, target = endpoint.get("cluster", row.cluster), endpoint["target"]
                is_stale = states.get(cluster, content["state"]) == "stale"
                yield Holder(
                    cluster, row.namespace, row.name, held_as,
                    ",".join(f"{port['port']}/{port['protocol']}" for port in endpoint["ports"]),
                    f"{condition(endpoint)} (stale)" if is_stale else condition(endpoint),
                    f"{target['kind']}/{target['name']}" if target else "", row.version,
                )  # fmt: skip


def condition(endpoint: Mapping[str, Any]) -> str:
    """An endpoint's conditions as one word: ready, draining (serving but terminating), serving, terminating or down."""
    if endpoint["ready"]:
        return "ready"
    if endpoint["serving"]:
        return "draining" if endpoint["terminating"] else "serving"
    return "terminating" if endpoint["terminating"] else "down"


Endpoint = Mapping[str, Any]


EXPORT = "export"
"""What differs of a set where a cluster's export does."""


class Difference(NamedTuple):
    """One difference between two rows of a Service: added (`+`), removed (`-`) or changed (`~`); `what` is an endpoint,
    a field, or an `export` of the clusterset."""

    sign: str
    what: str
    before: Any
    after: Any


def differences(table: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> list[Difference]:
    """The differences between two decoded rows (of the clusterset: joined ones); None stands for no row, or a deleted
    one."""
    if old is None or new is None:
        return [] if old is new else [Difference("-" if new is None else "+", table, old, new)]
    changes = [
        Difference("~", name, old.get(name), new.get(name))
        for name in sorted({*old, *new} - STAMPS - {"endpoints", "exports"})
        if old.get(name) != new.get(name)
    ]
    if table == CLUSTERSET:
        changes += _export_differences(old["exports"], new["exports"])
    if table in {"backend", CLUSTERSET}:
        changes += _endpoint_differences(old["endpoints"], new["endpoints"])
    return changes


def clusters_of(row: Row) -> list[str]:
    """The clusters that a row is of: a set is of all that export it."""
    return [row.cluster] if row.cluster or not row.value else [each["cluster"] for each in row.decode()["exports"]]


def place(row: Row) -> tuple[int, str, str, str]:
    """Sort key of rows as they are shown: by table, then Service, then cluster."""
    return FOLDED_TABLES.index(row.table), row.namespace, row.name, row.cluster


def _export_differences(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> list[Difference]:
    before, after = (
        {export["cluster"]: {name: export[name] for name in export if name != "asOf"} for export in exports}
        for exports in (old, new)
    )
    return [
        Difference("+" if cluster not in before else "-" if cluster not in after else "~", EXPORT, *pair)
        for cluster in sorted({*before, *after})
        if (pair := (before.get(cluster), after.get(cluster)))[0] != pair[1]
    ]


def _endpoint_differences(old: Iterable[Endpoint], new: Iterable[Endpoint]) -> list[Difference]:
    """Endpoints compared port by port, as a row's `change` is; the ports of one endpoint that differ alike are shown
    together."""
    before, after = _by_port(old), _by_port(new)
    alike: dict[tuple[str, str, str], list[tuple[Endpoint | None, Endpoint | None]]] = {}
    for key in sorted({*before, *after}):
        old_endpoint, new_endpoint = before.get(key), after.get(key)
        if old_endpoint != new_endpoint:
            sign = "+" if old_endpoint is None else "-" if new_endpoint is None else "~"
            rest = str([endpoint and {**endpoint, "ports": None} for endpoint in (old_endpoint, new_endpoint)])
            alike.setdefault((key[0], sign, rest), []).append((old_endpoint, new_endpoint))
    changes = []
    for (host, sign, _), pairs in alike.items():
        old_endpoint, new_endpoint = _with_ports(pair[0] for pair in pairs), _with_ports(pair[1] for pair in pairs)
        numbers = sorted(str(port["port"]) for port in (new_endpoint or old_endpoint or {})["ports"])
        changes.append(Difference(sign, f"{host}:{','.join(numbers)}", old_endpoint, new_endpoint))
    return sorted(changes, key=attrgetter("what", "sign"))


def _by_port(endpoints: Iterable[Endpoint]) -> dict[tuple[str, str], Endpoint]:
    by_port: dict[tuple[str, str], Endpoint] = {}
    for endpoint in endpoints:
        host = f"[{endpoint['address']}]" if endpoint["family"] == "IPv6" else endpoint["address"]
        for port in endpoint["ports"] or [None]:
            name = str([endpoint["family"], *([port["name"], port["protocol"], port["port"]] if port else ())])
            by_port[host, name] = {**endpoint, "ports": [port] if port else []}
    return by_port


def _with_ports(endpoints: Iterable[Endpoint | None]) -> Endpoint | None:
    """One endpoint with the ports of these, which differ in nothing else; None for none."""
    present = [endpoint for endpoint in endpoints if endpoint is not None]
    return {**present[0], "ports": [port for endpoint in present for port in endpoint["ports"]]} if present else None


def has_port(ports: Iterable[int | None], wanted: Collection[int]) -> bool:
    """Whether one of the port numbers is wanted (none: any is); a null port is unrestricted."""
    return not wanted or any(port is None or port in wanted for port in ports)


def is_address(ip: IPv4Address | IPv6Address, text: str) -> bool:
    """Whether a text is this address, in whatever form."""
    if (":" in text) != (ip.version == 6):
        return False
    try:
        return bool(ip_address(text) == ip)
    except ValueError:  # An FQDN endpoint.
        return False


def _numbers(ports: Iterable[Mapping[str, Any]]) -> Iterator[int | None]:
    return (port["port"] for port in ports)
