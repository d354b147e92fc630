"""Faults as they happen in systems like this, planted into the real classes to show that the checkers see them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

PLANTED: dict[str, Callable[[], AbstractContextManager[None]]] = {}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """With the fault of this name in the code; with "" nothing is changed."""
    if not name:
        yield
        return
    with PLANTED[name]():
        yield
