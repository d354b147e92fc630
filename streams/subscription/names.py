"""The names that the tables have, and errors that suggest the nearest ones for those that they don't."""

import logging
from collections.abc import Collection, Iterable, Iterator
from difflib import get_close_matches
from typing import NamedTuple

from streams.errors import FacetsError
from streams.exit_codes import ExitCode

_LISTED = 8
"""How many names are listed if none is near."""

_INITIAL_NAMESPACES = frozenset({"default", "kube-node-lease", "kube-public", "kube-system"})
"""Namespaces that every cluster has, with Services or without (Kubernetes, "Initial namespaces")."""


class UnknownName(FacetsError):
    """A cluster, namespace, Service or router that is not known."""

    exit_code = ExitCode.UNKNOWN_NAME


class KnownNames(NamedTuple):
    """The clusters, and the Services as (cluster, namespace, name)."""

    clusters: frozenset[str]
    services: frozenset[tuple[str, str, str]]


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names that are spelt most like this one, best first."""
    by_lower = {known_name.lower(): known_name for known_name in sorted(known)}
    return [by_lower[known_name] for known_name in get_close_matches(name.lower(), by_lower, most)]


def suggestion(name: str, known: Collection[str]) -> str:
    """A suggestion instead of an unknown name, as a part of a sentence; "" if nothing is known."""
    if near := nearest(name, known):
        return f"did you mean {_either(near)}?"
    listed = sorted(known)[:_LISTED]
    return f"there are {', '.join(listed)}{', ...' if len(known) > _LISTED else ''}" if listed else ""


def warn_of_unknown(log: logging.Logger, clusters: Iterable[str], known: Collection[str]) -> None:
    """Warn of clusters that are not known. That is no error for a process: watchers may start later."""
    for name in clusters:
        if name not in known:
            log.warning("cluster %s is not known yet; %s", name, suggestion(name, known) or "no cluster is")


def unknown_name(kind: str, name: str, known: Collection[str], where: str = "") -> UnknownName:
    """The error for one name of a kind such as "cluster"; `where` says where it was looked up."""
    return UnknownName(f'{kind} "{name}" not found{where}', suggestion(name, known))


def unknown_names(
    known: KnownNames, clusters: Iterable[str], namespaces: Iterable[str], services: Iterable[str]
) -> UnknownName | None:
    """The error for the unknown names of a selection: its clusters; its namespaces, in these clusters; its Services, in
    these clusters and namespaces. None if all are known. An empty selection means all, and is always known."""
    errors = list(_unknown(known, sorted(set(clusters)), sorted(set(namespaces)), sorted(set(services))))
    if not errors:
        return None
    remedies = dict.fromkeys(error.remedy for error in errors if error.remedy)
    return UnknownName("; ".join(map(str, errors)), "; ".join(remedies))


def _unknown(
    known: KnownNames, clusters: list[str], namespaces: list[str], services: list[str]
) -> Iterator[UnknownName]:
    for name in clusters:
        if name not in known.clusters:
            yield unknown_name("cluster", name, known.clusters)
    if clusters and not known.clusters.intersection(clusters):
        return
    candidates = [service for service in known.services if not clusters or service[0] in clusters]
    known_namespaces = {namespace for _, namespace, _ in candidates}
    missing = [name for name in namespaces if name not in known_namespaces | _INITIAL_NAMESPACES]
    for name in missing:
        yield unknown_name("namespace", name, known_namespaces, _where(cluster=clusters))
    if missing and len(missing) == len(namespaces):
        return
    for name in services:
        if not any(name == service[2] and (not namespaces or service[1] in namespaces) for service in candidates):
            yield _unknown_service(name, candidates, clusters, namespaces)


def _unknown_service(
    name: str, candidates: list[tuple[str, str, str]], clusters: list[str], namespaces: list[str]
) -> UnknownName:
    where = _where(namespace=namespaces, cluster=clusters)
    elsewhere = sorted({namespace for _, namespace, service_name in candidates if service_name == name})
    if elsewhere:
        return UnknownName(f'service "{name}" not found{where}', f"it is in namespace {_either(elsewhere)}")
    nearby = {service_name for _, namespace, service_name in candidates if not namespaces or namespace in namespaces}
    if namespaces and not nearest(name, nearby):
        paths = {f"{namespace}/{service_name}" for _, namespace, service_name in candidates}
        nearest_paths = [
            path
            for path in sorted(paths)
            if path.partition("/")[2] in nearest(name, {service_name for *_, service_name in candidates})
        ]
        if nearest_paths:
            return UnknownName(f'service "{name}" not found{where}', f"did you mean {_either(nearest_paths[:3])}?")
    return unknown_name("service", name, nearby, where)


def _where(**scopes: list[str]) -> str:
    parts = [f"{scope} {_either(names)}" for scope, names in scopes.items() if names]
    return f" in {', '.join(parts)}" if parts else ""


def _either(names: list[str]) -> str:
    quoted = [f'"{name}"' for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
