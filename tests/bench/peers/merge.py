"""The work of the Python peers, as somebody writes it who does not know that it is to be fast: objects, no bytes.

No imports of the project: the peers run it in an environment of their own.
"""

from typing import Any

Json = dict[str, Any]


def key_of(cluster: str, event: Json) -> str:
    """The row's key."""
    return f"{cluster}/{event['namespace']}/{event['service']}"


def apply(old: Json | None, key: str, event: Json) -> Json:
    """The Service's row after an event; it is also the state that the next event needs."""
    slices = {group["slice"]: group for group in old["groups"]} if old else {}
    service = bool(old and old["service"])
    before = _merged(slices)
    if event["kind"] == "Service":
        service = event["op"] == "apply"
    elif event["op"] == "apply":
        (group,) = event["object"]["groups"]
        slices[event["name"]] = {
            "slice": event["name"],
            "uid": event["uid"],
            "resourceVersion": event["resourceVersion"],
            **group,
        }
    else:
        slices.pop(event["name"], None)
    after = _merged(slices)
    return {
        "key": key,
        "service": service,
        "state": "deleted" if not service else "ready" if after else "empty",
        "cause": {name: event[name] for name in ("kind", "name", "uid", "resourceVersion")},
        "groups": [slices[name] for name in sorted(slices)],
        "change": {
            "added": [endpoint for identity, endpoint in after.items() if identity not in before],
            "removed": [endpoint for identity, endpoint in before.items() if identity not in after],
            "updated": [
                endpoint for identity, endpoint in after.items() if identity in before and before[identity] != endpoint
            ],
        },
    }


def _merged(slices: dict[str, Json]) -> dict[tuple[str, str, str], Json]:
    """By family, ports and address; where two slices claim one, the newer says what it is."""
    found = {}
    for group in sorted(slices.values(), key=lambda each: int(each["resourceVersion"])):
        for endpoint in group["endpoints"]:
            found[group["family"], str(group["ports"]), endpoint["address"]] = endpoint
    return found
