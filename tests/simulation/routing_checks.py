"""Holds the routing table's rows against the oracle of `naive_routing`."""

from typing import Any

from tests.simulation import naive
from tests.simulation.naive_routing import Marks, Name, Routing, World, from_row, signature
from tests.simulation.world import NAMESPACE, ApiServer, Object, is_bad


class RoutingChecks:
    """Knows each cluster's objects as they were where they were last asked for."""

    def __init__(self, servers: dict[str, ApiServer]) -> None:
        self._servers = servers
        self._worlds: dict[str, tuple[tuple[int, ...], World]] = {}

    def world(self, cluster: str, at: naive.Revisions) -> World:
        """A cluster's objects at these revisions."""
        server = self._servers[cluster]
        wanted = signature(server, at)
        held, world = self._worlds.get(cluster, (None, None))
        if world is None or held != wanted:
            world = World(server, at)
            self._worlds[cluster] = wanted, world
        return world

    def compare(
        self, cluster: str, name: str, row: Any, objects: list[naive.Known], at: naive.Revisions, stale: str
    ) -> tuple[str, dict[tuple[str, str], tuple[Any, ...]]]:
        """What is wrong with a Service's row ("": nothing), and as what its Service may count."""
        world = self.world(cluster, at)
        service = objects[0] if objects else None
        problem, fitting = "", []
        for option in service.possible if service else (None,):
            marks = world.marks(name)
            if service is not None and is_bad(service.now):
                bad = {("Service", NAMESPACE, name)}
                marks = Marks(marks.due | bad, marks.allowed | bad)
            if not (problem := self.problem(world, name, row, option, marks, stale)):
                fitting.append(option)
        return "" if fitting else problem, {("Service", name): tuple(fitting)} if service else {}

    def problem(self, world: World, name: str, row: Any, option: Object | None, marks: Marks, stale: str) -> str:
        """What is wrong with the row, where the Service counts as this."""
        is_unread = option is None and ("Service", NAMESPACE, name) in marks.due
        if option is None and not is_unread and not world.is_named(name):
            # One that can't be read may have been told to the Service or not, and may have been read before.
            states = {"deleted", "unknown", (stale and "stale") or "empty"} if marks.allowed else {"deleted"}
            return "" if row is None or row["state"] in states else f"the state is {row['state']}, it should be deleted"
        if row is None:
            return "there is no row"
        marked = {(each["kind"], each.get("namespace") or NAMESPACE, each["name"]) for each in row.get("rejected", ())}
        good = {(each["kind"], each["namespace"], each["name"]) for each in (*row["routes"], *row["policies"])}
        good |= set() if option is None else {("Service", NAMESPACE, name)}
        state = "unknown" if marked - good else "stale" if stale else "ready" if option is not None else "empty"
        if row["state"] != state:
            return f"the state is {row['state']}, it should be {state}"
        if is_unread and {row[each]["reason"] for each in ("gateway", "mesh")} != {"ServiceUnreadable"}:
            return f"a Service that could never be read counts as {row['gateway']['reason']}"
        if not marks.due <= marked <= marks.allowed:
            return f"marked are {_listed(marked)}, it should be {_listed(marks.due)}"
        uid = option and option["metadata"]["uid"]
        if (row["service"] and row["service"]["uid"]) != uid:
            return f"the Service is {row['service']}, it should be {uid}"
        wanted = world.expected(name, option)
        return difference(from_row(row), wanted) if wanted is not None else ""

    def decision(self, world: World, name: str, row: Any) -> str:
        """What is wrong with where the row sends requests ("": nothing, or it can't be told)."""
        service = world.service(name)
        if service is not None and is_bad(service):
            return ""
        wanted = world.expected(name, service)
        is_there = row is not None and row["state"] != "deleted"
        if wanted is None or (not is_there and service is None and not world.is_named(name)):
            return ""
        return difference(from_row(row), wanted) if is_there else "there is no row"


def difference(routing: Routing, wanted: Routing) -> str:
    """How a row's routing is another than it must be."""
    for field, has, should in zip(Routing._fields, routing, wanted, strict=True):
        if has != should:
            return f"{field} is {has}, it should be {should}"
    return ""


def _listed(names: set[Name]) -> list[Name]:
    return sorted(names)
