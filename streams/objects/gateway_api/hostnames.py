"""Hostnames of listeners and routes: which requests they have in common, and which of them go first.

A hostname that begins with `*.` is a suffix: `*.example.com` takes `a.example.com` and `b.a.example.com`, not
`example.com` (HTTPRouteSpec.hostnames). "" takes any.
"""

from collections.abc import Iterable


def intersection(listener: str, route: Iterable[str]) -> list[str] | None:
    """The hostnames for which a route gets requests at a listener: [""] for any; None where they have none in
    common."""
    own = list(dict.fromkeys(name.lower() for name in route))
    if not own:
        return [listener.lower()]
    common = [name for hostname in own if (name := common_to(listener.lower(), hostname)) is not None]
    return sorted(set(common)) or None


def common_to(one: str, other: str) -> str | None:
    """The hostname for what two hostnames have in common: the more specific one; None where that is nothing."""
    if not one or not other or one == other:
        return one or other
    if one.startswith("*.") and other.endswith(one[1:]):
        return other
    if other.startswith("*.") and one.endswith(other[1:]):
        return one
    return None


def specificity(hostname: str) -> tuple[int, int]:
    """Sorts the hostnames that go first to the front: those with the most characters, without a wildcard before those
    with one."""
    return (0 if hostname.startswith("*.") else -len(hostname)), -len(hostname)
