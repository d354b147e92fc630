"""Equal matches: siblings of what was reported (`routes`)."""

from tests.support.routes import (
    gateway,
    listener,
    to_gateway,
    to_service,
)
from tests.unit.cases.case import CART, Fold, service
from tests.unit.cases.route_cases import (
    BOTH_COUNT,
    FRONT,
    NEW,
    OLD,
    PLAIN,
    SHADOWED,
    TO_CART,
    TWO_PORTS,
    asking,
    choice,
    decided,
    matched,
    path,
)

CASES = [
    matched(
        "rt-match-by-default", "HTTPRouteRule.matches: / by default", None, [path("/", type="PathPrefix")], SHADOWED
    ),
    matched("rt-match-null-fields", "the same, with null", [{"path": None, "headers": None}], [{}], SHADOWED),
    matched(
        "rt-match-trailing-slash",
        "HTTPPathMatch: a prefix's last slash says nothing",
        [path("/pay/")],
        [path("/pay")],
        SHADOWED,
    ),
    matched(
        "rt-match-exact-trailing-slash",
        "of an exact path it does",
        [path("/pay/", type="Exact")],
        [path("/pay", type="Exact")],
        BOTH_COUNT,
    ),
    matched("rt-match-twice", "one match twice", [path("/pay"), path("/pay")], [path("/pay")], SHADOWED),
    matched("rt-match-more", "the older has one more", [path("/pay"), path("/bill")], [path("/pay")], SHADOWED),
    matched("rt-match-fewer", "the younger has one more", [path("/pay")], [path("/pay"), path("/buy")], BOTH_COUNT),
    matched(
        "rt-header-order",
        "headers are a set",
        [{"headers": [{"name": "A", "value": "1"}, {"name": "b", "value": "2"}]}],
        [{"headers": [{"name": "B", "value": "2", "type": "Exact"}, {"name": "a", "value": "1"}]}],
        SHADOWED,
    ),
    matched(
        "rt-header-value-case",
        "values are compared as they are",
        [{"headers": [{"name": "a", "value": "x"}]}],
        [{"headers": [{"name": "a", "value": "X"}]}],
        BOTH_COUNT,
    ),
    matched(
        "rt-query-name-case",
        "names of query parameters, too (HTTPQueryParamMatch.name)",
        [{"queryParams": [{"name": "a", "value": "x"}]}],
        [{"queryParams": [{"name": "A", "value": "x"}]}],
        BOTH_COUNT,
    ),
    matched(
        "rt-grpc-match-by-default",
        "GRPCRouteRule.matches: any by default",
        None,
        [{"method": {}}],
        SHADOWED,
        "GRPCRoute",
    ),
    Fold(
        "rt-shadowed-for-its-hostname",
        "shadowing compares hostnames: the older has both, in any case",
        [
            service(),
            *FRONT,
            asking("older", created=OLD, asks=False, hostnames=["A.example.net", "b.example.net"]),
            asking("younger", created=NEW, hostnames=["a.example.net"]),
        ],
        decided(**SHADOWED),
    ),
    Fold(
        "rt-shadowed-at-its-port",
        "all ports are each of them",
        [
            TWO_PORTS,
            asking("older", TO_CART, created=OLD, asks=False),
            asking("younger", [to_service(sectionName="ops")]),
        ],
        {"routing": {CART: {"mesh": {**choice(PLAIN), "rules": [{"reason": "Default"}, {"reason": "RuleShadowed"}]}}}},
    ),
    Fold(
        "rt-not-shadowed-at-other-listener",
        "as rt-one-listener-selects: the younger has another listener, too",
        [
            service(),
            gateway("edge", listener("a"), listener("b", 81)),
            asking("older", [to_gateway(sectionName="a")], created=OLD, asks=False),
            asking("younger"),
        ],
        decided(**BOTH_COUNT),
    ),
]
