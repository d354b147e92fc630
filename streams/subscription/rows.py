"""A table's rows as subscribers get them, and which of them they want."""

from functools import cached_property
from typing import Any, NamedTuple

from streams.facets.parsed_rows import Facet, read_row
from streams.subscription.freshness import overlay
from streams.wire.keys import parse_row_key
from streams.wire.records import decode_row


class _RowFields(NamedTuple):
    table: str
    cluster: str
    namespace: str
    name: str
    version: int
    value: bytes
    silence: str = ""


class Row(_RowFields):
    """A facet row as delivered; `value` is its wire form. `silence` is why this reader considers its cluster silent
    (`freshness`); it is not part of the row on the wire. Rows are equal if their fields are."""

    @cached_property
    def facet(self) -> Facet:
        """The parsed row, cached; usually it is parsed before delivery. Raises ValueError and RecursionError if the
        value was never checked."""
        return read_row(self.table, self.value).facet()

    @classmethod
    def parsed(cls, table: str, key: bytes, version: int, value: bytes, facet: Facet | None) -> "Row":
        """The row of a record that has been parsed."""
        row = cls(table, *parse_row_key(key.decode()), version, value)
        if facet is not None:
            row.facet = facet
        return row

    def with_silence(self, silence: str) -> "Row":
        """The same row with another `silence`."""
        if silence == self.silence:
            return self
        row = self._replace(silence=silence)
        if "facet" in self.__dict__:
            row.facet = self.facet
        return row

    def decode(self) -> dict[str, Any]:
        """The row as the commands print it: `stale` while its cluster is silent."""
        return overlay(decode_row(self.table, self.value), self.silence)


class Filter(NamedTuple):
    """Selects rows; an empty set means all. Seals are never dropped. The clusterset's sets are of no cluster: they come
    where none is selected."""

    clusters: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    services: frozenset[str] = frozenset()

    def wants(self, cluster: str, namespace: str, name: str) -> bool:
        """Whether a row is selected."""
        return (
            (not self.clusters or cluster in self.clusters)
            and (not self.namespaces or namespace in self.namespaces)
            and (not self.services or name in self.services)
        )


EVERYTHING = Filter()
