"""The columns of each table as `get` and `replay` print them; the last one is a list, cut to the available width."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from streams.wire.records import CLUSTERSET
from streams.wire.timestamps import read

Row = dict[str, Any]

_GAP = "  "


class Line(NamedTuple):
    """A row's cells, and the items of its last column."""

    cells: list[str]
    items: list[str]


class Layout(NamedTuple):
    """The headings of the cells and of the list; `line` formats a row, as of a time."""

    head: list[str]
    last: str
    line: Callable[[Row, datetime], Line]


def layout(table: str, *, wide: bool, namespaced: bool) -> Layout:
    """The columns of a table: the narrow ones fit into 80 characters unless names are long. `namespaced` adds a
    NAMESPACE column; the clusterset's rows are of no cluster."""
    head, last, line = (_WIDE if wide else _NARROW)[table]
    fields = [*(() if table == CLUSTERSET else ("cluster",)), *(("namespace",) if namespaced else ()), "name"]
    place = [field.upper() for field in fields]

    def format_line(row: Row, now: datetime) -> Line:
        cells, items = line(row, now)
        return Line([*(row[field] for field in fields), *cells], items)

    return Layout([*place, *head], last, format_line)


def grid(lines: Sequence[Sequence[str]], widths: Sequence[int] = ()) -> list[str]:
    """Lines of cells in columns, each at least as wide as `widths` says; the last one is not padded."""
    columns = len(lines[0]) if lines else 0
    least = [*widths, *[0] * columns]
    widest = [max(least[i], *(len(line[i]) for line in lines)) for i in range(columns)]
    return [_GAP.join(cell.ljust(width) for cell, width in zip(line, widest, strict=True)).rstrip() for line in lines]


def fit(items: Sequence[str], room: int) -> str:
    """As many of the items as fit into `room`, and the number of the rest (as kubectl has it). A single item is never
    cut; of several at least the number is shown."""
    if not items:
        return "<none>"
    count = len(items)
    forms = [",".join(items)]
    forms += [f"{','.join(items[:shown])} +{count - shown} more" for shown in range(count - 1, 0, -1)]
    forms += [f"{items[0]} +{count - 1}", f"+{count} more"] if count > 1 else []
    return next((form for form in forms if len(form) <= room), forms[-1])


def age(at: str, now: datetime) -> str:
    """How long ago a time was, as kubectl prints it (k8s.io/apimachinery HumanDuration): in two units while the second
    one matters, otherwise in one."""
    seconds = max(0, int((now - read(at)).total_seconds()))
    minutes, hours, days = seconds // 60, seconds // 3600, seconds // 86400
    if seconds < 120:
        return f"{seconds}s"
    if minutes < 10:
        return _two(minutes, "m", seconds % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if days < 2 * 365:
        return f"{days}d"
    return _two(days // 365, "y", days % 365, "d") if days < 8 * 365 else f"{days // 365}y"


def address(endpoint: Mapping[str, Any]) -> str:
    """An endpoint's address and first port, in the form that `facets who` takes."""
    host = f"[{endpoint['address']}]" if endpoint["family"] == "IPv6" else endpoint["address"]
    return f"{host}:{endpoint['ports'][0]['port']}" if endpoint["ports"] else str(endpoint["address"])


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    return f"{first}{unit}{second}{smaller}" if second else f"{first}{unit}"


def _frontend(row: Row, now: datetime) -> Line:
    cluster_ip = next(iter(row["clusterIPs"]), "None" if row["headless"] else row["externalName"] or "<none>")
    unserved = {(port["port"], port["protocol"]) for port in row.get("unserved", ())}
    ports = [
        f"{port['port']}/{port['protocol']}{'(unserved)' if (port['port'], port['protocol']) in unserved else ''}"
        for port in row["ports"]
    ]
    return Line([row["type"], cluster_ip, row["state"], age(row["asOf"]["at"], now)], ports)


def _frontend_wide(row: Row, now: datetime) -> Line:
    cells, ports = _frontend(row, now)
    cells[1] = ",".join(row["clusterIPs"]) or cells[1]
    selector = [f"{key}={value}" for key, value in sorted((row["selector"] or {}).items())]
    return Line([*cells, str(row["version"]), ",".join(ports) or "<none>", row["dnsName"] or "<none>"], selector)


def _backend(row: Row, now: datetime) -> Line:
    endpoints = row["endpoints"]
    ready = sum(1 for endpoint in endpoints if endpoint["ready"])
    cells = [f"{ready}/{len(endpoints)}", row["state"], age(row["asOf"]["at"], now)]
    return Line(cells, [address(endpoint) for endpoint in endpoints])


def _backend_wide(row: Row, now: datetime) -> Line:
    cells, addresses = _backend(row, now)
    zones = sorted({endpoint["zone"] for endpoint in row["endpoints"] if endpoint["zone"]})
    return Line([*cells, str(row["version"]), row["reason"] or "<none>", ",".join(zones) or "<none>"], addresses)


def _routing(row: Row, _: datetime) -> Line:
    gateway, mesh = row["gateway"], row["mesh"]
    reasons = list(dict.fromkeys([gateway["reason"], mesh["reason"]]))
    return Line([gateway["decision"], mesh["decision"], row["state"]], reasons)


def _routing_wide(row: Row, now: datetime) -> Line:
    gateway, mesh = row["gateway"], row["mesh"]
    persistences = [way["sessionPersistence"]["type"] for way in (gateway, mesh) if way["sessionPersistence"]]
    affine = row["service"] is not None and row["service"]["sessionAffinity"] == "ClientIP"
    sticky = ",".join(dict.fromkeys([*persistences, *(["ClientIP"] * affine)])) or "<none>"
    because = dict.fromkeys(f"{cause['kind']}/{cause['name']}" for way in (gateway, mesh) for cause in way["because"])
    consumers = [f"{name}={way['decision']}({way['reason']})" for name, way in sorted(_consumers(row).items())]
    unused = dict.fromkeys([*_unattached(row), *_unused_rules(row), *_refused_policies(row)])
    lists = [",".join(texts) or "<none>" for texts in (consumers, unused, _of_import(row))]
    cells = [gateway["decision"], gateway["reason"], mesh["decision"], mesh["reason"], row["state"]]
    row_age = age(row["asOf"]["at"], now)
    return Line([*cells, row_age, str(row["version"]), sticky, str(len(row["routes"])), *lists], list(because))


def _consumers(row: Row) -> dict[str, Row]:
    """The decisions for namespaces with mesh routes of their own; rows of older fold versions have none."""
    consumers: dict[str, Row] = row["mesh"].get("consumers", {})
    return consumers


def _of_import(row: Row) -> list[str]:
    """Where a route names the ServiceImport of this name: the session persistence that is asked for there, for whom."""
    if "clusterset" not in row:
        return []
    imported = row["clusterset"]
    ways = [("gateway", imported["gateway"]), ("mesh", imported["mesh"])]
    ways += [(f"mesh/{namespace}", way) for namespace, way in sorted(_consumers(imported).items())]
    return [f"{name}={(way['sessionPersistence'] or {'type': 'None'})['type']}" for name, way in ways]


def _unattached(row: Row) -> list[str]:
    """Routes that are not attached to one of their parents, with the reason."""
    return [
        f"{route['kind']}/{route['name']}:{parent['reason']}"
        for route in row["routes"]
        for parent in route["parents"]
        if not parent["attached"]
    ]


def _unused_rules(row: Row) -> list[str]:
    """Rules of attached routes that no decision uses, with the reason."""
    return [
        f"{rule['route']['kind']}/{rule['route']['name']}[{rule['rule']}]:{rule['reason']}"
        for part in (row, *([row["clusterset"]] if "clusterset" in row else []))
        for way in (part["gateway"], part["mesh"], *_consumers(part).values())
        for rule in way["rules"]
        if rule["decision"] == "none" and rule["reason"] != "ServiceNotFound"
    ]


def _refused_policies(row: Row) -> list[str]:
    refused = [("BackendTLSPolicy", entry) for entry in row.get("backendTLS", ()) if not entry["accepted"]]
    refused += [(held["kind"], held) for held in row["policies"] if held.get("reason")]
    return [f"{kind}/{entry['name']}:{entry['reason']}" for kind, entry in refused]


def _clusterset(row: Row, now: datetime) -> Line:
    endpoints, exports = row["endpoints"], row["exports"]
    ready = sum(1 for endpoint in endpoints if endpoint["ready"])
    counted = [export["id"] for export in exports if export["counted"]]
    newest = max((export["asOf"]["at"] for export in exports if "asOf" in export), default=row["asOf"]["at"])
    cells = [row["type"] or "<none>", f"{len(counted)}/{len(exports)}", f"{ready}/{len(endpoints)}", row["state"]]
    return Line([*cells, age(newest, now)], counted)


def _clusterset_wide(row: Row, now: datetime) -> Line:
    cells, counted = _clusterset(row, now)
    ports = ",".join(f"{port['port']}/{port['protocol']}" for port in row["ports"]) or "<none>"
    problems = [conflict["reason"] for conflict in row["conflicts"]]
    problems += [f"{export['id']}:{export['valid']}" for export in row["exports"] if export["valid"] != "Valid"]
    problems += [
        f"{export['id']}:{export['unavailable']['action']}" for export in row["exports"] if "unavailable" in export
    ]
    prefer = ",".join(row.get("locality", {}).get("prefer", ())) or "<none>"
    more = [str(row["version"]), row["reason"] or "<none>", ports, row["dnsName"], prefer]
    more.append(",".join(problems) or "<none>")
    return Line([*cells, *more], counted)


_Columns = dict[str, tuple[list[str], str, Callable[[Row, datetime], Line]]]

_NARROW: _Columns = {
    "frontend": (["TYPE", "CLUSTER-IP", "STATE", "AGE"], "PORTS", _frontend),
    "backend": (["READY", "STATE", "AGE"], "ENDPOINTS", _backend),
    "routing": (["GATEWAY", "MESH", "STATE"], "REASON", _routing),
    CLUSTERSET: (["TYPE", "COUNTED", "READY", "STATE", "AGE"], "CLUSTERS", _clusterset),
}
_WIDE: _Columns = {
    "frontend": (
        ["TYPE", "CLUSTER-IP", "STATE", "AGE", "VERSION", "PORTS", "DNS-NAME"], "SELECTOR", _frontend_wide
    ),
    "backend": (["READY", "STATE", "AGE", "VERSION", "REASON", "ZONES"], "ENDPOINTS", _backend_wide),
    "routing": (
        [
            "GATEWAY", "REASON", "MESH", "REASON", "STATE", "AGE", "VERSION", "STICKY", "ROUTES", "CONSUMERS",
            "NOT-IN-USE", "SERVICE-IMPORT",
        ], "BECAUSE", _routing_wide,
    ),
    CLUSTERSET: (
        ["TYPE", "COUNTED", "READY", "STATE", "AGE", "VERSION", "REASON", "PORTS", "DNS-NAME", "PREFER", "PROBLEMS"],
        "CLUSTERS", _clusterset_wide,
    ),
}  # fmt: skip
