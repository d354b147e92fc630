"""The journal's events as the watcher writes them."""

from typing import Any

import msgspec
import orjson

from streams.wire.routing_records import OperatorRouting

_EXCERPT = 4096

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
