"""Rows in their two forms: as the topics carry them, and as the commands and HTTP print them."""

from typing import Any, Literal

import msgspec

from streams.wire import records, routing_records

ROW_TYPES: dict[str, Any] = {
    "frontend": records.FrontendRow,
    "backend": records.BackendRow,
    "routing": routing_records.RoutingRow,
}
"""The topics' form, by table."""


def row_view(table: str, *, tagged: bool) -> Any:
    """The printed form, as `records.decode_row` makes it: that of the topic, but a backend's groups are spread out
    into whole endpoints. `table` is in it where rows of several tables stand together: always with `tagged`."""
    kind = ROW_TYPES[table]
    fields: list[Any] = [] if tagged else [("table", Literal[table] | msgspec.UnsetType, msgspec.UNSET)]
    for field in msgspec.structs.fields(kind):
        if table == "backend" and field.name in {"groups", "change"}:
            continue
        if field.required:
            fields.append((field.encode_name, field.type))
        elif field.default is not msgspec.NODEFAULT:
            fields.append((field.encode_name, field.type, field.default))
        else:
            fields.append((field.encode_name, field.type, msgspec.field(default_factory=field.default_factory)))
    if table == "backend":
        endpoint = msgspec.defstruct(
            "Endpoint",
            [(field.encode_name, field.type) for field in msgspec.structs.fields(records.SliceEndpoint)]
            + [("family", records.Family), ("ports", list[records.EndpointPort]), ("slice", str)],
            forbid_unknown_fields=True,
        )
        changed = [(name, list[endpoint]) for name in ("added", "removed", "updated")]  # type: ignore[valid-type]
        change = msgspec.defstruct("EndpointChange", changed, forbid_unknown_fields=True)
        fields += [("endpoints", list[endpoint]), ("change", change)]  # type: ignore[valid-type]
    return msgspec.defstruct(
        f"{table.capitalize()}View", fields, namespace={"__doc__": kind.__doc__}, kw_only=True,
        forbid_unknown_fields=True, tag_field="table" if tagged else None, tag=table if tagged else None,
    )  # fmt: skip
