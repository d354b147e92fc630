"""What a conformance test may ask of the routing table, and the record of it."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from tests.conformance.table import ERROR, Request, Table
from tests.support.routes import Object

INFRA, WEB, APP = (f"gateway-conformance-{name}" for name in ("infra", "web-backend", "app-backend"))
MESH, CONSUMER = "gateway-conformance-mesh", "gateway-conformance-mesh-consumer"
V1, V2, V3 = "infra-backend-v1", "infra-backend-v2", "infra-backend-v3"
SAME = "same-namespace"

Check = Callable[[Table], None]
ObjectKey = tuple[str, str, str]


class Step(NamedTuple):
    """Objects that are deleted and added (`younger`: and must be younger than all before them), and what must hold
    then. A Gateway that is there is replaced."""

    checks: Sequence[Check]
    deleted: Sequence[ObjectKey] = ()
    added: Sequence[Object] = ()
    younger: Sequence[Object] = ()


class Expectation(NamedTuple):
    """A test that is about facets: its manifests, and what its Go text expects, in steps. `note` says which part of it
    is not asked."""

    files: Sequence[str]
    steps: Sequence[Step]
    note: str = ""


def expect(files: str | Sequence[str], *checks: Check, then: Sequence[Step] = (), note: str = "") -> Expectation:
    """An Expectation whose manifests are these files of `tests` (without .yaml)."""
    listed = [files] if isinstance(files, str) else files
    return Expectation([f"tests/{name}.yaml" for name in listed], [Step(checks), *then], note)


# ---- attachment ----------------------------------------------------------------------------------------


def attached(route: str, *listeners: str, kind: str = "HTTPRoute", namespace: str = INFRA, parent: int = 0) -> Check:
    """The route is attached to a parent: to just these listeners, if any are named."""

    def check(table: Table) -> None:
        at = table.parents(kind, namespace, route)[parent]
        assert (at.attached, at.reason) == (True, ""), (route, at)
        if listeners:
            assert {listener.name for listener in at.listeners} == set(listeners), (route, at)

    return check


def refused(route: str, reason: str, *, kind: str = "HTTPRoute", namespace: str = INFRA, parent: int = 0) -> Check:
    """The route is not attached to a parent, and why."""

    def check(table: Table) -> None:
        at = table.parents(kind, namespace, route)[parent]
        assert (at.attached, at.reason) == (False, reason), (route, at)

    return check


def named_nowhere(route: str, *, kind: str = "HTTPRoute", namespace: str = INFRA) -> Check:
    """The route is in no row."""

    def check(table: Table) -> None:
        rows = [
            name
            for name, row in table.rows.items()
            for held in row["routes"]
            if (held["kind"], held["namespace"], held["name"]) == (kind, namespace, route)
        ]
        assert not rows, (route, rows)  # fmt: skip

    return check


# ---- who gets a request --------------------------------------------------------------------------------


def sends(to: str, backend: str | dict[str, float] | None, *, namespace: str = INFRA, **request: Any) -> Check:
    """A Gateway's request reaches this backend (or these, by their shares; None: no rule takes it; ERROR: no backend
    may get it)."""
    return _goes(to, backend, namespace, request, mesh=False, client="")


def calls(
    to: str, backend: str | dict[str, float] | None, *, client: str = MESH, namespace: str = MESH, **request: Any
) -> Check:
    """The same in the mesh, of a client's request to a Service."""
    return _goes(to, backend, namespace, request, mesh=True, client=client)


def _goes(
    to: str, backend: str | dict[str, float] | None, namespace: str, request: dict[str, Any], *, mesh: bool, client: str
) -> Check:
    shares = {backend: 1.0} if isinstance(backend, str) else backend or {}
    expected = {
        name if name == ERROR or "/" in name else f"{namespace}/{name}": Fraction(share).limit_denominator(1000)
        for name, share in shares.items()
    }
    asked = _request(to, request)

    def check(table: Table) -> None:
        actual = table.shares(asked, mesh=mesh, client=client)
        assert actual == expected, (asked, actual, expected)

    return check


def mirrors(to: str, copies: dict[str, float], **request: Any) -> Check:
    """What share of a Gateway's requests is copied to whom."""
    expected = {f"{INFRA}/{name}": Fraction(share).limit_denominator(1000) for name, share in copies.items()}
    asked = _request(to, request)

    def check(table: Table) -> None:
        actual = table.shares(asked, "mirror")
        assert actual == expected, (asked, actual, expected)

    return check


def _request(to: str, given: dict[str, Any]) -> Request:
    fields = dict(given)
    path, _, query = fields.pop("path", "/").partition("?")
    pairs = tuple(tuple(pair.split("=")) for pair in query.split("&") if pair)
    headers = tuple(fields.pop("headers", {}).items())
    return Request(to, path=path, query=pairs, headers=headers, **fields)  # type: ignore[arg-type]


# ---- what rows say -------------------------------------------------------------------------------------


def decision(service: str, decided: str, reason: str, way: str = "gateway") -> Check:
    """How a Service's requests are routed, and why."""

    def check(table: Table) -> None:
        row = table.rows[service if "/" in service else f"{INFRA}/{service}"]
        assert (row[way]["decision"], row[way]["reason"]) == (decided, reason), row[way]

    return check


def rule_reason(service: str, route: str, reason: str, *, rule: int = 0) -> Check:
    """Why a rule has no part in a Service's decision."""

    def check(table: Table) -> None:
        row = table.rows[service if "/" in service else f"{INFRA}/{service}"]
        entries = [
            entry for entry in row["gateway"]["rules"] if (entry["route"]["name"], entry["rule"]) == (route, rule)
        ]
        assert [entry["reason"] for entry in entries] == [reason], row["gateway"]

    return check


def backend_tls(service: str, *entries: tuple[str, str, str]) -> Check:
    """The BackendTLSPolicies of a Service: name, port's name, and why it is not accepted."""

    def check(table: Table) -> None:
        row = table.rows[f"{INFRA}/{service}"]
        listed = [(entry["name"], entry["sectionName"], entry["reason"]) for entry in row["backendTLS"]]
        assert sorted(listed) == sorted(entries)

    return check


def subject_alt_names(service: str, *names: tuple[str, str]) -> Check:
    """The names of which a Service's certificates must have one."""

    def check(table: Table) -> None:
        (entry,) = table.rows[f"{INFRA}/{service}"]["backendTLS"]
        assert [(name["type"], name["value"]) for name in entry["validation"]["subjectAltNames"]] == list(names)

    return check
