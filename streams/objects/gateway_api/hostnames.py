"""Hostnames of listeners and routes: their intersection, and their precedence.

A hostname that begins with `*.` is a suffix: `*.example.com` matches `a.example.com` and `b.a.example.com`,
not `example.com` (HTTPRouteSpec.hostnames). "" matches any.
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


def common_to(first: str, second: str) -> str | None:
    """The intersection of two hostnames: the more specific one; None where they have nothing in common."""
    if not first or not second or first == second:
        return first or second
    if first.startswith("*.") and second.endswith(first[1:]):
        return second
    if second.startswith("*.") and first.endswith(second[1:]):
        return first
    return None


def specificity(hostname: str) -> tuple[int, int]:
    """Sorts the hostnames that go first to the front: those with the most characters, without a wildcard before those
    with one."""
    return (0 if hostname.startswith("*.") else -len(hostname)), -len(hostname)
