"""Service Facets: the frontends and backends of Kubernetes Services as tables and changelogs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.subscription.client import Batch, ClusterStatus, Snapshot, Subscriber

__all__ = ["Batch", "ClusterStatus", "Snapshot", "Subscriber"]


def __getattr__(name: str) -> Any:
    # Imported on demand: the pure core must not need a Kafka client.
    if name in __all__:
        from streams.subscription import client as subscriber  # noqa: PLC0415

        return getattr(subscriber, name)
    raise AttributeError(f"module 'streams' has no attribute {name!r}")
