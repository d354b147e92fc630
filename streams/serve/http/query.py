"""Parameters of HTTP requests, decoded by an endpoint's types; an error names the parameter and what is allowed."""

import re
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import inspect

from streams.subscription.names import suggestion
from streams.wire.timestamps import later, read, write

NO_SNAPSHOT = "starting: the first snapshot of the tables has not been read yet"
_AT = re.compile(r"at `\$\.([^.\[`]+)(?:\[(\d+)\])?`$")
_CLOCKS_DIFFER_SECONDS = 10.0
_T = TypeVar("_T", bound=msgspec.Struct)


FailureReason = Literal[
    "UNKNOWN_QUERY_TYPE", "NOT_ACTIVE", "NOT_UP_TO_BOUND", "NOT_PRESENT", "DOES_NOT_EXIST", "STORE_EXCEPTION",
    "INVALID_PARAMETER", "EXPIRED", "LIMIT_REACHED",
]  # fmt: skip
"""Why a query is not answered. The first six mean what they mean in Kafka Streams (KIP-796, FailureReason): there is no
such query; the server is not running yet; it is not up to what is asked for; it does not have the table that others
have; there is none of that name; what holds the data has failed. The others: a parameter is invalid; the log does not
go back so far; the server does as much of this as it may."""


class Failure(Exception):
    """A query that is not answered: the reason, the status, after how many seconds to try again (0: it would not
    help), and the parameter that is to blame."""

    status: ClassVar[int]

    def __init__(self, text: str, reason: FailureReason, seconds: int = 0, parameter: str = "") -> None:
        super().__init__(text)
        self.reason: FailureReason = reason
        self.seconds = seconds
        self.parameter = parameter


class BadParameter(Failure):
    """A parameter that is unknown, missing or invalid."""

    status = 400

    def __init__(self, name: str, problem: str, reason: FailureReason = "INVALID_PARAMETER") -> None:
        super().__init__(problem, reason, parameter=name)

    @classmethod
    def invalid(cls, name: str, value: str, allowed: str) -> "BadParameter":
        """A value that is not allowed; `allowed` completes "must be"."""
        return cls(name, f"parameter {name} must be {allowed} (got {value[:80]!r})")


class Busy(Failure):
    """The request can't be served now; retry after `seconds`."""

    status = 503

    def __init__(self, text: str, seconds: int, reason: FailureReason = "LIMIT_REACHED") -> None:
        super().__init__(text, reason, seconds)


class NotActive(Busy):
    """The server has no snapshot yet."""

    def __init__(self) -> None:
        super().__init__(NO_SNAPSHOT, 1, "NOT_ACTIVE")


class NotUpToBound(Busy):
    """What is asked for has not been sealed yet."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 1, "NOT_UP_TO_BOUND")


class NotFound(Failure):
    """The resource that the path names does not exist."""

    status = 404

    def __init__(self, text: str, reason: FailureReason = "DOES_NOT_EXIST") -> None:
        super().__init__(text, reason)


class Expired(Failure):
    """The retained log does not go back so far."""

    status = 410

    def __init__(self, text: str) -> None:
        super().__init__(text, "EXPIRED")


def decode_parameters(pairs: Iterable[tuple[str, str]], kind: type[_T]) -> _T:
    """The parameters as a value of the type. Raises BadParameter, also for an unknown one: a filter with a misspelt
    name would let everything through."""
    parameters = _parameters(kind)
    raw_values: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in parameters:
            raise BadParameter(name[:40], _unknown(name[:40], tuple(parameters)), "UNKNOWN_QUERY_TYPE")
        raw_values.setdefault(name, []).append(value)
    values: dict[str, Any] = {}
    for name, texts in raw_values.items():
        parameter = parameters[name]
        if not parameter.is_list and len(texts) > 1 and not parameter.first_counts:
            raise BadParameter(name, f"parameter {name} is given {len(texts)} times; give it once")
        for text in texts:
            # A pattern's $ also matches before a trailing newline.
            if "\n" in text:
                raise BadParameter.invalid(name, text, parameter.allowed)
        values[name] = texts if parameter.is_list else _number(texts[0]) if parameter.is_number else texts[0]
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise _explain(str(error), parameters, raw_values) from None


def read_time(name: str, text: str, now: str) -> str:
    """A time parameter as the records have it (UTC, milliseconds). Raises BadParameter, also for one that is after
    `now` by more than watchers' clocks may differ."""
    try:
        at = write(read(text.upper()))  # RFC 3339, section 5.6: t and z may be lower case.
        latest = later(now, _CLOCKS_DIFFER_SECONDS)
    except ValueError:
        raise BadParameter.invalid(name, text, "an RFC 3339 time such as 2026-11-24T12:00:00Z") from None
    if at > latest:
        raise BadParameter(name, f"parameter {name} is in the future: {at}; it is {now}")
    return at


class _Parameter:
    """A parameter: whether it may be repeated, and what is allowed in words."""

    def __init__(self, kind: inspect.Type) -> None:
        self.first_counts = False
        self.is_list = False
        self.is_number = False
        self.allowed = "another value"
        self._look(kind)

    def _look(self, kind: inspect.Type) -> None:
        if isinstance(kind, inspect.Metadata):
            extra = kind.extra or {}
            self.first_counts = self.first_counts or extra.get("repeated") == "first"
            self._look(kind.type)
            self.allowed = extra.get("allowed", self.allowed)
        elif isinstance(kind, inspect.UnionType):
            for member in kind.types:
                self._look(member)
        elif isinstance(kind, inspect.ListType):
            self.is_list = True
            self._look(kind.item_type)
        elif isinstance(kind, inspect.FloatType):
            self.is_number = True
            if kind.ge is not None and kind.le is not None:
                self.allowed = f"a number of seconds from {kind.ge:g} to {kind.le:g}"


def _parameters(kind: type[msgspec.Struct]) -> dict[str, _Parameter]:
    info = inspect.type_info(kind)
    return {field.encode_name: _Parameter(field.type) for field in getattr(info, "fields", ())}


def _number(text: str) -> float | str:
    """The number as Python reads it; other text is left to the type."""
    try:
        return float(text)
    except ValueError:
        return text


def _explain(problem: str, parameters: dict[str, _Parameter], raw_values: dict[str, list[str]]) -> BadParameter:
    at = _AT.search(problem)
    if at is None:
        name = next(name for name in parameters if f"`{name}`" in problem)
        return BadParameter(name, f"parameter {name} is missing: {parameters[name].allowed}")
    name, index = at[1], at[2]
    if parameters[name].is_list and index is None:
        return BadParameter(name, f"parameter {name} is given {len(raw_values[name])} times; {_limit(problem)}")
    return BadParameter.invalid(name, raw_values[name][int(index or 0)], parameters[name].allowed)


def _limit(problem: str) -> str:
    number = re.search(r"<= (\d+)", problem)
    return f"the limit is {number[1]}" if number else problem


def _unknown(name: str, names: tuple[str, ...]) -> str:
    if not names:
        return f"this path takes no query parameters (got {name})"
    return f"unknown parameter {name}: {suggestion(name, names)}"
