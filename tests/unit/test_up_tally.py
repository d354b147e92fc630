"""What `facets up` prints stays readable, however much changes."""

from streams.local.up_tally import ChangeLines


def test_few_changes_are_printed_and_many_are_counted() -> None:
    now = 0.0
    printed: list[str] = []
    lines = ChangeLines(printed.append, lambda: now)
    for number in range(100):
        lines.add("east" if number % 4 else "west", lambda number=number: f"change {number}")  # type: ignore[misc]
    assert printed == [f"change {number}" for number in range(12)]
    now = 61.0
    lines.tick()
    assert printed[12:] == ["... and more changes: 66 of east, 22 of west (`facets follow` shows each)"]
    lines.add("east", lambda: "one more")
    lines.add("east", lambda: "too many")
    assert printed[13:] == ["one more"]


def test_a_quiet_cluster_has_each_change_printed() -> None:
    now = 0.0
    printed: list[str] = []
    lines = ChangeLines(printed.append, lambda: now)
    for number in range(100):
        now += 60
        lines.add("east", lambda number=number: f"change {number}")  # type: ignore[misc]
    assert printed == [f"change {number}" for number in range(100)]


def test_ten_minutes_of_a_busy_cluster_are_a_screen() -> None:
    now = 0.0
    printed: list[str] = []
    lines = ChangeLines(printed.append, lambda: now)
    for _ in range(6000):
        now += 0.1
        lines.add("east", lambda: "change")
    assert len(printed) < 40
