"""The types of parameters; `allowed` says in words what is allowed, and completes "must be"."""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from streams.objects.resources import OPTIONAL, RESOURCES
from streams.wire.name_syntax import CLUSTER_NAME, KUBERNETES_NAME, RESOURCE_VERSION, NameSyntax
from streams.wire.records import FOLDED_TABLES

MAX_VALUES = 100
"""How often a repeatable parameter may be given."""

MAX_LIMIT = 1000
"""The longest page, in rows."""

MAX_CURSOR = 32_000
"""The longest cursor, in characters: enough for four tables of 256 partitions."""

CURSOR_FORMAT = "facets-cursor"
"""The JSON Schema format of cursors, which are opaque: only a server or subscriber makes them."""

ADDRESS_FORMAT = "facets-address"
"""The JSON Schema format of an IP address, with ports or without."""

TIME_FORMAT = "date-time"
"""The JSON Schema format of RFC 3339 times."""

AFTER_FORMAT = "facets-after"
"""The JSON Schema format of a place in a list: the `next` of the page before."""


_RESOURCES = tuple(resource.frontier for resource in (*RESOURCES, *OPTIONAL))

_POD = NameSyntax(
    re.compile(rf"([a-z0-9]([a-z0-9-]{{0,61}}[a-z0-9])?/)?{KUBERNETES_NAME.expression.pattern}"),
    317,
    "a Pod's name, or NAMESPACE/NAME",
)
_ZONE = NameSyntax(CLUSTER_NAME.expression, CLUSTER_NAME.max_length, "a zone's name (letters, digits, - _ and .)")
_DNS = NameSyntax(
    re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\.?"),
    254,
    "a DNS name (letters, digits, - _ and .), such as cart.shop.svc.cluster.local",
)


def _name(syntax: NameSyntax) -> Meta:
    return Meta(
        pattern=syntax.pattern, min_length=1, max_length=syntax.max_length, extra={"allowed": syntax.description}
    )


def one_of(values: Sequence[str], **extra: str) -> Meta:
    """The description of a Literal of these values, in their order."""
    return Meta(
        extra={"allowed": f"one of {', '.join(values)}", **extra},
        extra_json_schema={"type": "string"},
    )


REPEATABLE = Meta(max_length=MAX_VALUES, description="Repeatable; without one all.")
FIRST_COUNTS = {"repeated": "first"}
"""If such a parameter is repeated, the first one counts; for any other, repetition is an error."""

Table = Annotated[Literal[FOLDED_TABLES], one_of(FOLDED_TABLES)]  # type: ignore[valid-type]
ClusterName = Annotated[str, _name(CLUSTER_NAME)]
KubernetesName = Annotated[str, _name(KUBERNETES_NAME)]
NodeName = KubernetesName
PodName = Annotated[str, _name(_POD)]
ZoneName = Annotated[str, _name(_ZONE)]
DnsName = Annotated[str, _name(_DNS)]
RouterNode = Annotated[
    str, Meta(min_length=1, max_length=256, extra={"allowed": "a router's node id, of at most 256 characters"})
]
Time = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        extra_json_schema={"format": TIME_FORMAT},
        extra={"allowed": "an RFC 3339 time such as 2026-11-24T12:00:00Z (a + is %2B in a URL)"},
    ),
]
ADDRESS = "an IP address, or IP:PORT (IPv6 in brackets then)"
AddressText = Annotated[
    str, Meta(max_length=64, extra_json_schema={"format": ADDRESS_FORMAT}, extra={"allowed": ADDRESS})
]
After = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=4000,
        description="The `next` of the page before.",
        extra_json_schema={"format": AFTER_FORMAT},
        extra={"allowed": "the `next` of the page before"},
    ),
]
Limit = Annotated[
    int,
    Meta(ge=1, le=MAX_LIMIT, description="Rows at most.", extra={"allowed": f"a whole number from 1 to {MAX_LIMIT}"}),
]
WaitSeconds = Annotated[float, Meta(ge=0, le=3600, description="Seconds.", extra=FIRST_COUNTS)]
ResourceVersion = Annotated[str, _name(RESOURCE_VERSION)]
Resource = Annotated[Literal[_RESOURCES], one_of(_RESOURCES, **FIRST_COUNTS)]  # type: ignore[valid-type]
ENDPOINT_SLICES = "endpointslices.discovery.k8s.io"
CursorText = Annotated[
    str,
    Meta(
        max_length=MAX_CURSOR,
        extra_json_schema={"format": CURSOR_FORMAT},
        extra={"allowed": f"a cursor of at most {MAX_CURSOR} characters", **FIRST_COUNTS},
    ),
]


class Conditional(msgspec.Struct, forbid_unknown_fields=True):
    """RFC 9110, section 13.1.2."""

    if_none_match: (
        Annotated[str, Meta(description="The ETag of an earlier answer: 304 if the rows are the same.")]
        | msgspec.UnsetType
    ) = msgspec.field(default=msgspec.UNSET, name="If-None-Match")
