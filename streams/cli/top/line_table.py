"""A table of very many lines: only those on the screen are made (textual's DataTable takes seconds for 10,000)."""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

_STYLES = {
    "stale": "bold yellow", "unknown": "bold red", "empty": "dim", "closed": "dim", "draining": "yellow",
    "serving": "yellow", "terminating": "yellow", "down": "red",
}  # fmt: skip
"""Each state is a word; colours only draw the eye to it."""

_GAP = 2


class LineTable(ScrollView, can_focus=True):
    """Lines under columns, with a cursor that stays on its line while others come and go. Columns never get narrower
    while the same are shown, so that nothing jumps."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"head", "cursor"}
    DEFAULT_CSS = """
    LineTable > .head { text-style: bold; color: $text-muted; }
    LineTable > .cursor { background: $primary; color: $text; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home,g", "move(-1000000000)", "First", show=False),
        Binding("end,G", "move(1000000000)", "Last", show=False),
        Binding("enter", "open", "Open"),
    ]

    class Opened(Message):
        """A line was chosen."""

        def __init__(self, key: str) -> None:
            super().__init__()
            self.key = key

    def __init__(self) -> None:
        super().__init__()
        self.columns: Sequence[str] = ()
        self.keys: Sequence[str] = ()
        self.cells: Callable[[str], Sequence[str]] = lambda _: ()
        self._cursor = 0
        self._widths: list[int] = []

    def show(self, columns: Sequence[str], keys: Sequence[str], cells: Callable[[str], Sequence[str]]) -> None:
        """Show the lines of these keys; `cells` gives a line's."""
        on = self.key
        if columns != self.columns:
            self._widths = [len(column) for column in columns]
        self.columns, self.keys, self.cells = columns, keys, cells
        if on is not None and (self._cursor >= len(keys) or keys[self._cursor] != on):
            self._cursor = keys.index(on) if on in keys else self._cursor
        self._cursor = max(0, min(self._cursor, len(keys) - 1))
        self._measure()
        self.refresh()

    def rewind(self) -> None:
        """Begin at the first line."""
        self._cursor, self.keys = 0, ()
        self.scroll_to(y=0, animate=False)

    @property
    def key(self) -> str | None:
        """The key of the line under the cursor."""
        return self.keys[self._cursor] if self._cursor < len(self.keys) else None

    def action_move(self, count: int) -> None:
        """Move the cursor by so many lines."""
        self._cursor = max(0, min(self._cursor + count, len(self.keys) - 1))
        # The head covers the first line of what is visible.
        self.scroll_to_region(Region(self.scroll_offset.x, self._cursor, 1, 2), animate=False, force=True)
        self._measure()
        self.refresh()

    def action_page(self, count: int) -> None:
        """Move the cursor by so many screens."""
        self.action_move(count * max(1, self.size.height - 2))

    def action_open(self) -> None:
        """Choose the line under the cursor."""
        if self.key is not None:
            self.post_message(self.Opened(self.key))

    def on_click(self, event: Click) -> None:
        """A click puts the cursor on a line, a second one chooses it."""
        line = self.scroll_offset.y + event.y - 1
        if event.y > 0 and line < len(self.keys):
            self.action_move(line - self._cursor)
            if event.chain > 1:
                self.action_open()

    def render_line(self, y: int) -> Strip:
        """A line of the screen: the first is the head."""
        offset, width = self.scroll_offset, self.size.width
        line = offset.y + y - 1
        if y == 0:
            segments = self._segments(self.columns, self.get_component_rich_style("head"))
        elif line < len(self.keys):
            is_here = line == self._cursor
            style = self.get_component_rich_style("cursor") if is_here else self.rich_style
            segments = self._segments(self.cells(self.keys[line]), style, is_coloured=not is_here)
        else:
            return Strip.blank(width, self.rich_style)
        return Strip(segments).crop_extend(offset.x, offset.x + width, segments[-1].style if segments else None)

    def _segments(self, cells: Sequence[str], style: Style, *, is_coloured: bool = False) -> list[Segment]:
        return [
            Segment(
                text.ljust(width + _GAP),
                style + Style.parse(_STYLES[text]) if is_coloured and text in _STYLES else style,
            )
            for text, width in zip(cells, self._widths, strict=True)
        ]

    def _measure(self) -> None:
        """Widen the columns for the lines that are on the screen."""
        top = self.scroll_offset.y
        for key in self.keys[top : top + self.size.height]:
            self._widths = [max(width, len(text)) for width, text in zip(self._widths, self.cells(key), strict=True)]
        self.virtual_size = Size(sum(self._widths) + _GAP * len(self._widths), len(self.keys) + 1)
