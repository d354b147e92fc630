"""One Service as its rows in one or several clusters have it: the input of the xDS resources."""

from collections.abc import Callable, Container, Hashable
from contextlib import suppress
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from streams.facets.parsed_rows import BackendFacet, Facet, FrontendFacet, RoutingFacet
from streams.serve.xds.build.ports import PortId, port_of
from streams.subscription.rows import Row
from streams.wire.clusterset_records import Locality
from streams.wire.timestamps import read, write

_Made = TypeVar("_Made")


def trigger_time(facet: Facet) -> str:
    """When the first of a row's triggers happened; "" if no object says so, or not readably."""
    times = []
    for trigger in facet.triggers:
        with suppress(ValueError):
            times.append(write(read(trigger)))
    return min(times, default="")


class Facets(NamedTuple):
    """The rows of one Service in one cluster; None if there is no row. If only one of frontend and backend is None, it
    is unknown, not empty: rows of a Service are only ever deleted together. With `is_unreadable`, the Service is there
    but could never be read."""

    cluster: str
    frontend: FrontendFacet | None = None
    backend: BackendFacet | None = None
    routing: RoutingFacet | None = None
    is_unreadable: bool = False

    def with_row(self, row: Row) -> "Facets":
        """With this row in place of the previous one. `unknown` keeps the previous row: a set that may be out of date
        serves better than none; but where only some objects can't be read, what the others say counts. `stale` rows
        carry the last set themselves."""
        facet: Any = row.facet
        if facet.tells_nothing:
            return self
        is_unknown = facet.state == "unknown"
        is_unreadable = is_unknown if row.table == "frontend" else self.is_unreadable
        is_absent = facet.state == "deleted" or (is_unknown and row.table == "frontend")
        fields: dict[str, Any] = {row.table: None if is_absent else facet}
        return self._replace(is_unreadable=is_unreadable, **fields)

    def only(self, tables: Container[str]) -> "Facets":
        """Without the rows of other tables."""
        return Facets(
            self.cluster,
            self.frontend if "frontend" in tables else None,
            self.backend if "backend" in tables else None,
            self.routing if "routing" in tables else None,
            self.is_unreadable and "frontend" in tables,
        )

    @property
    def rows(self) -> list[Facet]:
        """The rows that exist."""
        own: tuple[Facet | None, ...] = (self.frontend, self.backend, self.routing)
        return [row for row in own if row is not None]

    @property
    def is_absent(self) -> bool:
        """Whether the cluster has no frontend or backend row of the Service."""
        return self.frontend is None and self.backend is None and not self.is_unreadable

    def derive(self, make: Callable[..., _Made], *others: Hashable) -> _Made:
        """What a pure function makes of these rows and other arguments."""
        return make(self, *others)


class SetPart(Facets):
    """A cluster's part of a set, which keeps what was made of it: most parts stay as they are when a set changes."""

    @cached_property
    def _made(self) -> dict[Hashable, Any]:
        return {}

    def derive(self, make: Callable[..., _Made], *others: Hashable) -> _Made:
        """See Facets."""
        key = make, others
        if key not in self._made:
            self._made[key] = make(self, *others)
        made: _Made = self._made[key]
        return made


class Service(NamedTuple):
    """One Service: of one cluster, or of the clusterset. Then it is in several, in the order in which they win an
    address that several have, and has a `locality`, in which `cluster=NAME` names a cluster as clients do; and an
    `import_routing`, the routing row with what the routes of a client's cluster ask for at the set, if they name it."""

    namespace: str
    name: str
    clusters: tuple[Facets, ...]
    locality: Locality | None = None
    import_routing: RoutingFacet | None = None

    def with_port(self, port: PortId) -> "Service":
        """Only in the clusters that expose this port."""
        return self._replace(clusters=tuple(facets for facets in self.clusters if port_of(facets.frontend, port)))
