"""The journal's events as the watcher writes them."""

from typing import Any

import msgspec
import orjson

from streams.wire.endpoint_text import BORDER, address_text, pieces, text_difference, without
from streams.wire.records import PatchEndpoint, SlicePatch
from streams.wire.routing_records import OperatorRouting

_EXCERPT = 4096
_decode_endpoint = msgspec.json.Decoder(PatchEndpoint).decode
_OBJECT, _ENDPOINTS, _END = b',"object":', b'"endpoints":[', b"]}]}}"

Key = tuple[str, str, str]
"""An object's kind, namespace and name."""


def apply_event(
    key: Key, service: tuple[str, str], *, uid: str, version: str, trigger: str = "", message: str = "", body: bytes
) -> bytes:
    """The object exists; `body` is its content for the Service, `message` names what was left out of it."""
    head = _head("apply", key, service, uid, version)
    if message:
        head["message"] = message
    if trigger:
        head["trigger"] = trigger
    return b'%b,"object":%b}' % (orjson.dumps(head)[:-1], body)


def patch_event(before: bytes, after: bytes) -> bytes | None:
    """What differs between two apply events of an EndpointSlice, as an event; None where the whole object has to be
    sent, or is not larger."""
    old_head, _, old_object = before.partition(_OBJECT)
    head, _, new_object = after.partition(_OBJECT)
    lead, border, new = new_object.partition(_ENDPOINTS)
    if not border or not old_object.startswith(lead + border) or not (new.endswith(_END) and old_object.endswith(_END)):
        return None
    old, new = old_object[len(lead) + len(border) : -len(_END)], new[: -len(_END)]
    at = text_difference(old, new)
    old_parts, new_parts = pieces(old[at.start : at.old_end]), pieces(new[at.start : at.new_end])
    added = without(new_parts, old_parts)
    addresses = {address_text(endpoint) for endpoint in added}
    gone = {address_text(endpoint) for endpoint in without(old_parts, new_parts)} - addresses
    if len(addresses) != len(added) or any(max(old.count(each), new.count(each)) > 1 for each in addresses | gone):
        return None
    stamp, old_stamp = orjson.loads(head + b"}"), orjson.loads(old_head + b"}")
    if stamp["uid"] != old_stamp["uid"] or not old_stamp["resourceVersion"]:
        return None
    if "message" in stamp or "message" in old_stamp:
        return None
    stamp |= {"op": "patch", "base": old_stamp["resourceVersion"]}
    removed = [orjson.loads(each[len(BORDER) - 1 :]) for each in sorted(gone)]
    body = msgspec.json.encode(SlicePatch(removed, [_decode_endpoint(each) for each in added]))
    patch = b'%b,"object":%b}' % (orjson.dumps(stamp)[:-1], body)
    return patch if len(patch) < len(after) else None


def delete_event(key: Key, service: tuple[str, str], *, uid: str, version: str) -> bytes:
    """The object is gone, or no longer affects the Service."""
    return orjson.dumps(_head("delete", key, service, uid, version))


def reject_event(key: Key, service: tuple[str, str], *, uid: str, version: str, message: str, item: Any) -> bytes:
    """The object exists, but can't be read."""
    return orjson.dumps(
        {
            **_head("reject", key, service, uid, version),
            "message": message,
            "excerpt": orjson.dumps(item)[:_EXCERPT].decode(errors="replace"),
        }
    )


def with_routing(event: bytes, routing: OperatorRouting | None) -> bytes:
    """A Service's apply event with its operator's routing choices set to `routing`."""
    decoded = orjson.loads(event)
    decoded["object"].pop("routing", None)
    if routing is not None:
        decoded["object"]["routing"] = msgspec.to_builtins(routing)
    return orjson.dumps(decoded)


def _head(operation: str, key: Key, service: tuple[str, str], uid: str, version: str) -> dict[str, str]:
    kind, namespace, name = key
    elsewhere = {"serviceNamespace": service[0]} if service[0] != namespace else {}
    return {
        "op": operation,
        "kind": kind,
        "namespace": namespace,
        "name": name,
        "service": service[1],
        "uid": uid,
        "resourceVersion": version,
        **elsewhere,
    }
