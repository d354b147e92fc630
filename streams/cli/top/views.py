"""The views of `facets top` as text: columns, lines, and what stands above them."""

from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Literal, NamedTuple

from streams.cli.columns import address, age
from streams.cli.top.board import Board, Json, Key
from streams.history.queries import condition

Kind = Literal["services", "clusters", "routers", "service", "router"]

KINDS: tuple[Kind, ...] = ("services", "clusters", "routers")
"""Those that are asked for by their names; the others are of one line of them."""

_SHOWN_CHANGES = 5


class Place(NamedTuple):
    """A view, and what it is of: a Service as CLUSTER/NAMESPACE/NAME, a router's node; of `services`, the cluster ("":
    of all). `words` is the filter."""

    kind: Kind
    subject: str = ""
    words: str = ""


Cells = tuple[str, ...]


class View(NamedTuple):
    """What is shown: a text of some lines, then the lines under their columns: their keys, which identify them while
    they change, and what gives a line's cells. `command` gives the same in a shell."""

    text: str
    columns: Cells
    keys: list[str]
    cells: Callable[[str], Cells]
    command: str


def view(board: Board, place: Place, now: datetime) -> View:
    """A view of the board."""
    made = _VIEWS[place.kind](board, place.subject, now)
    if not place.words:
        return made
    wanted, unwanted = _words(place.words)

    def matches(key: str) -> bool:
        text = _service_text(board, key) if place.kind == "services" else " ".join(made.cells(key)).lower()
        return all(word in text for word in wanted) and not any(word in text for word in unwanted)

    return made._replace(keys=[key for key in made.keys if matches(key)])


def title(place: Place) -> str:
    """What a view is of."""
    if place.kind == "services" and place.subject:
        return f"Services of {place.subject}"
    if place.kind == "router":
        return f"Router {place.subject}"
    return place.subject or place.kind.capitalize()


def head(board: Board, connection: str) -> str:
    """The line that is above every view."""
    lag = max((each["lagSeconds"] for each in board.clusters if each["lagSeconds"] is not None), default=None)
    stale = sum(each["state"] != "ready" for each in board.clusters)
    behind = sum(bool(router["behind"]) for router in board.routers)
    parts = [
        f"{len(board.services)} Services",
        f"{board.changes_a_second:.1f} changes/s",
        f"{len(board.routers)} routers" + (f" ({behind} behind)" if behind else ""),
        f"{len(board.clusters)} clusters" + (f" ({stale} not ready)" if stale else ""),
        f"lag {_seconds(lag)}",
        connection,
    ]
    return "  ·  ".join(parts)


def child(board: Board, place: Place, key: str) -> Place | None:
    """What is behind a line of a view; None if nothing is."""
    if place.kind == "services" or (place.kind == "router" and key in map("/".join, board.services)):
        return Place("service", key)
    if place.kind == "clusters":
        return Place("services", key)
    if place.kind == "routers":
        return Place("router", key)
    return None


def _services(board: Board, cluster: str, now: datetime) -> View:
    columns = (
        "CLUSTER",
        "NAMESPACE",
        "NAME",
        "STATE",
        "READY",
        "CLUSTER-IP",
        "GATEWAY",
        "MESH",
        "CHANGES/S",
        "BEHIND",
        "AGE",
    )
    keys = sorted(key for key in board.services if not cluster or key.cluster == cluster)
    command = f"facets get backend -A{f' --cluster {cluster}' if cluster else ''}"
    return View("", columns, ["/".join(key) for key in keys], lambda key: _service_cells(board, key, now), command)


def _service_cells(board: Board, name: str, now: datetime) -> Cells:
    key = Key(*name.split("/"))
    rows = board.services[key]
    frontend, routing = rows.get("frontend"), rows.get("routing")
    endpoints = rows.get("backend", {}).get("endpoints", ())
    rate = board.rate(key)
    return (
        *key,
        board.state(key),
        f"{sum(endpoint['ready'] for endpoint in endpoints)}/{len(endpoints)}",
        _cluster_ip(frontend),
        routing["gateway"]["decision"] if routing else "",
        routing["mesh"]["decision"] if routing else "",
        f"{rate:.1f}" if rate else "",
        str(len(board.behind(key)) or ""),
        age(max(row["asOf"]["at"] for row in rows.values()), now),
    )


def _clusters(board: Board, _: str, now: datetime) -> View:
    columns = ("NAME", "STATE", "SERVICES", "ENDPOINTS", "LAG", "EPOCH", "SEQ", "STALE SINCE", "REASON")
    lines = [
        (
            each["name"],
            (
                each["name"], each["state"], str(each["services"]), str(each["endpoints"]),
                _seconds(each["lagSeconds"]), str(each["epoch"]), str(each["seq"]), each["staleSince"], each["reason"],
            ),
        )
        for each in board.clusters
    ]  # fmt: skip
    return _lines("", columns, lines, "facets clusters")


def _routers(board: Board, _: str, now: datetime) -> View:
    columns = ("NODE", "CLUSTER", "ZONE", "TRAFFIC", "BEHIND", "LAG", "NACKS", "AGENT", "PEER", "SINCE")
    lines = [
        (
            router["node"],
            (
                router["node"], router["cluster"], router["zone"], router["traffic"], str(router["behind"]),
                _milliseconds(_lag_of(board, router["node"])), str(router["nacks"]), router["agent"], router["peer"],
                age(router["since"], now),
            ),
        )
        for router in sorted(board.routers, key=lambda each: (each["node"], each["id"]))
    ]  # fmt: skip
    return _lines("", columns, lines, "facets status")


def _router(board: Board, node: str, now: datetime) -> View:
    """The Services that a router follows, those that it is behind with first."""
    columns = ("NAMESPACE", "NAME", "SENT", "ACKED", "BEHIND", "LAG")
    standings = [
        (standing, service)
        for service in board.propagated.values()
        for standing in service["clients"]
        if standing["node"] == node
    ]
    lines = [
        (
            f"{service['namespace']}/{service['name']}",
            (
                service["namespace"], service["name"], _version(standing["sent"]), _version(standing["acked"]),
                str(standing["behind"]), _milliseconds(standing["behindMilliseconds"]),
            ),
        )
        for standing, service in sorted(standings, key=lambda e: (-e[0]["behind"], e[1]["namespace"], e[1]["name"]))
    ]  # fmt: skip
    nacks = [router["lastNack"] for router in board.routers if router["node"] == node and router["lastNack"]]
    text = "\n".join(f"last refused: {nack}" for nack in nacks)
    return _lines(text, columns, lines, f"facets status --router {node}")


def _service(board: Board, subject: str, now: datetime) -> View:
    """One Service: both facets, its decision, who has it, and what was seen of it."""
    key = Key(*subject.split("/"))
    columns = ("ADDRESS", "STATE", "PORTS", "ZONE", "NODE", "TARGET", "SLICE")
    command = f"facets history {key.name} -n {key.namespace} --cluster {key.cluster}"
    if key not in board.services:
        return _lines("\n".join(["deleted", *_change_lines(board, key, now)]), columns, [], command)
    rows = board.services[key]
    lines = [
        (f"{address(endpoint)} {endpoint['slice']}", _endpoint_cells(endpoint))
        for endpoint in rows.get("backend", {}).get("endpoints", ())
    ]
    text = [*_frontend_lines(rows.get("frontend")), *_routing_lines(rows.get("routing"))]
    reasons = {row["reason"] for row in rows.values() if row["reason"]}
    text += [f"state     {board.state(key)}{' ' * bool(reasons)}{', '.join(sorted(reasons))}"]
    behind = board.behind(key)
    standings = board.propagated.get((key.namespace, key.name), {}).get("clients", ())
    late = ", ".join(f"{each['node']} {_milliseconds(each['behindMilliseconds'])}" for each in behind)
    text += [
        f"routers   {len(standings) - len(behind)} of {len(standings)} have it{f'; behind: {late}' if late else ''}"
    ]
    return _lines("\n".join([*text, *_change_lines(board, key, now)]), columns, lines, command)


def _endpoint_cells(endpoint: Json) -> Cells:
    target = endpoint["target"]
    return (
        address(endpoint),
        condition(endpoint),
        ",".join(f"{port['name'] or ''}:{port['port']}/{port['protocol']}".lstrip(":") for port in endpoint["ports"]),
        endpoint["zone"] or "",
        endpoint["node"] or "",
        f"{target['kind']}/{target['name']}" if target else "",
        endpoint["slice"],
    )


def _frontend_lines(frontend: Json | None) -> list[str]:
    if frontend is None:
        return ["frontend  none"]
    ports = ", ".join(f"{port['port']}/{port['protocol']}" for port in frontend["ports"]) or "no ports"
    return [f"frontend  {frontend['type']} {_cluster_ip(frontend)}  {ports}  {frontend['dnsName'] or ''}".rstrip()]


def _routing_lines(routing: Json | None) -> list[str]:
    if routing is None:
        return ["routing   none"]
    ways = "   ".join(f"{way} {routing[way]['decision']} ({routing[way]['reason']})" for way in ("gateway", "mesh"))
    return [f"routing   {ways}"]


def _change_lines(board: Board, key: Key, now: datetime) -> list[str]:
    changes = board.changes(key)[:_SHOWN_CHANGES]
    return [
        f"{'changes' if not i else '':9} {age(change.at, now):>4} ago  {change.what}  <- {change.cause}"
        for i, change in enumerate(changes)
    ]


_VIEWS: dict[Kind, Callable[[Board, str, datetime], View]] = {
    "services": _services,
    "clusters": _clusters,
    "routers": _routers,
    "service": _service,
    "router": _router,
}


def _service_text(board: Board, name: str) -> str:
    key = Key(*name.split("/"))
    return f"{board.state(key)} {board.text(key)}"


def _words(text: str) -> tuple[list[str], list[str]]:
    """The words that must be there, and those behind an exclamation mark, which must not, as k9s has it."""
    words = text.lower().split()
    return [word for word in words if word[0] != "!"], [word[1:] for word in words if word[0] == "!" and word[1:]]


def _lines(text: str, columns: Cells, lines: Iterable[tuple[str, Cells]], command: str) -> View:
    """A view of a few lines. Two routers may have one node id, two endpoints one address: each gets a key of its
    own."""
    seen: Counter[str] = Counter()
    cells: dict[str, Cells] = {}
    for key, line in lines:
        seen[key] += 1
        cells[key if seen[key] == 1 else f"{key} #{seen[key]}"] = line
    return View(text, columns, [*cells], cells.__getitem__, command)


def _lag_of(board: Board, node: str) -> int:
    return max(
        (
            standing["behindMilliseconds"]
            for service in board.propagated.values()
            for standing in service["clients"]
            if standing["node"] == node
        ),
        default=0,
    )


def _cluster_ip(frontend: Json | None) -> str:
    if frontend is None:
        return ""
    return ",".join(frontend["clusterIPs"]) or ("None" if frontend["headless"] else frontend["externalName"] or "")


def _version(version: int) -> str:
    return "" if version < 0 else str(version)


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}s"


def _milliseconds(milliseconds: int) -> str:
    return f"{milliseconds} ms" if milliseconds else ""
