"""Rows in their two forms: as the topics carry them, and as the commands and HTTP print them."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Literal

import msgspec

from streams.wire import clusterset_records, records, routing_records
from streams.wire.records import CLUSTERSET, ChangeGroup, Group, decode_row

_encode = msgspec.json.encode

ROW_TYPES: dict[str, Any] = {
    "frontend": records.FrontendRow,
    "backend": records.BackendRow,
    "routing": routing_records.RoutingRow,
    CLUSTERSET: clusterset_records.SetRow,
}
"""The topics' form, by table; of the clusterset that of a set."""


_ENDPOINT = msgspec.defstruct(
    "Endpoint",
    [
        (field.encode_name, field.type, *(() if field.required else (field.default,)))
        for field in msgspec.structs.fields(records.SliceEndpoint)
    ]
    + [("family", records.Family), ("ports", list[records.EndpointPort]), ("slice", str)],
    kw_only=True,
    forbid_unknown_fields=True,
)
_ENDPOINT_CHANGE = msgspec.defstruct(
    "EndpointChange",
    [(name, list[_ENDPOINT]) for name in ("added", "removed", "updated")],  # type: ignore[valid-type]
    forbid_unknown_fields=True,
)


_SET_ENDPOINT = msgspec.defstruct(
    "SetEndpoint",
    [("cluster", str), ("dnsName", str | msgspec.UnsetType, msgspec.UNSET)],
    bases=(_ENDPOINT,),
    namespace={
        "__doc__": "An endpoint of a set. `dnsName` is its host's own, where the set is Headless and it has one."
    },
    kw_only=True,
    forbid_unknown_fields=True,
)
_SHOWN_EXPORT = msgspec.defstruct(
    "ShownExport",
    [("asOf", records.AsOf | msgspec.UnsetType, msgspec.UNSET)],
    bases=(clusterset_records.SetExport,),
    namespace={"__doc__": "A cluster's export, and where in its cluster's history its contribution stands."},
    kw_only=True,
    forbid_unknown_fields=True,
)
_SET_DOC = (
    "The Service of all clusters that export it, joined with what they contribute: `endpoints` are those of the "
    "clusters that are `counted`, each with its `cluster` and with the set's names of ports; no address, port and "
    "protocol is there twice. `version`, `asOf` and `cause` are of the newest change, of the set or of the cluster "
    "`origin`; `previous` is the version that the joined set had before. `cluster` is empty."
)


def row_view(table: str, *, tagged: bool, in_batch: bool = False) -> Any:
    """The printed form, as `records.decode_row` makes it: that of the topic, but a backend's groups are spread out
    into whole endpoints, and a set is joined with its clusters' contributions (`subscription/set_rows`). `table` is in
    it where rows of several tables stand together: always with `tagged`. A backend row `in_batch` may be without its
    `endpoints` (`without_endpoints`)."""
    kind = ROW_TYPES[table]
    fields: list[Any] = [] if tagged else [("table", Literal[table] | msgspec.UnsetType, msgspec.UNSET)]
    for field in msgspec.structs.fields(kind):
        if table == "backend" and field.name in {"groups", "change"}:
            continue
        if table == CLUSTERSET and field.name == "exports":
            fields.append(("exports", list[_SHOWN_EXPORT]))  # type: ignore[valid-type]
        elif field.required:
            fields.append((field.encode_name, field.type))
        elif field.default is not msgspec.NODEFAULT:
            fields.append((field.encode_name, field.type, field.default))
        else:
            fields.append((field.encode_name, field.type, msgspec.field(default_factory=field.default_factory)))
    if table == "backend":
        endpoints: Any = list[_ENDPOINT]  # type: ignore[valid-type]
        optional = ("endpoints", endpoints | msgspec.UnsetType, msgspec.UNSET)
        fields += [optional if in_batch else ("endpoints", endpoints), ("change", _ENDPOINT_CHANGE)]
    if table == CLUSTERSET:
        fields.append(("endpoints", list[_SET_ENDPOINT]))  # type: ignore[valid-type]
    text = _SET_DOC if table == CLUSTERSET else kind.__doc__
    return msgspec.defstruct(
        f"{table.capitalize()}{'InBatch' if in_batch else 'View'}", fields, namespace={"__doc__": text},
        kw_only=True, forbid_unknown_fields=True, tag_field="table" if tagged else None, tag=table if tagged else None,
    )  # fmt: skip


class _Change(msgspec.Struct):
    added: list[ChangeGroup]
    removed: list[ChangeGroup]
    updated: list[ChangeGroup]


_decode_change = msgspec.json.Decoder(_Change).decode
_BEGIN, _GROUPS, _CHANGE = b'{"cluster":"', b'"groups":', b',"change":'
_ENDPOINTS, _LISTS = b'"endpoints":[', b'],"change":{"added":['


def print_row(table: str, value: bytes, groups: list[Group]) -> bytes:
    """The printed form as JSON in one line, with the table's name first. `groups` are a backend's, which are spread out
    without decoding them again."""
    # As workers write them: no white space, a backend's groups before its change, which is last.
    if value.startswith(_BEGIN) and b"\n" not in value and b"\r" not in value:
        if table != "backend":
            return b'{"table":"%b",%b' % (table.encode(), value[1:])
        if text := _print_backend(value, groups):
            return text
    return _encode({"table": table, **decode_row(table, value)})


def without_endpoints(text: bytes) -> bytes:
    """A printed row with its change alone: a backend's `endpoints` are left out, other rows have none. Whoever holds
    the row of version `previous` has the same set by taking `change.removed` out of it and putting `added` and
    `updated` in, each by (family, address, port name, protocol, port number)."""
    # Quotation marks in a JSON string are escaped: these are names of fields.
    head, endpoints, rest = text.partition(_ENDPOINTS)
    _, change, lists = rest.partition(_LISTS)
    return b"%b%b%b" % (head, change[2:], lists) if endpoints and change else text


def _print_backend(value: bytes, groups: list[Group]) -> bytes:
    head, separator, change = value.partition(_GROUPS + _encode(groups) + _CHANGE)
    try:
        lists = _decode_change(change[:-1]) if separator else None
    except msgspec.DecodeError:  # Something follows it.
        return b""
    if lists is None:
        return b""
    return b'{"table":"backend",%b"endpoints":[%b],"change":{"added":[%b],"removed":[%b],"updated":[%b]}}' % (
        head[1:],
        _spread(groups),
        _spread(lists.added),
        _spread(lists.removed),
        _spread(lists.updated),
    )


def _spread(groups: Sequence[Group | ChangeGroup]) -> bytes:
    """As `records.spread`: each endpoint with its group's family and ports behind its address, and its slice last."""
    endpoints: list[tuple[str, str, str, bytes]] = []
    for group in groups:
        shared = b',"family":"%b","ports":%b' % (group.family.encode(), _encode(group.ports))
        last = b',"slice":%b}' % _encode(group.slice)
        for endpoint in group.endpoints:
            text = _encode(endpoint)
            address = len(b'{"address":') + len(_encode(endpoint.address))
            text = text[:address] + shared + text[address:-1] + last
            endpoints.append((group.family, endpoint.address, group.slice, text))
    endpoints.sort(key=itemgetter(0, 1, 2))
    return b",".join([text for *_, text in endpoints])
