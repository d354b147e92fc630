"""Gateway API objects in, routing rows out: what tests of routes share.

The objects go through the real normalizing, collector and fold (`AuditFold`).
"""

from typing import Any

from streams.fold.offline import AuditFold
from streams.wire.records import decode_row
from tests.support.routes import Object, by_cookie, route

OLD, NEW = "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"
DEFAULT = ("endpoint", "Default")
STICKY = ("endpoint", "SessionPersistence")


def asking(name: str, parents: list[Object], *, created: str = NEW, kind: str = "HTTPRoute", **more: Any) -> Object:
    """A route that asks for session persistence of shop/cart, for all requests."""
    at = more.pop("namespace", "shop")
    matches = more.pop("matches", None)
    backend = {"name": "cart", "namespace": "shop", "port": 80}
    asked = {
        "backendRefs": [backend],
        "sessionPersistence": by_cookie(name),
        **({"matches": matches} if matches else {}),
    }
    item = route(name, parents, [asked], kind, namespace=at, creationTimestamp=created)
    return {**item, "spec": {**item["spec"], **more}}


def plain(name: str, parents: list[Object], *, created: str = OLD, kind: str = "HTTPRoute", **more: Any) -> Object:
    """The same without session persistence."""
    asked = asking(name, parents, created=created, kind=kind, **more)
    rules = [
        {key: value for key, value in item.items() if key != "sessionPersistence"} for item in asked["spec"]["rules"]
    ]
    return {**asked, "spec": {**asked["spec"], "rules": rules}}


def parents_of(row: Any, name: str = "r") -> list[tuple[bool, str]]:
    """Whether, and why not, a route is attached to each of its parents."""
    (held,) = (held for held in row["routes"] if held["name"] == name)
    return [(parent["attached"], parent["reason"]) for parent in held["parents"]]


def choice(direction: Any) -> tuple[str, str]:
    return direction["decision"], direction["reason"]


def reasons(direction: Any) -> list[tuple[str, str]]:
    return [(item["route"]["name"], item["reason"]) for item in direction["rules"]]


def fold(*items: Object, events: list[Object] | None = None, defaults: dict[str, str] | None = None) -> dict[str, Any]:
    """The routing rows of these objects, and of watch events after them, by namespace/name; and dead letters."""
    audit = AuditFold(routing_defaults=defaults)
    stamped = [{**each, "metadata": {"resourceVersion": str(i), **each["metadata"]}} for i, each in enumerate(items, 1)]
    found: dict[str, Any] = {"dead": []}
    for document in [{"kind": "List", "items": stamped}, *(events or [])]:
        for write in audit.take(document):
            key = write.key.decode().partition("/")[2]
            if write.table == "deadletter":
                found["dead"].append(key)
            elif write.table == "routing" and write.value is not None:
                found[key] = decode_row("routing", write.value)
    return found
