"""A resource as sent to clients, or why there is none."""

import hashlib
from enum import Enum

from google.protobuf.any_pb2 import Any as AnyMessage


class Absence(Enum):
    """Why there is no resource. A client is told nothing about an unknown one: it keeps what it has, or waits."""

    MISSING = "missing"
    UNKNOWN = "unknown"


class Resource:
    """A resource as sent. `version` is `ROWS.DIGEST`: the highest version of the rows that it is built from (all rows
    of a Service are of one journal partition, whatever their cluster, so their versions compare) and a digest of the
    content. Every server builds the same version from the same rows. Two resources with the same `digest` have the same
    content. `is_empty` says of an endpoint set that no endpoint is in it. `in_delta` and `in_sotw` are caches: the
    resource as the variants of the protocol serialize it, once for all clients."""

    __slots__ = ("body", "digest", "in_delta", "in_sotw", "is_empty", "name", "version")

    def __init__(self, name: str, rows: int, body: AnyMessage, *, is_empty: bool = False) -> None:
        self.name = name
        self.is_empty = is_empty
        self.digest = hashlib.sha256(body.value).hexdigest()[:16]
        self.version = f"{rows}.{self.digest}"
        self.body = body
        self.in_delta = self.in_sotw = b""


def digest_of(version: str) -> str:
    """The part of a version that identifies the content."""
    return version.rpartition(".")[2]
