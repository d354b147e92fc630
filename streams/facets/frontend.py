"""The frontend table: a Service's cluster IPs and DNS name, with what decides how they are reached."""

from typing import Any, NamedTuple

import msgspec

from streams.facets import overlay
from streams.facets.changes import ServiceChange
from streams.facets.initial_rows import InitialObjects
from streams.facets.table import RowUpdate, Table
from streams.wire.records import (
    SERVED_PROTOCOLS,
    Cause,
    FrontendRow,
    Rejection,
    ServiceContent,
    ServicePort,
    UnservedPort,
)
from streams.wire.row_codec import RowContext, encode_head

_encode = msgspec.json.encode
_decode_row = msgspec.json.Decoder(FrontendRow).decode


class _Identity(msgspec.Struct):
    uid: str


class _Ports(msgspec.Struct):
    ports: list[ServicePort]


_decode_ports = msgspec.json.Decoder(_Ports).decode
_decode_identity = msgspec.json.Decoder(_Identity).decode


class FrontendEntry(NamedTuple):
    """The frontend table's entry. `content` is the canonical JSON of a ServiceContent, kept when the Service is
    deleted. Of a Service that could never be read, `exists` is false, and the content says nothing but the uid."""

    version: int | None
    exists: bool
    content: bytes
    state: str
    reason: str
    rejected: tuple[Rejection, ...]


class FrontendTable(Table[FrontendEntry]):
    """Follows from the Service alone."""

    name = "frontend"
    kinds = frozenset({"Service"})
    nothing = FrontendEntry(None, False, b"", "deleted", "", ())

    def read(self, row: bytes) -> FrontendEntry:
        """See Table."""
        fields: Any = _decode_row(row)
        content = ServiceContent(**{name: getattr(fields, name) for name in ServiceContent.__struct_fields__})
        exists, rejected = fields.state != "deleted" and fields.dns_name != "", tuple(fields.rejected)
        return FrontendEntry(fields.version, exists, _encode(content), fields.state, fields.reason, rejected)

    def fold(
        self, ctx: RowContext, key: str, entry: FrontendEntry, change: ServiceChange
    ) -> RowUpdate[FrontendEntry] | None:
        """See Table."""
        exists, content, causes = entry.exists, entry.content, []
        if (service := change.service) is not None:
            exists = service.content is not None
            if exists:
                content = service.content[0]
            causes.append(service.cause)
        rejected = overlay.rejected_after(entry.rejected, change.marks, self.kinds)
        if rejected and not exists:
            content = _without_content(change, entry)
        state, reason = _state(exists, ctx, rejected)
        if not content or (exists, content, state, reason, rejected) == entry[1:]:
            return None
        causes += [cause for cause in change.rejections if cause.kind in self.kinds]
        new = FrontendEntry(ctx.offset, exists, content, state, reason, rejected)
        return RowUpdate(new, _encode_row(ctx, key, new, entry.version, causes))

    def fold_initial(
        self, ctx: RowContext, key: str, objects: InitialObjects, prepared: Any
    ) -> RowUpdate[FrontendEntry]:
        """See Table."""
        new = FrontendEntry(ctx.offset, True, objects.service_content, "ready", "", ())
        return RowUpdate(new, _encode_row(ctx, key, new, None, [objects.service_cause]))

    def prepare(self, key: str, objects: InitialObjects) -> Any:
        """See Table."""
        return objects.service_content

    def encode(self, ctx: RowContext, key: str, entry: FrontendEntry, previous: int | None) -> bytes:
        """See Table."""
        return _encode_row(ctx, key, entry, previous, [])

    def objects(self, key: str, entry: FrontendEntry) -> list[Cause]:
        """See Table."""
        if not entry.exists:
            return []
        return [Cause("Service", key.rpartition("/")[2], _decode_identity(entry.content).uid, "")]

    def is_finished(self, entry: FrontendEntry) -> bool:
        """See Table."""
        return not entry.exists and not entry.rejected


def _without_content(change: ServiceChange, entry: FrontendEntry) -> bytes:
    """The content of a Service that could never be read: its uid alone."""
    uids = [cause.uid for cause in change.rejections if cause.kind == "Service"]
    if not uids and entry.state == "unknown":
        return entry.content
    return _encode(
        ServiceContent(
            uid=uids[-1] if uids else "",
            type="ClusterIP",
            cluster_ips=[],
            ip_families=[],
            dns_name="",
            external_name=None,
            headless=False,
            ports=[],
            selector=None,
            session_affinity="None",
            session_affinity_timeout_seconds=None,
            traffic_distribution=None,
            internal_traffic_policy=None,
            external_traffic_policy=None,
            publish_not_ready_addresses=False,
        )
    )


def _state(exists: bool, ctx: RowContext, rejected: tuple[Rejection, ...]) -> tuple[str, str]:
    if rejected and not exists:
        return overlay.overlaid("unknown", overlay.explain(rejected[0]), ctx, rejected)
    return overlay.overlaid("ready" if exists else "deleted", "" if exists else "ServiceNotFound", ctx, rejected)


def _encode_row(ctx: RowContext, key: str, new: FrontendEntry, previous: int | None, causes: list[Cause]) -> bytes:
    head = encode_head(ctx, key, previous, state=new.state, reason=new.reason, rejected=new.rejected, causes=causes)
    return b"%b,%b%b" % (head, new.content[1:-1], _encode_unserved(new.content))


def _encode_unserved(content: bytes) -> bytes:
    """The end of a row: the ports that routers are not given, where there are any."""
    if b'"SCTP"' not in content:
        return b"}"
    unserved = [
        UnservedPort(port.name, port.port, port.protocol, "ProtocolNotServed")
        for port in _decode_ports(content).ports
        if port.protocol not in SERVED_PROTOCOLS
    ]
    return b',"unserved":%b}' % _encode(unserved) if unserved else b"}"
