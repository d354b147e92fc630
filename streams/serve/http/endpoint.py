"""An endpoint of the HTTP interface: its path, the types of what it is asked and of what it answers, and who answers.

Requests are decoded by these types (`query`), answers encoded by them, and the description is generated from them
(`openapi`). Each endpoint is a file in `endpoints`.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from streams.serve.http.parameters import Table
from streams.wire.records import Record


class Nothing(msgspec.Struct, forbid_unknown_fields=True):
    """No parameter."""


class Anything(msgspec.Struct):
    """Whatever parameters: none is looked at."""


class TablePath(msgspec.Struct, forbid_unknown_fields=True):
    """The table in a path."""

    table: Table


class Error(Record, omit_defaults=True):
    """What went wrong; `parameter` names the invalid one."""

    error: str
    parameter: str = ""


class Body(NamedTuple):
    """An answer that is no JSON of one type: its content type, its schema, the types that the schema refers to,
    and the name by which the description has it."""

    content_type: str
    schema: Mapping[str, Any]
    text: str = "Success."
    types: tuple[Any, ...] = ()
    name: str = ""


class Parameters(NamedTuple):
    """A request, decoded by an endpoint's types."""

    query: Any
    path: Any
    headers: Any


class Endpoint(NamedTuple):
    """`answer` is a type, a Body, or by table the type where `{table}` is in the path. `handle` gets the server's
    parts, the request and what is asked, and gives an answer of the type (or a whole response); None where another
    room answers. `operation` has `{table}` where the path has. An answer that `stays` is a stream without an end."""

    path: str
    operation: str
    summary: str
    answer: Any
    handle: Callable[[Any, Any, Parameters], Awaitable[Any]] | None = None
    query: type[msgspec.Struct] = Nothing
    path_parameters: type[msgspec.Struct] = Nothing
    headers: type[msgspec.Struct] = Nothing
    description: str = ""
    stays: bool = False
