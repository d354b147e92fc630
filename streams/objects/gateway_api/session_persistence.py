"""Session persistence (GEP-1619). Its place in the API may move between releases: only this module depends on
it."""

import re
from typing import Any

import msgspec
import orjson

from streams.objects.fields import Json, MalformedObject, mapping, text
from streams.wire.routing_records import SessionPersistence

_DURATION = re.compile("([0-9]{1,5}(h|m|s|ms)){1,4}")
_decode = msgspec.json.Decoder(SessionPersistence).decode


def read_session_persistence(holder: Json, at: str) -> SessionPersistence | None:
    """The session persistence of a route's rule or a policy's spec; None where it has none. Raises MalformedObject."""
    value, at = holder.get("sessionPersistence"), f"{at}.sessionPersistence"
    if value is None:
        return None
    persistence = mapping(value, at)
    kind = text(persistence.get("type"), f"{at}.type", "Cookie")
    config = mapping(persistence.get("cookieConfig"), f"{at}.cookieConfig")
    lifetime = text(config.get("lifetimeType"), f"{at}.cookieConfig.lifetimeType", "Session")
    body = {
        "type": kind,
        "sessionName": text(persistence.get("sessionName"), f"{at}.sessionName", "") or None,
        "absoluteTimeout": _duration(persistence.get("absoluteTimeout"), f"{at}.absoluteTimeout"),
        "idleTimeout": _duration(persistence.get("idleTimeout"), f"{at}.idleTimeout"),
        "cookieLifetime": lifetime if kind == "Cookie" else None,
    }
    try:
        return _decode(orjson.dumps(body))
    except msgspec.ValidationError as error:
        raise MalformedObject(f"{at}: {error}") from None


def _duration(value: Any, at: str) -> str | None:
    if value is None or (isinstance(value, str) and _DURATION.fullmatch(value)):
        return value
    raise MalformedObject(f"{at}: {value!r:.80} is not a duration such as 1h30m")
