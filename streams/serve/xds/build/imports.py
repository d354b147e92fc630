"""What each cluster's routes ask for at a ServiceImport (GEP-1748), by its routing row. There is one, too, where the
cluster has no Service of that name."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from streams.facets.parsed_rows import RoutingFacet
from streams.subscription.rows import Row
from streams.wire.keys import RowKey


class ImportRoutings:
    """The routing rows with choices for a ServiceImport, by its namespace and name, then by cluster."""

    def __init__(self) -> None:
        self._facets: dict[tuple[str, str], dict[str, RoutingFacet]] = {}
        self._kept: set[RowKey] = set()
        """Those that a snapshot didn't have while it did not have all of the cluster."""

    def of(self, key: tuple[str, str]) -> Mapping[str, RoutingFacet]:
        """Those for a ServiceImport."""
        return self._facets.get(key, {})

    def replace(self, rows: Iterable[Row], is_known: Callable[[RowKey], bool]) -> None:
        """Take a snapshot's routing rows. What it doesn't have is kept until its cluster `is_known`."""
        before, self._facets = self._facets, {}
        missing = {RowKey(cluster, *key): facet for key, own in before.items() for cluster, facet in own.items()}
        for row in rows:
            key = RowKey(row.cluster, row.namespace, row.name)
            self._put(key, _after(missing.pop(key, None), row))
        self._kept = {key for key in missing if not is_known(key)}
        for key in self._kept:
            self._put(key, missing[key])

    def take(self, row: Row) -> bool:
        """Take a routing row. Returns whether it makes a difference to the ServiceImport."""
        key = RowKey(row.cluster, row.namespace, row.name)
        self._kept.discard(key)
        before = self.of(key.service).get(row.cluster)
        after = _after(before, row)
        self._put(key, after)
        return after is not before

    def settle(self, is_known: Callable[[RowKey], bool]) -> list[tuple[str, str]]:
        """Drop what was kept of clusters that are known by now. Returns the ServiceImports."""
        dropped = [key for key in self._kept if is_known(key)]
        self._kept.difference_update(dropped)
        for key in dropped:
            self._put(key, None)
        return [key.service for key in dropped]

    def _put(self, key: RowKey, facet: RoutingFacet | None) -> None:
        own = self._facets.setdefault(key.service, {})
        if facet is not None:
            own[key.cluster] = facet
        else:
            own.pop(key.cluster, None)
            if not own:
                del self._facets[key.service]


def _after(before: RoutingFacet | None, row: Row) -> RoutingFacet | None:
    """As with a Service's own rows, `unknown` keeps the previous one; but where only some objects can't be read, what
    the others say counts."""
    facet: Any = row.facet
    if facet.tells_nothing:
        return before
    return facet if facet.clusterset is not None else None
