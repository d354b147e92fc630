"""Checks what enters the fold, since every row that it makes must stay readable by every reader, in any language.

The types of `records` check the JSON's form; these are the rules that they can't express. `normalize` applies the same
rules, so no watcher's commit is refused. Errors are ValueErrors: the fold dead-letters the record, and seals its
offset.
"""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv6Address

from streams.wire.name_syntax import KUBERNETES_NAME
from streams.wire.records import Commit, Event, Progress, ServiceContent, SliceEndpoint
from streams.wire.timestamps import read, read_later

MAX_ID = 128
"""The longest uid and resourceVersion, in characters."""

_OBJECT_NAME = KUBERNETES_NAME.expression
_SERVICE_KEY = re.compile(f"[^/]+/{_OBJECT_NAME.pattern}/{_OBJECT_NAME.pattern}")
_RESOURCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,316}")
DNS_NAME = re.compile(r"[A-Za-z0-9_*]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9.])?")
_BYTE = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
IPV4 = rf"{_BYTE}(?:\.{_BYTE}){{3}}"
_IPV4S = re.compile(rf"{IPV4}(?: {IPV4})*")


def is_service_key(key: str) -> bool:
    """Whether `cluster/namespace/name` can be a Service's."""
    return _SERVICE_KEY.fullmatch(key) is not None


def check_commit(commit: Commit, window_seconds: float) -> None:
    """Raises ValueError for an invalid time, one too late for a resume window, and an invalid frontier."""
    read_later(commit.at, window_seconds)
    if commit.stale_since:
        read(commit.stale_since)
    check_frontier(commit.frontier)


def check_progress(progress: Progress, window_seconds: float) -> None:
    """Raises ValueError as `check_commit` does."""
    read_later(progress.at, window_seconds)
    for cluster in progress.clusters:
        check_frontier(cluster.frontier)


def check_frontier(frontier: Mapping[str, str]) -> None:
    """Raises ValueError for an invalid resource type or resourceVersion ("" is valid: the type can't be listed)."""
    for resource, version in frontier.items():
        if not _is_resource(resource):
            raise ValueError(f"{resource:.80} is no resource type - at `$.frontier`")
        check_resource_version(version)


@lru_cache(maxsize=256)
def _is_resource(name: str) -> bool:
    return _RESOURCE.fullmatch(name) is not None


def is_version(text: str) -> bool:
    """Whether it is a resourceVersion: a decimal number (KEP-5504)."""
    return text.isdigit() and text.isascii() and len(text) <= MAX_ID


def check_resource_version(version: str) -> None:
    """Raises ValueError for what is neither a resourceVersion nor empty."""
    if version and not is_version(version):
        raise ValueError(f"the resourceVersion {version!r:.80} is not a decimal number")


def check_identity(event: Event) -> None:
    """Raises ValueError for a name, namespace, uid or resourceVersion that no object in Kubernetes can have."""
    if not _OBJECT_NAME.fullmatch(event.name):
        raise ValueError(f"no object can be named {event.name!r:.80}")
    if event.namespace and not _is_namespace(event.namespace):
        raise ValueError(f"no namespace can be named {event.namespace!r:.80}")
    if len(event.uid) > MAX_ID:
        raise ValueError(f"the uid {event.uid!r:.80} is longer than {MAX_ID} characters")
    check_resource_version(event.resource_version)


# The objects of a list are of few namespaces.
@lru_cache(maxsize=256)
def _is_namespace(name: str) -> bool:
    return _OBJECT_NAME.fullmatch(name) is not None


def check_service(service: ServiceContent) -> None:
    """Raises ValueError for an invalid cluster IP, and without a DNS name: only what could never be read has none."""
    if not service.dns_name:
        raise ValueError("a Service has a DNS name - at `$.dnsName`")
    for address in service.cluster_ips:
        if not _is_ipv4(address):
            _check_ipv6(address)


def check_addresses(family: str, endpoints: Sequence[SliceEndpoint]) -> None:
    """Raises ValueError where an endpoint's address is not of the family."""
    if family == "IPv4":
        # One match for all of them: this runs for each endpoint of an initial list.
        joined = " ".join([endpoint.address for endpoint in endpoints])
        if endpoints and not (_IPV4S.fullmatch(joined) and joined.count(" ") == len(endpoints) - 1):
            bad = next(endpoint.address for endpoint in endpoints if not _is_ipv4(endpoint.address))
            raise ValueError(f"the address {bad!r:.80} is not of the family IPv4")
    elif family == "IPv6":
        for endpoint in endpoints:
            _check_ipv6(endpoint.address)
    else:
        for endpoint in endpoints:
            if not DNS_NAME.fullmatch(endpoint.address):
                raise ValueError(f"the address {endpoint.address!r:.80} is not a DNS name")


def _is_ipv4(address: str) -> bool:
    return " " not in address and _IPV4S.fullmatch(address) is not None


@lru_cache(maxsize=65536)
def _check_ipv6(address: str) -> None:
    if "%" in address:
        raise ValueError(f"the address {address!r:.80} has a zone")
    IPv6Address(address)
