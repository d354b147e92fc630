"""The types of parameters, each with what is allowed in words (`allowed` completes "must be")."""

from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from streams.wire.name_syntax import CLUSTER_NAME, KUBERNETES_NAME, RESOURCE_VERSION, NameSyntax
from streams.wire.records import TABLES

MAX_VALUES = 100
"""How often a repeatable parameter may be given."""

MAX_CURSOR = 32_000
"""The longest cursor, in characters: enough for three tables of 256 partitions."""

CURSOR_FORMAT = "facets-cursor"
"""Cursors are opaque: only one that was given out is one."""


def _name(syntax: NameSyntax) -> Meta:
    return Meta(
        pattern=syntax.pattern, min_length=1, max_length=syntax.max_length, extra={"allowed": syntax.description}
    )


def one_of(values: Sequence[str], **extra: str) -> Meta:
    """What a Literal of these values allows, in their order."""
    return Meta(
        extra={"allowed": f"one of {', '.join(values)}", **extra},
        extra_json_schema={"type": "string"},
    )


REPEATABLE = Meta(max_length=MAX_VALUES, description="Repeatable; without one all.")
FIRST_COUNTS = {"repeated": "first"}
"""Of one that is given several times the first counts; of any other, that is an error."""

Table = Annotated[Literal[TABLES], one_of(TABLES)]  # type: ignore[valid-type]
ClusterName = Annotated[str, _name(CLUSTER_NAME)]
KubernetesName = Annotated[str, _name(KUBERNETES_NAME)]
ResourceVersion = Annotated[str, _name(RESOURCE_VERSION)]
CursorText = Annotated[
    str,
    Meta(
        max_length=MAX_CURSOR,
        extra_json_schema={"format": CURSOR_FORMAT},
        extra={"allowed": f"a cursor of at most {MAX_CURSOR} characters", **FIRST_COUNTS},
    ),
]
