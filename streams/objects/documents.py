"""Documents in text as people have it: JSON, one a line or over many lines and one after another, or YAML.

What is read: what `kubectl get -o json` and `-o yaml` print, with `-w` too; manifests; several files in a row, of
either form. A document that can't be read is named, and the others are read; what is no text costs one error.
"""

import json
import re
from collections.abc import Generator, Iterable, Iterator
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

import orjson
import yaml

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BETWEEN = " \t\r\n\ufeff"
"""What may stand between JSON documents."""
_BINARY = {
    b"\xff\xfe\x00\x00": "UTF-32 text",
    b"\x00\x00\xfe\xff": "UTF-32 text",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"\x1f\x8b": "compressed (gzip)",
    b"\x28\xb5\x2f\xfd": "compressed (zstd)",
    b"PK\x03\x04": "a zip archive",
}
_ATTEMPTS = 64
"""How often a document over many lines is tried before its input ends: an unindented one would be at each line."""

_WITHOUT_COLON = "(?!.*:)"
"""Excludes YAML 1.1's numbers of base 60, which Kubernetes' YAML doesn't have: 1:2:3:4:5:6:7:8 is an address."""
_NUMBERS = {"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}

Line = tuple[int, bytes]
Lines = Iterator[Line]


class UnreadableInput(ValueError):
    """The input as a whole is neither JSON nor YAML; says what it is."""


class Document(NamedTuple):
    """A document, and where it begins."""

    place: str
    value: Any


class UnreadableDocument(NamedTuple):
    """Text that is no document, where it is, and why."""

    place: str
    reason: str


Item = Document | UnreadableDocument
Items = Generator[Item, None, Line | None]
"""Documents of one form, up to the line at which the other form begins."""


def read_documents(lines: Iterable[bytes]) -> Iterator[Item]:
    """The documents, each as soon as its last line is there. Raises UnreadableInput."""
    # A mark may stand in the middle: at the beginning of each file that was appended to another.
    numbered = ((number, line.removeprefix(_BYTE_ORDER_MARK)) for number, line in enumerate(lines, 1))
    first = _first_line(numbered)
    while first is not None:
        read = _read_json if first[1].lstrip()[:1] in {b"{", b"["} else _read_yaml
        first = yield from read(chain([first], numbered))


def _first_line(lines: Lines) -> Line | None:
    """The first line that is not blank."""
    for number, line in lines:
        _check_is_text(line)
        if line.strip():
            return number, line
    return None


def _is_marker(line: bytes) -> bool:
    """Whether a YAML document begins or ends here. No line of a JSON document is a marker."""
    return line.startswith((b"---", b"...")) and line[3:4].strip() == b""


def _check_is_text(line: bytes) -> None:
    for magic, text in _BINARY.items():
        if line.startswith(magic):
            raise UnreadableInput(f"it is {text}, not UTF-8 text")
    if b"\0" in line[:4]:
        raise UnreadableInput("it is UTF-16 or UTF-32 text, or no text, not UTF-8 text")


# ---- JSON -------------------------------------------------------------------------------------------


def _read_json(lines: Lines) -> Items:
    pending: list[bytes] = []
    start = attempts = 0
    is_compact = False
    for number, line in lines:
        if _is_marker(line):
            if pending:
                yield from _rest(pending, start)
            return number, line
        if pending and is_compact and line[:1] == b"{" and (document := _parse(line, number)):
            # Documents of one line: the one before was cut off.
            yield _unreadable(b"".join(pending), start)
            yield document
            pending = []
            continue
        if not pending:
            if not line.strip():
                continue
            start, attempts, is_compact = number, 0, line.strip() not in {b"{", b"["}
        pending.append(line)
        if len(pending) == 1 or (line[:1] in {b"}", b"]"} and attempts < _ATTEMPTS):
            attempts += 1
            items, rest = _take(b"".join(pending), start)
            yield from items
            if items:
                start, is_compact = number, rest.strip() not in {b"{", b"["}
            pending = [rest] if rest else []
    if pending:
        yield from _rest(pending, start)
    return None


def _rest(pending: list[bytes], start: int) -> Iterator[Item]:
    """What is left where no more lines come."""
    items, rest = _take(b"".join(pending), start)
    yield from items
    if rest:
        yield _unreadable(rest, start)


def _take(text: bytes, start: int) -> tuple[list[Item], bytes]:
    """The complete documents at the beginning of a text, and the beginning of another one after them."""
    item = _parse(text, start)
    if item:
        return [item], b""
    items: list[Item] = []
    decoder, at = json.JSONDecoder(), 0
    try:
        characters = text.decode()
        while at < len(characters):
            value, at = decoder.raw_decode(characters, at)
            items.append(Document(f"line {start}", value))
            at = len(characters) - len(characters[at:].lstrip(_BETWEEN))
    except json.JSONDecodeError as error:
        rest = characters[at:].encode()
        if _is_cut_off(rest):
            return items, rest
        return [*items, UnreadableDocument(f"line {start}", f"no JSON: {error}")], b""
    except (UnicodeDecodeError, RecursionError) as error:
        return [*items, UnreadableDocument(f"line {start}", f"no JSON: {error}")], b""
    return items, b""


def _parse(text: bytes, start: int) -> Document | None:
    """The document that the text is, if it is one."""
    try:
        return Document(f"line {start}", orjson.loads(text))
    except orjson.JSONDecodeError:
        return None


def _is_cut_off(text: bytes) -> bool:
    """Whether more text could make it a document."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return error.pos >= len(text.decode(errors="replace").rstrip())
    return False


def _unreadable(text: bytes, start: int) -> UnreadableDocument:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return UnreadableDocument(f"line {start}", f"no JSON: {error}")
    raise AssertionError("it is a document")


# ---- YAML -------------------------------------------------------------------------------------------


def _read_yaml(lines: Lines) -> Items:
    """Documents are split at their markers, which are at a line's beginning (YAML 1.2, section 9.1.2): so one that is
    wrong does not cost those after it. JSON that begins behind other text is a document of its own."""
    text: list[bytes] = []
    start, opening = 1, b""
    for number, line in lines:
        if _is_marker(line):
            yield from _load(text, start)
            # What stands behind the marker belongs to the document.
            text, start, opening = [line[3:]], number, _opening(line[3:])
        elif line.startswith(b"{") and opening not in {b"", b"{", b"["}:
            yield from _load(text, start)
            return number, line
        else:
            start = start if text else number
            opening = opening or _opening(line)
            text.append(line)
    yield from _load(text, start)
    return None


def _opening(line: bytes) -> bytes:
    """A line's first character; b"" where it has nothing of a document: blank lines, comments and directives."""
    return b"" if line.startswith(b"%") or line.lstrip().startswith(b"#") else line.lstrip()[:1]


def _load(lines: list[bytes], start: int) -> Iterator[Item]:
    opening = next(filter(None, map(_opening, lines)), b"")
    if not opening:
        return
    if opening == b"{":
        items, rest = _take(b"".join(lines), start)
        if not rest and all(isinstance(item, Document) for item in items):
            yield from items
            return
    place = f"line {start}"
    try:
        text = b"".join(lines).decode()
        loader = _loader()
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)):
            # A few of them can stand for gigabytes.
            yield UnreadableDocument(place, "YAML aliases (*name) are not read: write out what they stand for")
            return
        value = yaml.load(text, Loader=loader)  # noqa: S506
    except UnicodeDecodeError as error:
        raise UnreadableInput(f"it is neither JSON nor UTF-8 text: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = start + (error.problem_mark.line if error.problem_mark else 0)
        yield UnreadableDocument(f"line {line}", f"neither JSON nor YAML: {error.problem or error.context}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        yield UnreadableDocument(place, f"neither JSON nor YAML: {' '.join(str(error).split())}")
    else:
        if value is not None:
            yield Document(place, value)


@cache
def _loader() -> Any:
    """A safe loader without timestamps and numbers of base 60: in Kubernetes' YAML, which stands for JSON, these are
    text."""

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    Loader.yaml_implicit_resolvers = {
        first: [
            (tag, re.compile(_WITHOUT_COLON + pattern.pattern, pattern.flags) if tag in _NUMBERS else pattern)
            for tag, pattern in resolvers
            if tag != "tag:yaml.org,2002:timestamp"
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return Loader
