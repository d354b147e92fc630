"""The parts of large Services' rows that a subscriber holds, and its rows put together from them: of a change, only the
slices that it is of are joined and parsed."""

from functools import cached_property

import msgspec

from streams.facets.parsed_rows import BackendFacet, ContributionFacet, read_row
from streams.facets.row_parts import JoinedPart, JoinedRow, join_part, join_row, parts_of, versioned
from streams.wire.keys import part_key
from streams.wire.records import Group

_decode_groups = msgspec.json.Decoder(list[Group]).decode


class _Slice:
    def __init__(self, joined: JoinedPart) -> None:
        self.joined = joined

    @cached_property
    def groups(self) -> list[Group]:
        return _decode_groups(b"[%b]" % self.joined.groups)


class PartStore:
    """Those of one table."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._records: dict[bytes, tuple[int, bytes]] = {}
        self._slices: dict[bytes, _Slice] = {}

    def put(self, key: bytes, version: int, value: bytes | None) -> None:
        """Take a part or a chunk, None for its tombstone; one that is not newer than the one held is a duplicate."""
        current = self._records.get(key)
        if current is not None and current[0] >= version:
            return
        if value is not None:
            self._records[key] = version, value
        else:
            self._records.pop(key, None)
            self._slices.pop(key, None)

    def join(self, key: str, row: bytes) -> JoinedRow:
        """The whole form of a head."""
        return join_row(self._table, row, lambda label, version: _joined(self._find(part_key(key, label), version)))

    def facet(self, key: str, row: bytes) -> BackendFacet | ContributionFacet:
        """The facet of a head that was joined and misses no parts."""
        facet = read_row(self._table, row).facet()
        assert isinstance(facet, BackendFacet | ContributionFacet)
        parts = (self._find(part_key(key, label), version) for label, version in parts_of(row).items())
        facet.groups = [group for part in parts if part is not None for group in part.groups]
        return facet

    def _find(self, own_key: bytes, version: int) -> _Slice | None:
        known = self._slices.get(own_key)
        if known is None or known.joined.part.version != version:
            joined = join_part(versioned(self._records), own_key, version)
            if joined is None:
                return None
            known = self._slices[own_key] = _Slice(joined)
        return known


def _joined(part: _Slice | None) -> JoinedPart | None:
    return None if part is None else part.joined
