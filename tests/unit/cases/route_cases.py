"""Routes for cases, and what the rows must say of them."""

from typing import Any

from tests.support.routes import (
    by_cookie,
    gateway,
    listener,
    route,
    to_gateway,
    to_service,
)
from tests.unit.cases.case import CART, Fold, Object, port, service

OLD, NEW = "2026-02-01T08:00:00Z", "2026-03-01T08:00:00Z"
PLAIN, STICKY = ("endpoint", "Default"), ("endpoint", "SessionPersistence")
ALL = {"allowedRoutes": {"namespaces": {"from": "All"}}}
SHADOWED: dict[str, Any] = {"gateway": PLAIN, "rules": [("older", "Default"), ("younger", "RuleShadowed")]}
BOTH_COUNT: dict[str, Any] = {"gateway": STICKY, "rules": [("older", "Default"), ("younger", "SessionPersistence")]}
FRONT = [gateway("edge", listener("http"))]
TO_CART = [to_service(namespace="shop")]
TWO_PORTS = service(ports=[port("web", 80), port("ops", 81)])


def asking(
    name: str = "r",
    parents: list[Object] | None = None,
    kind: str = "HTTPRoute",
    *,
    created: str = NEW,
    of: str = "shop",
    asks: bool = True,
    rule: Object | None = None,
    **spec: Any,
) -> Object:
    """A route of the namespace `of` that gives all requests to shop/cart, and asks for session persistence."""
    reference = {"name": "cart", "port": 80, **({"namespace": "shop"} if of != "shop" else {})}
    persistence = {"sessionPersistence": by_cookie(name)} if asks else {}
    rules = [{"backendRefs": [reference], **persistence, **(rule or {})}]
    item = route(name, parents or [to_gateway()], rules, kind, namespace=of, creationTimestamp=created)
    return {**item, "spec": {**item["spec"], **spec}}


def decided(
    *,
    gateway: tuple[str, str] = PLAIN,
    mesh: tuple[str, str] = PLAIN,
    rules: list[tuple[str, str]] | None = None,
    consumers: dict[str, tuple[str, str]] | None = None,
    refused: dict[str, str] | None = None,
    of: str = CART,
) -> dict[str, Any]:
    """Rows with these decisions, rules (of the direction that has any) and refusals of routes' first parents, by the
    name of the route ("": it is attached)."""
    directions = {"gateway": choice(gateway), "mesh": choice(mesh)}
    if rules is not None:
        side = "mesh" if mesh != PLAIN and gateway == PLAIN else "gateway"
        directions[side]["rules"] = [{"route": {"name": name}, "reason": reason} for name, reason in rules]
    if consumers is not None:
        directions["mesh"]["consumers"] = {name: choice(of_consumer) for name, of_consumer in consumers.items()}
    row: dict[str, Any] = dict(directions)
    if refused is not None:
        row["routes"] = [
            {"name": name, "parents": [{"attached": not reason, "reason": reason}]} for name, reason in refused.items()
        ]
    return {"routing": {of: row}}


def choice(of: tuple[str, str]) -> Object:
    return {"decision": of[0], "reason": of[1]}


def refusal(case: str, source: str, given: list[Object], reason: str, **more: Any) -> Fold:
    """A case in which the only route, `r`, is not attached and has no part in the decision."""
    return Fold(case, source, given, decided(refused={"r": reason}), **more)


def selecting(selector: Any = ..., **more: Any) -> Object:
    namespaces = {"from": "Selector", **({} if selector is ... else {"selector": selector})}
    return listener("http", allowedRoutes={"namespaces": namespaces}, **more)


def for_kinds(*kinds: Object, **more: Any) -> Object:
    return gateway("edge", listener("http", allowedRoutes={"kinds": list(kinds)}, **more))


def matched(case: str, source: str, older: Any, younger: Any, expected: Any, kind: str = "HTTPRoute") -> Fold:
    """Two routes with these `matches`."""
    given = [
        service(),
        *FRONT,
        asking("older", kind=kind, created=OLD, asks=False, rule={"matches": older}),
        asking("younger", kind=kind, rule={"matches": younger}),
    ]
    return Fold(case, source, given, decided(**expected))


def path(value: str, **more: Any) -> Object:
    return {"path": {"value": value, **more}}


def mirror(name: str, **more: Any) -> Object:
    """A rule that mirrors to the Service."""
    backend = {"name": name, "port": 80, **more}
    return {"filters": [{"type": "RequestMirror", "requestMirror": {"backendRef": backend}}]}
