"""Rows in parts put together again, by README's rules alone, and limits with which small Services are in parts."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import orjson

from streams.facets import row_parts

SMALL = row_parts.Limits(whole=200, undivided=0, smallest=100, aim=200, largest=380, most_chunks=8)


@contextmanager
def small_parts() -> Iterator[None]:
    """Rows of a few endpoints are in parts meanwhile."""
    with patch.object(row_parts, "LIMITS", SMALL):
        yield


class PartLost(AssertionError):
    """A row names a part that is not there."""


class PlainParts:
    """The newest part of each key of a table. `unused` are those that no row has named since they were written."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[int, Any]] = {}
        self.named: dict[str, set[str]] = {}

    def take(self, key: str, value: bytes | None, version: int) -> Any:
        """Take a record that is no seal and no companion. A row comes back whole, as JSON; None for others."""
        if key.startswith("~part/"):
            if version > self.held.get(key, (-1,))[0]:
                self.held[key] = version, None if value is None else orjson.loads(value)
            return None
        return None if value is None else self.joined(key, orjson.loads(value))

    def joined(self, key: str, row: Any) -> Any:
        """The row with `groups`: those of all chunks, one after the other."""
        self.named[key] = set()
        if "parts" not in row:
            return row
        groups = []
        for name, age in row["parts"].items():
            part = self._find(key, f"~part/{key}/{name}", row["version"] - age)
            for number, chunk_age in enumerate(part["chunks"]):
                chunk = self._find(key, f"~part/{key}/{name}/{number}", part["version"] - chunk_age)
                groups += [
                    {**{n: part[n] for n in ("slice", "uid", "resourceVersion")}, **group} for group in chunk["groups"]
                ]
        return {("groups" if n == "parts" else n): groups if n == "parts" else v for n, v in row.items()}

    def left_over(self, key: str) -> set[str]:
        """Parts of the row that are there, and that it does not name."""
        own = {each for each, (_, value) in self.held.items() if each.startswith(f"~part/{key}/") and value is not None}
        return own - self.named.get(key, set())

    def _find(self, key: str, name: str, version: int) -> Any:
        self.named[key].add(name)
        found, value = self.held.get(name, (-1, None))
        if found != version or value is None:
            raise PartLost(f"{key} names {name} at {version}, there is {found}")
        return value


def merged(row: Any) -> Any:
    """The row with one group for each slice, list of ports and kind of group, its endpoints in order of their JSON."""
    groups: dict[Any, Any] = {}
    for group in row["groups"]:
        lists = {n: v for n, v in group.items() if n in {"endpoints", "shadowed"}}
        rest = {n: v for n, v in group.items() if n not in lists}
        is_partial = rest.pop("partial", False)
        at = (group["slice"], is_partial, orjson.dumps(group["ports"]), group["family"])
        into = groups.setdefault(at, {**rest, "endpoints": []})
        for name, endpoints in lists.items():
            into[name] = sorted([*into.get(name, ()), *endpoints], key=orjson.dumps)
        if is_partial:
            into["partial"] = True
    return {**row, "groups": [group for _, group in sorted(groups.items(), key=lambda each: each[0])]}
