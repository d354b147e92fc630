"""Counts how often the fold's fast paths are taken: what no run takes, no run checks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from streams.facets import single_slice, slice_text
from streams.fold.table import TableState, Write

INITIAL = "first row by the fast path"
SINGLE = "slice's change by the fast path"
PATCH = "slice patched"


@contextmanager
def counted(note: Callable[[str], None]) -> Iterator[None]:
    """Within, `note` is told of each."""
    initial, single = TableState.fold_initial, TableState.fold_single

    def fold_initial(self: TableState[Any], *args: Any) -> Iterator[Write]:
        note(INITIAL)
        return initial(self, *args)

    def fold_single(self: TableState[Any], *args: Any) -> list[Write]:
        writes = single(self, *args)
        if writes:
            note(SINGLE)
        return writes

    real_patched = slice_text.patched

    def patched(*args: Any) -> slice_text.GroupChange:
        note(PATCH)
        return real_patched(*args)

    with (
        patch.object(TableState, "fold_initial", fold_initial),
        patch.object(TableState, "fold_single", fold_single),
        patch.object(slice_text, "patched", patched),
        patch.object(single_slice, "patched", patched),
    ):
        yield
