"""Reads the fields of decoded JSON: each reader checks one value, and its error names the field (`at`). An absent field
(None) gets the default that the caller passes."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from typing import Any, NamedTuple

from streams.wire.name_syntax import DNS_LABEL, KUBERNETES_NAME
from streams.wire.validation import DNS_NAME, IPV4, MAX_ID

Json = Mapping[str, Any]

MAX_TEXT = 1024
"""Characters of a text field."""

_MAX_PORT = 65535
_MAX_INTEGER = 2**63 - 1
_IPV4 = re.compile(IPV4)
_LEADING_ZEROS = re.compile(r"(?<![0-9A-Fa-f])0+(?=[0-9A-Fa-f])")


class MalformedObject(ValueError):
    """An object that breaks its API's schema; the message names the field and its value."""


class Metadata(NamedTuple):
    """An object's identity; `namespace` is "" for what has none, uid and resourceVersion where they are absent."""

    namespace: str
    name: str
    uid: str
    resource_version: str


def identify(item: Any, namespaced: bool = True) -> Metadata:
    """The object's identity. Raises MalformedObject."""
    if not isinstance(item, dict):
        raise MalformedObject(f"{item!r:.80} is not a JSON object")
    meta = item.get("metadata")
    if not isinstance(meta, dict):
        raise MalformedObject("metadata: is missing")
    name = _name(meta.get("name"), "metadata.name")
    namespace = _name(meta.get("namespace"), "metadata.namespace") if namespaced else ""
    uid = _identifier(meta.get("uid"), "metadata.uid")
    version = _identifier(meta.get("resourceVersion"), "metadata.resourceVersion")
    if version and not (version.isascii() and version.isdigit()):
        raise MalformedObject(f"metadata.resourceVersion: {version!r} is not a decimal number")
    return Metadata(namespace, name, uid, version)


def is_name(value: Any) -> bool:
    """Whether the value can be the name of an object or a namespace (RFC 1123, as the API checks it)."""
    return isinstance(value, str) and KUBERNETES_NAME.expression.fullmatch(value) is not None


def _name(value: Any, at: str) -> str:
    if not is_name(value):
        raise MalformedObject(f"{at}: {value!r:.80} is not a name")
    return str(value)


def _identifier(value: Any, at: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > MAX_ID:
        raise MalformedObject(f"{at}: {value!r:.80} is not a string of at most {MAX_ID} characters")
    return value


# ---- structure -----------------------------------------------------------------------------------------


def mapping(value: Any, at: str) -> Json:
    """An object; {} where it is absent."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MalformedObject(f"{at}: {value!r:.80} is not an object")
    return value


def array(value: Any, at: str) -> list[Any]:
    """A list; [] where it is absent."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise MalformedObject(f"{at}: {value!r:.80} is not a list")
    return value


def objects(value: Any, at: str) -> list[Json]:
    """A list of objects; [] where it is absent."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(element, dict) for element in value):
        raise MalformedObject(f"{at}: {value!r:.80} is not a list of objects")
    return value


def texts(metadata: Json, field: str) -> dict[str, str]:
    """The strings in a map of the metadata (labels, annotations)."""
    value = metadata.get(field)
    return {key: text for key, text in value.items() if isinstance(text, str)} if isinstance(value, dict) else {}


# ---- values --------------------------------------------------------------------------------------------


def text(value: Any, at: str, absent: str | None = None) -> str:
    """A string; `absent` is the default (None: the field is required)."""
    if value is None and absent is not None:
        return absent
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise MalformedObject(f"{at}: {value!r:.80} is not a string of at most {MAX_TEXT} characters")
    return value


def optional_text(value: Any, at: str) -> str | None:
    """A string; None where it is absent or empty."""
    return text(value, at, "") or None


def optional_label(value: Any, at: str) -> str | None:
    """A DNS label (RFC 1123, in lower case); None where it is absent or empty."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not DNS_LABEL.matches(value):
        raise MalformedObject(f"{at}: {value!r:.80} is not a DNS label")
    return value


def flag(value: Any, at: str, absent: bool) -> bool:
    """True or false."""
    if value is None:
        return absent
    if not isinstance(value, bool):
        raise MalformedObject(f"{at}: {value!r:.80} is neither true nor false")
    return value


def integer(value: Any, at: str, absent: int, minimum: int = -_MAX_INTEGER, maximum: int = _MAX_INTEGER) -> int:
    """A whole number."""
    if value is None:
        return absent
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        bounds = "" if maximum == _MAX_INTEGER else f" from {minimum} to {maximum}"
        raise MalformedObject(f"{at}: {value!r:.80} is not a whole number{bounds}")
    return value


def port(value: Any, at: str) -> int:
    """A port number, 0 to 65535."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_PORT:
        raise MalformedObject(f"{at}: {value!r:.80} is not a port number")
    return value


def optional_port(value: Any, at: str) -> int | None:
    """A port number; None where it is absent."""
    return None if value is None else port(value, at)


def one_of(value: Any, at: str, choices: Iterable[str], absent: str | None = None) -> str:
    """One of `choices`; `absent` is the default if it is absent or empty (None: the field is required)."""
    if absent is not None and (value is None or value == ""):
        return absent
    if value not in choices:
        raise MalformedObject(f"{at}: {value!r:.80} is not one of {', '.join(choices)}")
    return str(value)


# ---- addresses -----------------------------------------------------------------------------------------


def address(value: Any, at: str, family: str) -> str:
    """An address of an EndpointSlice's addressType, in canonical form."""
    if family != "FQDN":
        return ip(value, at, family)
    if not isinstance(value, str) or not DNS_NAME.fullmatch(value):
        raise MalformedObject(f"{at}: {value!r:.80} is not a DNS name")
    return value


def ip(value: Any, at: str, family: str | None = None) -> str:
    """An IP address (of the family, if one is named), in canonical form.

    Old API servers let in what RFC 4291 and 6943 don't, and such objects stay: leading zeros are read as decimal and
    IPv4-mapped IPv6 addresses as IPv4, as kube-proxy reads them (k8s.io/utils/net ParseIPSloppy; KEP-4858)."""
    if family != "IPv6" and isinstance(value, str) and _IPV4.fullmatch(value):
        return value
    try:
        if not isinstance(value, str) or "%" in value:
            raise ValueError
        parsed = ip_address(_LEADING_ZEROS.sub("", value))
    except ValueError:
        raise MalformedObject(f"{at}: {value!r:.80} is not an IP address") from None
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    if family is not None and f"IPv{parsed.version}" != family:
        raise MalformedObject(f"{at}: {value!r:.80} is not of the family {family}")
    return str(parsed)


def family_of(address: str) -> str:
    """`IPv6` where the address has a colon, else `IPv4`."""
    return "IPv6" if ":" in address else "IPv4"
