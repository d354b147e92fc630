"""Facet rows as bytes: written from the fold's state, and read back into it after a restart."""

from typing import Any, NamedTuple, Protocol

import msgspec

from streams.facets import endpoint_set as sets
from streams.facets.slice_text import LEGACY_PREFIX
from streams.wire.records import (
    AsOf,
    Cause,
    Event,
    FrontendRow,
    Group,
    Rejection,
    RowHead,
    ServiceContent,
    ServiceReference,
    SliceGroup,
    SourceContent,
)
from streams.wire.routing_records import ServiceObject
from streams.wire.validation import check_service

_encode = msgspec.json.encode
_service_in = msgspec.json.Decoder(ServiceObject)
_frontend_in = msgspec.json.Decoder(FrontendRow)


class _BackendHead(RowHead, kw_only=True):
    service: ServiceReference | None
    groups: msgspec.Raw
    change: msgspec.Raw


class _Identity(msgspec.Struct):
    uid: str


_uid_in = msgspec.json.Decoder(_Identity)
_backend_in = msgspec.json.Decoder(_BackendHead)
_groups_in = msgspec.json.Decoder(list[Group])


STAMPS = frozenset({"version", "previous", "asOf", "cause", "change"})
"""What says where in its journal a row stands, not what it says of the Service."""


class Context(NamedTuple):
    """What all rows of one commit share. `stale_since` and `lost` say what the cluster's state does to its rows."""

    cluster: str
    offset: int
    as_of: bytes
    stale_since: str
    lost: bool


class Frontend(NamedTuple):
    """A frontend as held. `content` is the canonical JSON of a ServiceContent, kept when the Service is gone."""

    version: int | None
    exists: bool
    content: bytes
    state: str
    reason: str
    rejected: tuple[Rejection, ...]


class HeldBackend(NamedTuple):
    """A backend as held; `service` is (uid, type), None while there is no Service."""

    version: int | None
    service: tuple[str, str] | None
    backend: sets.Backend
    state: str
    reason: str
    rejected: tuple[Rejection, ...]


NO_FRONTEND = Frontend(None, False, b"", "deleted", "", ())
NO_BACKEND = HeldBackend(None, None, sets.NOTHING, "deleted", "", ())


def context(cluster: str, offset: int, as_of: AsOf, stale_since: str, lost: bool) -> Context:
    """The part of a commit's rows that is the same in all of them."""
    return Context(cluster, offset, _encode(as_of), stale_since, lost)


def read_service(body: bytes) -> tuple[bytes, ServiceObject]:
    """A Service's canonical content, as a frontend row has it, and all that the journal says of it. Raises
    msgspec.ValidationError, and ValueError for cluster IPs that are none."""
    service = _service_in.decode(body)
    check_service(service)
    # Without its routing, a ServiceObject is written as a ServiceContent is.
    content = service if service.routing is None else msgspec.structs.replace(service, routing=None)
    return _encode(content), service


def uid_in(content: bytes) -> str:
    """The uid in a frontend's content."""
    return _uid_in.decode(content).uid


def read_frontend(value: bytes) -> tuple[Frontend, str]:
    """A frontend row's state, and the time of the commit that made it."""
    row: Any = _frontend_in.decode(value)
    content = ServiceContent(**{name: getattr(row, name) for name in ServiceContent.__struct_fields__})
    held = Frontend(row.version, row.state != "deleted", _encode(content), row.state, row.reason, tuple(row.rejected))
    return held, row.as_of.at


def read_backend(value: bytes) -> tuple[HeldBackend, str]:
    """A backend row's state (without the legacy Endpoints), and the time of the commit that made it."""
    row = _backend_in.decode(value)
    service = (row.service.uid, row.service.type) if row.service else None
    held = HeldBackend(
        row.version, service, sets.read_row_groups(row.groups), row.state, row.reason, tuple(row.rejected)
    )
    return held, row.as_of.at


def legacy_in(value: bytes) -> Event | None:
    """The legacy Endpoints that a backend row shows: as an event that applies them, or deletes them where there are
    none; None where the row does not tell, because there is no Service or there are slices."""
    row = _backend_in.decode(value)
    groups = _groups_in.decode(row.groups)
    own = [group for group in groups if group.slice.startswith(LEGACY_PREFIX)]
    if row.service is None or len(own) != len(groups):
        return None
    shown = [SliceGroup(each.family, each.ports, [*each.endpoints, *each.shadowed]) for each in own]
    return Event(
        op="apply" if own else "delete",
        kind="Endpoints",
        namespace=row.namespace,
        name=row.name,
        service=row.name,
        uid=own[0].uid if own else "",
        resource_version=own[0].resource_version if own else "",
        object=msgspec.Raw(_encode(SourceContent(shown))),
    )


def frontend_state(exists: bool, ctx: Context, rejected: tuple[Rejection, ...]) -> tuple[str, str]:
    """State and reason of a frontend."""
    return overlaid("ready" if exists else "deleted", "" if exists else "ServiceNotFound", ctx, rejected)


def backend_state(
    service: tuple[str, str] | None, backend: sets.Backend, ctx: Context, rejected: tuple[Rejection, ...]
) -> tuple[str, str]:
    """State and reason of a backend: `empty` is known to be empty, and says by what."""
    if service is None:
        return overlaid("deleted", "ServiceNotFound", ctx, rejected)
    if not sets.is_empty(backend):
        return overlaid("ready", "", ctx, rejected)
    if service[1] == "ExternalName":
        return overlaid("empty", "ExternalName", ctx, rejected)
    return overlaid("empty", "NoEndpoints" if backend.counted else "NoEndpointSlices", ctx, rejected)


def overlaid(state: str, reason: str, ctx: Context, rejected: tuple[Rejection, ...]) -> tuple[str, str]:
    """State and reason with what the cluster's state, or rejected objects, do to them."""
    if ctx.lost and state != "deleted":
        return "unknown", "JournalExpired: waiting for the next complete snapshot"
    if state != "deleted" and ctx.stale_since:
        return "stale", f"ClusterUnreachable: since {ctx.stale_since}"
    if rejected:
        bad = rejected[0]
        text = f"ObjectRejected: {bad.kind} {bad.name} at {bad.resource_version}: {bad.message}"
        return state, f"{reason}; {text}" if reason else text
    return state, reason


def same_content(one: bytes, other: bytes) -> bool:
    """Whether two rows say the same of the Service, wherever in its journal each of them stands."""
    bare = [{k: v for k, v in msgspec.json.decode(each).items() if k not in STAMPS} for each in (one, other)]
    return bool(bare[0] == bare[1])


def frontend_row(ctx: Context, key: str, new: Frontend, previous: int | None, cause: list[Cause]) -> bytes:
    """The wire bytes of a frontend row."""
    return b"%b,%b" % (row_head(ctx, key, previous, new, cause), new.content[1:])


def backend_row(
    ctx: Context, key: str, new: HeldBackend, previous: int | None, *, cause: list[Cause], difference: sets.Difference
) -> bytes:
    """The wire bytes of a backend row."""
    service = new.service
    return b'%b,"service":%b,"groups":[%b],"change":%b}' % (
        row_head(ctx, key, previous, new, cause),
        b"null" if service is None else service_json(*service),
        sets.encode_groups(new.backend, withdrawn=service is None),
        sets.encode_difference(difference),
    )


def service_json(uid: str, kind: str) -> bytes:
    """A backend row's `service`."""
    return b'{"uid":%b,"type":"%b"}' % (_encode(uid), kind.encode())


class Head(Protocol):
    """What is held of a Service in a table, as far as it is in the head of a row."""

    @property
    def state(self) -> str:
        """The row's state."""

    @property
    def reason(self) -> str:
        """The state's reason."""

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """The objects that could not be read."""


def row_head(ctx: Context, key: str, previous: int | None, new: Head, cause: list[Cause]) -> bytes:
    """What the rows of all tables begin with, without the closing brace."""
    cluster, namespace, name = key.encode().split(b"/")
    head = b'{"cluster":"%b","namespace":"%b","name":"%b","version":%d,"previous":%b,"state":"%b","reason":%b' % (
        cluster,
        namespace,
        name,
        ctx.offset,
        b"null" if previous is None else b"%d" % previous,
        new.state.encode(),
        _encode(new.reason) if new.reason else b'""',
    )
    head = b'%b,"asOf":%b,"cause":%b' % (head, ctx.as_of, _encode(cause))
    return b'%b,"rejected":%b' % (head, _encode(new.rejected)) if new.rejected else head
