"""What a list of rows is narrowed by beyond cluster, namespace and Service: by what the rows say."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from streams.serve.http.lookup import Question, by_address, by_node, by_pod, by_zone
from streams.serve.http.printed import Printed, PrintedEndpoint, decode

_BY = {"address": by_address, "node": by_node, "pod": by_pod, "zone": by_zone}


class ContentFilter(NamedTuple):
    """States, reasons (by name), and by parameter where one is to be: a row fits if one of its endpoints (or its
    cluster IPs) fits one of each. Empty lets everything through."""

    states: frozenset[str]
    reasons: frozenset[str]
    places: tuple[tuple[Question, ...], ...]

    @classmethod
    def of(cls, query: Any) -> "ContentFilter":
        """That of a request: of the parameters that its table has. Raises BadParameter."""
        asked = ([ask(text) for text in getattr(query, name, ())] for name, ask in _BY.items())
        return cls(frozenset(query.state), frozenset(query.reason), tuple(tuple(one) for one in asked if one))

    @property
    def is_empty(self) -> bool:
        """Whether it lets everything through."""
        return not any(self)

    def takes(self, table: str, text: bytes) -> bool:
        """Whether a printed row fits."""
        if not all(any(question.may_fit("", text) for question in place) for place in self.places):
            return False
        row = decode(text)
        return (
            (not self.states or row.state in self.states)
            and (not self.reasons or not self.reasons.isdisjoint(row.reasons))
            and (not self.places or self._is_placed(table, row))
        )

    def _is_placed(self, table: str, row: Printed) -> bool:
        if table == "frontend":
            return all(_any_service(place, table, row) for place in self.places)
        return any(all(_any_endpoint(place, row, endpoint) for place in self.places) for endpoint in row.endpoints)


def _any_service(place: Iterable[Question], table: str, row: Printed) -> bool:
    return any(question.fits_service(table, row) is not None for question in place)


def _any_endpoint(place: Iterable[Question], row: Printed, endpoint: PrintedEndpoint) -> bool:
    return any(question.fits_endpoint(row, endpoint) for question in place)
