"""What was folded here is held against what the workers wrote: equal, different, lost, unreadable, too much to wait."""

import msgspec
import pytest

from streams.fold.table import Write
from streams.subscription.comparison import Cause, Comparison, TablesDiffer
from streams.wire.keys import seal_key
from streams.wire.records import FOLD_VERSION, Seal

KEY = b"east/shop/cart"


def seal(
    offset: int, *, cluster: str = "east", fold: int = FOLD_VERSION, lost: bool = False, more: bool = False
) -> Write:
    value = msgspec.json.encode(Seal(cluster, offset, 1, "w", offset, "", "live", {}, fold, lost=lost, more=more))
    return Write("backend", seal_key(cluster), value, offset)


def row(offset: int, text: bytes | None = b"row", key: bytes = KEY) -> Write:
    return Write("backend", key, text, offset)


def read(comparison: Comparison, *writes: Write) -> None:
    for write in writes:
        comparison.read(*write)


def test_the_same_records_are_equal_whichever_come_first() -> None:
    comparison = Comparison(["backend"])
    comparison.folded(0, [row(0), seal(0)])
    assert comparison.has(*row(0))
    assert not comparison.has(*row(0, b"other"))
    # A replaced worker may write it twice.
    read(comparison, row(0), row(0), seal(0))
    read(comparison, row(1), seal(1))
    comparison.folded(1, [row(1), seal(1)])
    assert comparison.compared == 4
    assert not comparison.has(*row(0))


@pytest.mark.parametrize(
    ("folded", "written"),
    [
        ([row(0), seal(0)], [row(0, b"other"), seal(0)]),
        ([row(0), seal(0)], [seal(0)]),
        ([seal(0)], [row(0), seal(0)]),
        ([row(0), seal(0)], [row(0, None), seal(0)]),
        ([row(0, None), seal(0)], [row(0), seal(0)]),
    ],
    ids=["other bytes", "missing", "not folded", "a tombstone", "no tombstone"],
)
@pytest.mark.parametrize("first", ["folded", "written"])
def test_a_difference_is_a_fault_that_names_service_and_version(
    folded: list[Write], written: list[Write], first: str
) -> None:
    comparison = Comparison(["backend"])
    with pytest.raises(TablesDiffer, match="backend version 0: east/shop/cart") as found:  # noqa: PT012
        if first == "folded":
            comparison.folded(0, folded)
        read(comparison, *written)
        comparison.folded(0, folded)
    assert found.value.cause is Cause.FAULT


def test_a_tombstone_over_what_could_not_be_read_is_no_difference() -> None:
    comparison = Comparison(["backend"])
    comparison.folded(0, [seal(0)])
    read(comparison, row(0, None, b"garbage"), seal(0))


def test_another_fold_version_and_a_loss_are_no_faults() -> None:
    for written, cause in (
        ([seal(0, fold=FOLD_VERSION + 1)], Cause.FOLD_VERSION),
        ([seal(0, lost=True)], Cause.EXPIRED),
        ([seal(0, lost=True, more=True), seal(0, cluster="west")], Cause.EXPIRED),
        ([seal(1)], Cause.EXPIRED),
    ):
        comparison = Comparison(["backend"])
        comparison.folded(0, [seal(0)])
        comparison.folded(1, [seal(1)])
        with pytest.raises(TablesDiffer) as found:
            read(comparison, *written)
        assert found.value.cause is cause


def test_what_was_loaded_is_not_compared_and_what_had_no_seal_is() -> None:
    comparison = Comparison(["backend"])
    comparison.begin("backend", 4)
    comparison.loaded(*row(5))
    read(comparison, row(3, b"late"), seal(4))
    comparison.folded(5, [seal(5)])
    read(comparison, seal(5))
    assert comparison.compared == 2


def test_after_a_hole_in_the_changelog_it_goes_on_at_the_next_seal() -> None:
    comparison = Comparison(["backend"])
    for offset in range(4):
        comparison.folded(offset, [row(offset), seal(offset)])
    comparison.skip("backend")
    read(comparison, seal(2), row(3), seal(3))
    assert comparison.compared == 2


def test_what_waits_too_long_is_dropped_oldest_first() -> None:
    comparison = Comparison(["backend"], limit=10)
    for offset in range(8):
        comparison.folded(offset, [row(offset), seal(offset)])
    assert comparison.dropped == 6
    read(comparison, *(write for offset in range(8) for write in (row(offset), seal(offset))))
    # What was read takes room, too: 3 had to go for it.
    assert comparison.compared == 8


def test_an_offset_that_a_killed_worker_never_finished_is_a_loss_where_the_next_is_sealed() -> None:
    comparison = Comparison(["backend"])
    comparison.folded(0, [seal(0, more=True), seal(0, cluster="west")])
    comparison.folded(1, [seal(1)])
    read(comparison, seal(0, more=True))
    with pytest.raises(TablesDiffer, match="offset 0 was never sealed") as lost:
        read(comparison, seal(1))
    assert lost.value.cause is Cause.EXPIRED


@pytest.mark.parametrize("order", [("frontend", "backend"), ("backend", "frontend")])
def test_what_one_table_lost_is_why_the_next_offset_of_another_differs(order: tuple[str, str]) -> None:
    """Simulation, seed 8138: a lost cluster is no longer covered by its watcher, so the next seal is another one. The
    table that was lost may be read after the others."""
    comparison = Comparison(["frontend", "backend"])
    for offset in (0, 1):
        comparison.folded(offset, [seal(offset), seal(offset)._replace(table="frontend")])
    written = {
        "frontend": [seal(0)._replace(table="frontend"), seal(1, cluster="")._replace(table="frontend")],
        "backend": [seal(0, lost=True), seal(1, cluster="")],
    }
    with pytest.raises(TablesDiffer, match="backend version 0") as lost:  # noqa: PT012
        for table in order:
            read(comparison, *written[table])
    assert lost.value.cause is Cause.EXPIRED


def test_a_loss_is_told_at_once() -> None:
    """Simulation, seed 52870: what is folded on meanwhile must not be delivered with what the others have made anew."""
    comparison = Comparison(["frontend", "backend"])
    comparison.folded(0, [seal(0), seal(0)._replace(table="frontend")])
    with pytest.raises(TablesDiffer) as lost:
        read(comparison, seal(0, lost=True))
    assert lost.value.cause is Cause.EXPIRED
