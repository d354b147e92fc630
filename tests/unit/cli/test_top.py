"""What `facets top` makes of a server's events: rows, rates, states, filters; and a table of ten thousand lines."""

from datetime import UTC, datetime
from typing import Any

import pytest
from textual.app import App, ComposeResult

from streams.cli.top.board import RATE_SECONDS, Board, Key
from streams.cli.top.line_table import LineTable
from streams.cli.top.views import KINDS, Place, child, head, view

NOW = datetime(2026, 11, 24, 12, 1, tzinfo=UTC)
EMPTY: dict[str, Any] = {"added": [], "removed": [], "updated": []}


def endpoint(address: str, **fields: Any) -> dict[str, Any]:
    base = {
        "family": "IPv4",
        "ready": True,
        "serving": True,
        "terminating": False,
        "zone": "a",
        "node": "n1",
        "slice": "s",
    }
    return {"address": address, **base, "ports": [], "target": {"kind": "Pod", "name": f"pod-{address}"}, **fields}


def row(name: str, *endpoints: dict[str, Any], table: str = "backend", state: str = "ready", **fields: Any) -> Any:
    head = {"table": table, "cluster": "east", "namespace": "shop", "name": name, "state": state, "reason": ""}
    stamp = {"asOf": {"at": "2026-11-24T12:00:00.000Z"}, "cause": [{"kind": "EndpointSlice", "name": f"{name}-a"}]}
    return {**head, **stamp, "endpoints": list(endpoints), "change": EMPTY, **fields}


def snapshot(*rows: Any, first: bool = True, last: bool = True) -> dict[str, Any]:
    return {"first": first, "last": last, "rows": list(rows)}


def names(board: Board, words: str = "", kind: Any = "services") -> list[str]:
    return [key.rpartition("/")[2] for key in view(board, Place(kind, "", words), NOW).keys]


def test_a_snapshot_replaces_everything_once_it_is_whole() -> None:
    board = Board()
    board.apply("snapshot", snapshot(row("old")), 0)
    board.apply("snapshot", snapshot(row("a"), row("gone", state="deleted"), last=False), 1)
    assert names(board) == ["old"]
    board.apply("snapshot", snapshot(row("b"), first=False), 1)
    assert names(board) == ["a", "b"]
    assert board.changes_a_second == 0


def test_changes_count_for_ten_seconds_and_a_deleted_row_goes() -> None:
    board, key = Board(), Key("east", "shop", "a")
    board.apply("snapshot", snapshot(row("a"), row("b")), 0)
    for i in range(5):
        board.apply("batch", {"rows": [row("a")]}, float(i))
    assert (board.rate(key), board.changes_a_second) == (0.5, 0.5)
    board.count_down(RATE_SECONDS + 2)
    assert (board.rate(key), board.changes_a_second) == (0.2, 0.2)
    board.apply("batch", {"rows": [row("a", state="deleted")]}, 12.0)
    assert names(board) == ["b"]
    board.count_down(100.0)
    assert board.changes_a_second == board.rate(key) == 0
    shown = view(board, Place("service", "east/shop/a"), NOW)
    assert shown.text.splitlines()[:2] == ["deleted", "changes    60s ago  backend deleted  <- EndpointSlice a-a"]
    assert len(shown.text.splitlines()) == 6


def test_a_service_is_as_its_worst_row_and_stale_with_its_cluster() -> None:
    board, key = Board(), Key("east", "shop", "a")
    board.apply("snapshot", snapshot(row("a"), row("a", table="frontend", state="stale", type="", clusterIPs=[])), 0)
    assert board.state(key) == "stale"
    board.apply("batch", {"rows": [row("a", table="frontend", type="", clusterIPs=[])]}, 0)
    assert board.state(key) == "ready"
    silent = {"reason": "ClusterSilent", "since": "", "partitions": [1]}
    board.apply("heartbeat", {"stale": {"east": silent}}, 0)
    assert board.state(key) == "stale"
    propagated = {"namespace": "shop", "name": "a", "partition": 2, "clients": []}
    board.report({"clients": [], "services": [propagated]}, [])
    assert board.state(key) == "ready"
    board.apply("batch", {"rows": [row("a", state="unknown")]}, 0)
    assert board.state(key) == "unknown"


@pytest.mark.parametrize(
    ("words", "found"),
    [("", ["a", "b", "c"]), ("10.0.0.2", ["b"]), ("POD-10", ["a", "b"]), ("zone-x", ["b"]), ("n1 !zone-x", ["a"]),
     ("!10.0", ["c"]), ("empty", ["c"]), ("!", ["a", "b", "c"]), ("nothing", [])],
)  # fmt: skip
def test_a_filter_is_words_that_are_there_or_not(words: str, found: list[str]) -> None:
    board = Board()
    rows = row("a", endpoint("10.0.0.1")), row("b", endpoint("10.0.0.2", zone="zone-x")), row("c", state="empty")
    board.apply("snapshot", snapshot(*rows), 0)
    assert names(board, words) == found
    # What is looked for follows a change.
    board.apply("batch", {"rows": [row("c", endpoint("10.0.0.9"))]}, 0)
    assert "c" in names(board, "10.0.0.9")


def test_lines_of_one_name_are_kept_apart() -> None:
    board = Board()
    router = {
        "node": "r", "id": 1, "cluster": "", "zone": "", "traffic": "mesh", "behind": 1, "nacks": 0, "agent": "",
        "peer": "p", "since": "2026-11-24T12:00:00.000Z", "lastNack": "bad",
    }  # fmt: skip
    board.report({"clients": [router, {**router, "id": 2}], "services": []}, [])
    routers = view(board, Place("routers"), NOW)
    assert routers.keys == ["r", "r #2"]
    assert (
        head(board, "live") == "0 Services  ·  0.0 changes/s  ·  2 routers (2 behind)  ·  0 clusters  ·  lag   ·  live"
    )
    board.apply("snapshot", snapshot(row("a", endpoint("10.0.0.1"), endpoint("10.0.0.1"))), 0)
    assert view(board, Place("service", "east/shop/a"), NOW).keys == ["10.0.0.1 s", "10.0.0.1 s #2"]
    assert view(board, Place("router", "r"), NOW).text == "last refused: bad\nlast refused: bad"
    assert {kind: child(board, Place(kind), "east/shop/a") for kind in KINDS} == {
        "services": Place("service", "east/shop/a"),
        "clusters": Place("services", "east/shop/a"),
        "routers": Place("router", "east/shop/a"),
    }
    assert child(board, Place("service", "east/shop/a"), "10.0.0.1 s") is None


class Tables(App[None]):
    """A table alone."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def compose(self) -> ComposeResult:
        yield LineTable()

    def on_line_table_opened(self, event: LineTable.Opened) -> None:
        self.opened.append(event.key)


async def test_of_many_lines_those_on_the_screen_are_made() -> None:
    made: list[str] = []

    def cells(key: str) -> tuple[str, str]:
        made.append(key)
        return key, "x" * (int(key) % 7)

    app = Tables()
    async with app.run_test(size=(40, 12)) as pilot:
        table = app.query_one(LineTable)
        table.focus()
        keys = [f"{number:05}" for number in range(10_000)]
        table.show(("KEY", "X"), keys, cells)
        await pilot.pause()
        assert set(made) <= set(keys[:15])
        assert [table.render_line(y).text[:7] for y in range(3)] == ["KEY    ", "00000  ", "00001  "]
        await pilot.press("end")
        assert (table.key, table.render_line(11).text[:5]) == ("09999", "09999")
        assert len(set(made)) < 50
        await pilot.press("pageup", "up", "enter")
        assert table.key is not None
        assert app.opened == [table.key]
        # The cursor stays on its line when others go, and at its place when the line itself goes.
        on = table.key
        table.show(("KEY", "X"), keys[5_000:], cells)
        assert table.key == on
        table.show(("KEY", "X"), [key for key in keys if key != on], cells)
        assert table.key is not None
        table.show(("KEY", "X"), [], cells)
        assert table.key is None
        await pilot.press("enter", "down", "home")
        assert len(app.opened) == 1
        table.show(("KEY", "X"), keys[:3], cells)
        await pilot.click(LineTable, offset=(2, 2))
        assert table.key == "00001"
