"""Which records of a facet topic can be read. The tables follow from the journal, so what can't be read is skipped, and
the worker that owns the partition writes the right row or seal over it.

Fields that this release doesn't know are let through: a newer worker may write them.
"""

import re
from typing import Any

import msgspec

from streams.facets.reading import read_source_event
from streams.wire.keys import COMPANION_PREFIX, INTERNAL, SEAL_PREFIX
from streams.wire.records import (
    CLUSTER_NAME,
    AsOf,
    Cause,
    ChangeGroup,
    Event,
    Group,
    Rejection,
    Seal,
    ServicePort,
    ServiceReference,
    ServiceType,
    State,
)
from streams.wire.routing_records import Decision, ObjectReference, RoutedService, SessionPersistence
from streams.wire.validation import check_frontier, is_service_key

NO_VERSION = -1
"""The version of a record without a stamp."""

BAD_VERSION = -2
"""The version of a record whose stamp is no version."""

_MAX_DIGITS = 18
_CLUSTER = re.compile(CLUSTER_NAME)


class _Head(msgspec.Struct, rename="camel"):
    cluster: str
    namespace: str
    name: str
    version: int
    previous: int | None
    state: State
    reason: str
    as_of: AsOf
    cause: list[Cause]
    rejected: list[Rejection] = []


class _Frontend(_Head, kw_only=True):
    uid: str
    type: ServiceType
    cluster_ips: list[str] = msgspec.field(name="clusterIPs")
    ip_families: list[str]
    dns_name: str
    external_name: str | None
    headless: bool
    ports: list[ServicePort]
    selector: dict[str, str] | None
    session_affinity: str
    session_affinity_timeout_seconds: int | None
    traffic_distribution: str | None
    internal_traffic_policy: str | None
    external_traffic_policy: str | None
    publish_not_ready_addresses: bool


class _Change(msgspec.Struct):
    added: list[ChangeGroup]
    removed: list[ChangeGroup]
    updated: list[ChangeGroup]


class _Backend(_Head, kw_only=True):
    service: ServiceReference | None
    groups: list[Group]
    change: _Change


class _Direction(msgspec.Struct, rename="camel"):
    decision: Decision
    reason: str
    because: list[ObjectReference]
    session_persistence: SessionPersistence | None
    rules: list[Any]


class _Mesh(_Direction):
    consumers: dict[str, _Direction] = {}


class _Routing(_Head, kw_only=True):
    service: RoutedService | None
    gateway: _Direction
    mesh: _Mesh
    routes: list[Any]
    policies: list[Any]


_rows: dict[str, msgspec.json.Decoder[Any]] = {
    "frontend": msgspec.json.Decoder(_Frontend),
    "backend": msgspec.json.Decoder(_Backend),
    "routing": msgspec.json.Decoder(_Routing),
}
_decode_seal = msgspec.json.Decoder(Seal).decode
_decode_event = msgspec.json.Decoder(Event).decode


def version_in(stamp: bytes | None) -> int:
    """The version in a record's header; BAD_VERSION where there is none in it."""
    text = stamp or b""
    return int(text) if text.isdigit() and len(text) <= _MAX_DIGITS else BAD_VERSION


def unreadable(table: str, key: bytes, value: bytes | None, version: int) -> str:
    """Why a record can't be read; "" where it can. A tombstone can be, whatever its key is."""
    if version < 0:
        return "it has no version stamp" if version == NO_VERSION else "its version stamp is no number"
    if value is None:
        return ""
    try:
        if key.startswith(SEAL_PREFIX):
            return _bad_seal(key, _decode_seal(value), version)
        if key.startswith(INTERNAL):
            return _bad_internal(key, value)
        if not is_row_key(key):
            return "its key is no CLUSTER/NAMESPACE/NAME"
        row = _rows[table].decode(value)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return str(error)
    if row.version != version:
        return f"the row is of version {row.version}, its stamp of {version}"
    if f"{row.cluster}/{row.namespace}/{row.name}".encode() != key:
        return "the row is another Service's"
    return ""


def is_row_key(key: bytes) -> bool:
    """Whether this can be the key of a row."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return False
    return is_service_key(text) and _CLUSTER.search(text.partition("/")[0]) is not None


def _bad_seal(key: bytes, seal: Seal, version: int) -> str:
    if seal.offset != version:
        return f"it seals {seal.offset}, its stamp is {version}"
    if key != SEAL_PREFIX + seal.cluster.encode():
        return "it is another cluster's seal"
    check_frontier(seal.frontier)
    return ""


def _bad_internal(key: bytes, value: bytes) -> str:
    if key.startswith(COMPANION_PREFIX):
        if not is_row_key(key[len(COMPANION_PREFIX) :]):
            return "its key is of no Service"
        read_source_event(_decode_event(value), None)
    return ""
