"""Which partition holds a Service, in the journal and in every facet topic.

The cluster plays no part: a Service of any cluster, in all its tables, has the same partition number.
"""

from zlib import crc32

DEFAULT_PARTITIONS = 8


def partition_of(namespace: str, service: str, partitions: int) -> int:
    """The partition of a Service: CRC-32 (IEEE) of `namespace/service` in UTF-8, modulo the number of partitions."""
    return crc32(f"{namespace}/{service}".encode()) % partitions
