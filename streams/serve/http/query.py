"""Parameters of HTTP requests, decoded by an endpoint's types; an error names the parameter and what is allowed."""

import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import inspect

from streams.subscription.names import suggestion

NO_SNAPSHOT = "starting: the first snapshot of the tables has not been read yet"
_AT = re.compile(r"at `\$\.([^.\[`]+)(?:\[(\d+)\])?`$")
_T = TypeVar("_T", bound=msgspec.Struct)


class BadParameter(Exception):
    """A parameter that is unknown, missing or invalid."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(problem)
        self.name = name

    @classmethod
    def invalid(cls, name: str, value: str, allowed: str) -> "BadParameter":
        """A value that is not allowed; `allowed` completes "must be"."""
        return cls(name, f"parameter {name} must be {allowed} (got {value[:80]!r})")


class Busy(Exception):
    """The request can't be served now; retry after `seconds`."""

    def __init__(self, text: str, seconds: int) -> None:
        super().__init__(text)
        self.seconds = seconds


class NotFound(Exception):
    """The resource that the path names does not exist."""


def decode_parameters(pairs: Iterable[tuple[str, str]], kind: type[_T]) -> _T:
    """The parameters as a value of the type. Raises BadParameter, also for an unknown one: a filter with a misspelt
    name would let everything through."""
    parameters = _parameters(kind)
    raw_values: dict[str, list[str]] = {}
    for name, value in pairs:
        if name not in parameters:
            raise BadParameter(name[:40], _unknown(name[:40], tuple(parameters)))
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
