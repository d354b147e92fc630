"""A backend row, as on the wire."""

from typing import Any

import msgspec


def row(key: bytes, version: int, reason: str = "") -> bytes:
    """A backend row that can be read."""
    cluster, namespace, name = key.decode().split("/")
    as_of = {"epoch": 1, "seq": 1, "at": "2026-11-24T12:00:00.000Z", "frontier": {}}
    change: dict[str, list[Any]] = {"added": [], "removed": [], "updated": []}
    return msgspec.json.encode(
        {
            "cluster": cluster, "namespace": namespace, "name": name, "version": version, "previous": None,
            "state": "ready", "reason": reason, "asOf": as_of, "cause": [], "service": None, "groups": [],
            "change": change,
        }
    )  # fmt: skip
