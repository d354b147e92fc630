"""An endpoint of the HTTP interface: its path, the types of its parameters and of its answer, and its handler.

Requests are decoded by these types (`query`), answers encoded by them, and the description is generated from them
(`openapi`). Each endpoint is a file in `endpoints`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from streams.serve.http.parameters import Table
from streams.serve.http.query import FailureReason
from streams.wire.records import Record


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No parameter."""


class Anything(msgspec.Struct):
    """Any parameters; they are ignored."""


class TablePath(msgspec.Struct, forbid_unknown_fields=True):
    """The table in a path."""

    table: Table


class Error(Record, omit_defaults=True):
    """What went wrong: in words, by its name (as in Kafka Streams, KIP-796, where it has one there), and the parameter
    that is invalid."""

    error: str
    reason: FailureReason
    parameter: str = ""


class Body(NamedTuple):
    """An answer that is not JSON of one type: its content type, its schema, the types that the schema refers to, and
    its name in the description."""

    content_type: str
    schema: Mapping[str, Any]
    text: str = "Success."
    types: tuple[Any, ...] = ()
    name: str = ""


class Parameters(NamedTuple):
    """A request's parameters, decoded by an endpoint's types."""

    query: Any
    path: Any
    headers: Any


QueryType = type[msgspec.Struct] | Mapping[str, type[msgspec.Struct]]


class Endpoint(NamedTuple):
    """`answer` is a type, or a Body; it and `query` may be by table if `{table}` is in the path. `handle` gets the
    server's parts, the request and its parameters, and returns an answer of the type (or a whole response); it is None
    if another room answers. `operation` has `{table}` if the path has. If it `stays`, the answer is a stream without an
    end."""

    path: str
    operation: str
    summary: str
    answer: Any
    handle: Callable[[Any, Any, Parameters], Awaitable[Any]] | None = None
    query: QueryType = Nothing
    path_parameters: type[msgspec.Struct] = Nothing
    headers: type[msgspec.Struct] = Nothing
    description: str = ""
    stays: bool = False


def query_type(kind: QueryType, table: str) -> type[msgspec.Struct]:
    """The type of an endpoint's query for a table; it may be the same for all."""
    return kind[table] if isinstance(kind, Mapping) else kind
