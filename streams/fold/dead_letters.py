"""Makes dead letters: the records of `facets.deadletter`."""

import msgspec

from streams.fold.table import Write
from streams.wire.keys import row_key
from streams.wire.records import Commit, DeadLetter, Event, Seal

_EXCERPT_BYTES = 4096


def of_record(partition: int, offset: int, value: bytes, reason: str, commit: Commit | None) -> DeadLetter:
    """The dead letter of a whole journal record; `commit` is the decoded record, if it could be decoded."""
    return DeadLetter(
        partition=partition,
        offset=offset,
        cluster=commit.cluster if commit else "",
        at=commit.at if commit else "",
        kind="Commit",
        namespace="",
        name="",
        uid="",
        resource_version="",
        reason=reason,
        excerpt=value[:_EXCERPT_BYTES].decode(errors="replace"),
    )


def of_event(partition: int, offset: int, seal: Seal, event: Event, reason: str) -> DeadLetter:
    """The dead letter of one event; `seal` has the stamps of its commit."""
    return DeadLetter(
        partition=partition,
        offset=offset,
        cluster=seal.cluster,
        at=seal.at,
        kind=event.kind,
        namespace=event.namespace,
        name=event.name,
        uid=event.uid,
        resource_version=event.resource_version,
        reason=reason,
        excerpt=event.excerpt or bytes(event.object)[:_EXCERPT_BYTES].decode(errors="replace"),
    )


def write_of(letter: DeadLetter) -> Write:
    """The dead letter as a record."""
    key = row_key(letter.cluster, letter.namespace, letter.name)
    return Write("deadletter", key.encode(), msgspec.json.encode(letter), letter.offset)
