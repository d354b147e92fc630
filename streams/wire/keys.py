"""Keys of the facet topics' records.

    CLUSTER/NAMESPACE/SERVICE           a row
    ~seal/CLUSTER                       a seal
    ~held/CLUSTER/NAMESPACE/SERVICE     a row's companion: what the worker holds beside it; subscribers skip it

Keys that begin with `~` are not rows.
"""

from typing import NamedTuple

INTERNAL = b"~"
SEAL_PREFIX = b"~seal/"
COMPANION_PREFIX = b"~held/"


class RowKey(NamedTuple):
    """A Service of a cluster."""

    cluster: str
    namespace: str
    name: str


def row_key(cluster: str, namespace: str, name: str) -> str:
    """The key of a Service's rows, as text."""
    return f"{cluster}/{namespace}/{name}"


def parse_row_key(key: str) -> RowKey:
    """The parts of a row's key. Raises ValueError if it isn't one."""
    cluster, namespace, name = key.split("/")
    return RowKey(cluster, namespace, name)


def seal_key(cluster: str) -> bytes:
    """The key of a cluster's seals."""
    return SEAL_PREFIX + cluster.encode()


def is_row(key: bytes) -> bool:
    """Whether the key is a row's."""
    return not key.startswith(INTERNAL)
