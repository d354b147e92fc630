"""Where a cluster stands in the journal, whatever replaced watchers write to it."""

import pytest

from streams.kafka.epochs import Stamp, Standing, standing_in

TAIL = 4


class View:
    """One cluster's commits by partition; what is before `begin` has expired."""

    def __init__(
        self, *commits: list[tuple[int, int, str]], seal: Stamp | None = None, begin: int = 0, sealed: int = -1
    ) -> None:
        self.commits = [
            [
                Stamp(offset, epoch, seq, {"services": frontier} if frontier else {})
                for offset, (epoch, seq, frontier) in enumerate(each)
            ]
            for each in commits
        ]
        self.seal = seal
        self.sealed = sealed
        self.begin = begin
        self.read = 0

    def newest_seal(self, partition: int) -> Stamp | None:
        return self.seal if partition == 0 else None

    def sealed_to(self, partition: int) -> int:
        return self.sealed if partition == 0 else -1

    def bounds(self, partition: int) -> tuple[int, int]:
        return self.begin, len(self.commits[partition])

    def stamps(self, partition: int, start: int, end: int) -> list[Stamp]:
        self.read += end - start
        return self.commits[partition][start:end]


HOLDER = [(3, 60 + each, "40") for each in range(5)]
STALE = [(2, 30 + each, "21") for each in range(10 * TAIL)]


@pytest.mark.parametrize("seal", [None, Stamp(2, 2, 29, {"services": "20"}), Stamp(7, 3, 64, {"services": "40"})])
def test_a_replaced_watcher_that_wakes_up_does_not_hide_the_highest_epoch(seal: Stamp | None) -> None:
    """Simulation, seed 11923: the next watcher opened the epoch that was taken, and the fold ignored it for ever."""
    view = View([*HOLDER, *STALE], seal=seal)
    assert standing_in(view, 0, 1, TAIL) == Standing(3, 69, {"services": "40"})


def test_a_cluster_of_which_nothing_is_known() -> None:
    assert standing_in(View([], []), 0, 2, TAIL) == Standing(0, 0, {})


def test_a_cluster_that_the_journal_forgot_stands_as_its_seal_says() -> None:
    view = View([], seal=Stamp(7, 12, 90, {"services": "17"}))
    assert standing_in(view, 0, 1, TAIL) == Standing(12, 90, {"services": "17"})


def test_what_another_partition_has_more_of_counts() -> None:
    view = View([(3, 60, "40")], [(3, 60, "40"), (3, 61, "41")])
    assert standing_in(view, 0, 2, TAIL) == Standing(3, 61, {"services": "41"})


def test_of_a_lost_cluster_the_frontier_is_looked_for_in_the_journal() -> None:
    view = View([(3, 60, "40"), *[(3, 61, "")] * 10], seal=Stamp(10, 3, 61, {}))
    assert standing_in(view, 0, 1, TAIL) == Standing(3, 61, {"services": "40"})


def test_what_the_seal_covers_is_not_read() -> None:
    view = View([(3, each, "40") for each in range(1000)], seal=Stamp(995, 3, 995, {"services": "40"}))
    assert standing_in(view, 0, 1, TAIL) == Standing(3, 999, {"services": "40"})
    assert view.read == 4


def test_of_a_new_cluster_what_is_sealed_of_others_is_not_read() -> None:
    view = View([(0, 0, "")] * 990 + [(1, each, "40") for each in range(10)], sealed=989)
    assert standing_in(view, 0, 1, TAIL) == Standing(1, 9, {"services": "40"})
    assert view.read == 10


CLOSE = Stamp(4, 4, 70, {}, True)


@pytest.mark.parametrize("seal", [None, Stamp(2, 3, 62, {"services": "40"}), CLOSE._replace(offset=5)])
def test_what_was_before_a_clusters_end_binds_nobody(seal: Stamp | None) -> None:
    view = View([(3, 60, "40"), (3, 61, "40"), (3, 62, "40"), (4, 69, ""), (4, 70, "")], [(3, 62, "40")], seal=seal)
    view.commits[0][4] = CLOSE
    view.commits[0] += [Stamp(5, 3, 63, {"services": "41"})]
    assert standing_in(view, 0, 2, TAIL) == Standing(4, 70, {}, True)
    # Opened anew, and not listed yet: no list is too old.
    view.commits[0] += [Stamp(6, 5, 71, {})]
    assert standing_in(view, 0, 2, TAIL) == Standing(5, 71, {})
    view.commits[0] += [Stamp(7, 5, 72, {"services": "3"})]
    assert standing_in(view, 0, 2, TAIL) == Standing(5, 72, {"services": "3"})


def test_the_seals_of_another_journal_hide_nothing() -> None:
    view = View([(3, 60, "40")], seal=Stamp(900, 2, 10, {"services": "7"}))
    assert standing_in(view, 0, 1, TAIL) == Standing(3, 60, {"services": "40"})
