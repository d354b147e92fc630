"""The parameters of a table's list, by table: a table has only the filters and orders that its rows have fields for."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from streams.serve.http.parameters import (
    ENDPOINT_SLICES,
    MAX_VALUES,
    REPEATABLE,
    AddressText,
    After,
    ClusterName,
    KubernetesName,
    Limit,
    NodeName,
    PodName,
    Resource,
    ResourceVersion,
    Time,
    WaitSeconds,
    ZoneName,
    one_of,
)
from streams.serve.http.rows import VIEWS
from streams.wire.records import CLUSTERSET, FOLDED_TABLES

Unset = msgspec.UnsetType
_UNSET = msgspec.UNSET
_STATES = ("ready", "empty", "unknown", "stale")
"""Those of rows that are listed: those of deleted Services are not."""

_ANY_OF = "Repeatable: one of them."
_IDENTITY = ("table", "cluster", "namespace", "name", "version")
"""Fields that each row has, whichever are asked for."""

_ORDERS = ("cluster", "namespace", "name", "version", "state", "at")
_ENDPOINT_TABLES = frozenset({"backend", CLUSTERSET})
_PLACED_TABLES = _ENDPOINT_TABLES | {"frontend"}

Reason = Annotated[
    str,
    Meta(pattern="^[A-Za-z]{1,64}$", extra={"allowed": "a reason's name (letters)"}),
]


def _any(kind: Any, text: str = _ANY_OF) -> Any:
    return Annotated[list[kind], Meta(max_length=MAX_VALUES, description=text)]


def _choice(values: tuple[str, ...], **extra: str) -> Any:
    return Annotated[Literal[values], one_of(values, **extra)]


def fields_of(table: str) -> tuple[str, ...]:
    """The fields of a table's rows that may be asked for; some come anyway."""
    names = (field.encode_name for field in msgspec.structs.fields(VIEWS[table]))
    return tuple(name for name in names if name not in _IDENTITY)


def orders_of(table: str) -> tuple[str, ...]:
    """By what a table may be sorted; with a minus in front, from the highest to the lowest."""
    names = (*_ORDERS, *(("endpoints",) if table in _ENDPOINT_TABLES else ()))
    return (*names, *(f"-{name}" for name in names))


def _query(table: str) -> type[msgspec.Struct]:
    parameters: list[tuple[str, Any, Any]] = [
        ("cluster", Annotated[list[ClusterName], REPEATABLE], []),
        ("namespace", Annotated[list[KubernetesName], REPEATABLE], []),
        ("service", Annotated[list[KubernetesName], REPEATABLE], []),
        ("state", _any(_choice(_STATES)), []),
        (
            "reason",
            _any(Reason, "The name of a row's reason, of a decision's, an export's or a conflict's: one of them."),
            [],
        ),
    ]
    if table in _PLACED_TABLES:
        parameters.append(("address", _any(AddressText, "A cluster IP, or an endpoint's address: one of them."), []))
    if table in _ENDPOINT_TABLES:
        parameters += [
            ("zone", _any(ZoneName, "Some endpoint is there (with all else that is asked of it): one of them."), []),
            ("node", _any(NodeName), []),
            ("pod", _any(PodName), []),
        ]
    parameters += [
        ("limit", Annotated[Limit, Meta(description="Rows at most; without it all.")] | Unset, _UNSET),
        ("after", After | Unset, _UNSET),
        (
            "sort",
            Annotated[_choice(orders_of(table)), Meta(description="With - from the highest to the lowest.")] | Unset,
            _UNSET,
        ),
        (
            "fields",
            _any(_choice(fields_of(table)), f"Only these fields, and {', '.join(_IDENTITY)}; without one all."),
            [],
        ),
        ("at", Annotated[Time, Meta(description="As of then.")] | Unset, _UNSET),
    ]
    if table != CLUSTERSET:
        parameters += [
            (
                "at_least",
                Annotated[
                    ResourceVersion,
                    Meta(description="Wait until everything of the one `cluster` up to this resourceVersion is in."),
                ]
                | Unset,
                _UNSET,
            ),
            (
                "resource",
                Annotated[Resource, Meta(description="The type of the object that `atLeast` is of.")],
                ENDPOINT_SLICES,
            ),
            (
                "cut",
                Annotated[
                    _choice(("sealed",)), Meta(description="All Services of a cluster as they were at one moment.")
                ]
                | Unset,
                _UNSET,
            ),
            ("timeout", Annotated[WaitSeconds, Meta(description="Seconds to wait, with `atLeast` and `cut`.")], 30.0),
        ]
    return msgspec.defstruct(
        f"{table.capitalize()}Query",
        parameters,
        namespace={"__doc__": "Which rows, in which order, and as of when."},
        rename="camel",
        forbid_unknown_fields=True,
    )


QUERIES: dict[str, type[msgspec.Struct]] = {table: _query(table) for table in FOLDED_TABLES}
"""By table."""


def _selected(table: str) -> Any:
    return msgspec.defstruct(
        f"{table.capitalize()}Fields",
        [
            (field.encode_name, field.type)
            if field.encode_name in _IDENTITY
            else (field.encode_name, field.type | Unset, _UNSET)
            for field in msgspec.structs.fields(VIEWS[table])
        ],
        namespace={"__doc__": f"Some fields of a {table} row."},
        kw_only=True,
        forbid_unknown_fields=True,
        tag_field="table",
        tag=table,
    )


def _list(name: str, row: Any) -> Any:
    return msgspec.defstruct(
        name,
        [
            ("items", list[row]),
            ("next", str | Unset, _UNSET),
            ("cut", dict[str, int] | Unset, _UNSET),
            ("remarks", list[str] | Unset, _UNSET),
        ],
        namespace={
            "__doc__": "Rows. With `limit`, `next` is there where there are more: the `after` of the next page. `cut` "
            "has by cluster the `seq` that the rows are of. `remarks` are the limits of what is known of that time."
        },
        forbid_unknown_fields=True,
    )


LISTS: dict[str, tuple[Any, Any]] = {
    table: (
        _list(f"{table.capitalize()}List", VIEWS[table]),
        _list(f"{table.capitalize()}FieldsList", _selected(table)),
    )
    for table in FOLDED_TABLES
}
"""By table a list of whole rows, and one of some of their fields."""


def select_fields(text: bytes, fields: frozenset[str]) -> bytes:
    """A printed row with these fields, and those that it has anyway."""
    row: dict[str, msgspec.Raw] = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({name: row[name] for name in row if name in fields or name in _IDENTITY})
