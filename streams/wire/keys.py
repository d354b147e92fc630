"""Keys of the facet topics' records.

    CLUSTER/NAMESPACE/SERVICE           a row
    NAMESPACE/SERVICE                   a row of the clusterset: the Service of all clusters together
    ~seal/CLUSTER                       a seal
    ~seal/~WRITER                       the seal of a watcher's progress
    ~held/CLUSTER/NAMESPACE/SERVICE     a row's companion: what the worker holds beside it; subscribers skip it
    ~part/CLUSTER/NAMESPACE/SERVICE/SLICE           a part of a large Service's row: one slice's
    ~part/CLUSTER/NAMESPACE/SERVICE/SLICE/NUMBER    a chunk of that slice's endpoints

Keys that begin with `~` are not rows.
"""

from typing import NamedTuple

INTERNAL = b"~"
SEAL_PREFIX = b"~seal/"
PROGRESS_PREFIX = b"~seal/~"
COMPANION_PREFIX = b"~held/"
PART_PREFIX = b"~part/"


class RowKey(NamedTuple):
    """A Service of a cluster; with `cluster` "" that of the clusterset."""

    cluster: str
    namespace: str
    name: str

    @property
    def service(self) -> tuple[str, str]:
        """The Service's namespace and name, whatever the cluster."""
        return self.namespace, self.name


def row_key(cluster: str, namespace: str, name: str) -> str:
    """The key of a Service's rows, as text."""
    return f"{cluster}/{namespace}/{name}" if cluster else f"{namespace}/{name}"


def parse_row_key(key: str) -> RowKey:
    """The parts of a row's key. Raises ValueError if it isn't one."""
    *cluster, namespace, name = key.split("/")
    if len(cluster) > 1:
        raise ValueError(f"{key!r} is not [CLUSTER/]NAMESPACE/SERVICE")
    return RowKey(cluster[0] if cluster else "", namespace, name)


def seal_key(cluster: str) -> bytes:
    """The key of a cluster's seals."""
    return SEAL_PREFIX + cluster.encode()


def part_key(key: str, label: str) -> bytes:
    """The key of the part with a slice, of the row with this key."""
    return b"%b%b/%b" % (PART_PREFIX, key.encode(), label.encode())


def chunk_key(part: bytes, number: int) -> bytes:
    """The key of a part's chunk."""
    return b"%b/%d" % (part, number)


def row_key_of(part: bytes) -> bytes:
    """The key of the row that a part, or a chunk, belongs to."""
    return b"/".join(part[len(PART_PREFIX) :].split(b"/", 3)[:3])


def is_row(key: bytes) -> bool:
    """Whether the key is a row's."""
    return not key.startswith(INTERNAL)


def is_set(key: bytes) -> bool:
    """Whether the key is that of a clusterset's row."""
    return is_row(key) and key.count(b"/") == 1


def set_key_of(key: str) -> str:
    """The key of the clusterset's row to which a cluster's row belongs."""
    return key.partition("/")[2]


def progress_name(writer: str) -> str:
    """What stands for the cluster in the seal of a watcher's progress."""
    return f"~{writer}"


def is_progress_name(name: str) -> bool:
    """Whether a seal's `cluster` stands for a watcher's progress."""
    return name.startswith("~")


def is_cluster(name: str) -> bool:
    """Whether a seal's `cluster` is one: the seals of records of no cluster, and of a watcher's progress, have none."""
    return bool(name) and not is_progress_name(name)
