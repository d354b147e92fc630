"""Pages of a list that changes between them: what is there all the time comes once, in order, whatever else does."""

import contextlib
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.serve.http.paging import Order, paginate
from streams.serve.http.query import BadParameter


class Item(NamedTuple):
    name: str
    size: int


NAMES = st.text("abc", min_size=1, max_size=2)
LISTS = st.dictionaries(NAMES, st.integers(0, 3), max_size=12)
ORDERS = {
    "name": Order(lambda item: item.name, lambda item: (item.name,)),
    "size": Order(lambda item: item.size, lambda item: (item.name,)),
    "-size": Order(lambda item: item.size, lambda item: (item.name,), descending=True),
}


def naive(items: dict[str, int], order: str) -> list[str]:
    """The whole list's names, by insertion into their place."""
    ordered: list[tuple[str, int]] = []
    for name, size in items.items():
        place = 0
        while place < len(ordered) and comes_before(ordered[place], (name, size), order):
            place += 1
        ordered.insert(place, (name, size))
    return [name for name, _ in ordered]


def comes_before(one: tuple[str, int], other: tuple[str, int], order: str) -> bool:
    if order == "name" or one[1] == other[1]:
        return one[0] < other[0]
    return one[1] > other[1] if order == "-size" else one[1] < other[1]


@given(versions=st.lists(LISTS, min_size=1, max_size=6), order=st.sampled_from([*ORDERS]), limit=st.integers(1, 4))
def test_pages_of_a_changing_list(versions: list[dict[str, int]], order: str, limit: int) -> None:
    """The list is another one for each page; the last one is there until the end."""
    seen: list[str] = []
    after, turn = "", 0
    while True:
        items = versions[min(turn, len(versions) - 1)]
        page = paginate((Item(*each) for each in items.items()), ORDERS[order], "q", limit, after)
        assert len(page.items) <= limit
        seen += [item.name for item in page.items]
        turn += 1
        if not page.next:
            break
        assert len(page.items) == limit
        after = page.next
    used = versions[: turn if turn < len(versions) else None]
    stays = {name: size for name, size in used[0].items() if all(each.get(name) == size for each in used)}
    assert [name for name in seen if name in stays] == naive(stays, order)
    if len(used) == 1:
        assert seen == naive(used[0], order)


@given(
    items=LISTS.filter(lambda items: len(items) > 1), place=st.integers(0, 10_000), text=st.characters(codec="ascii")
)
def test_a_cursor_that_is_not_whole_is_refused(items: dict[str, int], place: int, text: str) -> None:
    """One character of it is another one, or it is cut off there, or it is of another query."""
    listed = [Item(*each) for each in items.items()]
    whole = paginate(listed, ORDERS["name"], "q", 1, "").next
    at = place % len(whole)
    broken = {whole[:at] + text + whole[at + 1 :], whole[:at]} - {whole, ""}
    for cursor in broken:
        with contextlib.suppress(BadParameter):
            page = paginate(listed, ORDERS["name"], "q", 1, cursor)
            # Base 64 leaves some bits of the last character unused.
            assert (at, page) == (len(whole) - 1, paginate(listed, ORDERS["name"], "q", 1, whole))
    with pytest.raises(BadParameter, match="leave it out"):
        paginate(listed, ORDERS["name"], "another", 1, whole)
