"""The terminal interface of `facets top`: one table, whose views are walked as in k9s."""

import asyncio
import time
from datetime import UTC, datetime
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, Input, Static

from streams.cli.top.board import Board
from streams.cli.top.line_table import LineTable
from streams.cli.top.server import ServerFeed
from streams.cli.top.views import KINDS, Place, child, head, title, view

_REFRESH_SECONDS = 0.5


class TopApp(App[None]):
    """Services, clusters and routers of the server at an address."""

    TITLE = "facets top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #head { height: 1; background: $primary; color: $text; text-style: bold; }
    #path { height: 1; color: $text-muted; }
    #text { height: auto; max-height: 40%; }
    LineTable { height: 1fr; }
    #prompt { display: none; height: 3; }
    #prompt.asked { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "ask('/')", "Filter"),
        Binding("colon", "ask(':')", "View"),
        Binding("1", "go('services')", "Services"),
        Binding("2", "go('clusters')", "Clusters"),
        Binding("3", "go('routers')", "Routers"),
        Binding("escape", "leave", "Back"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, server: str) -> None:
        super().__init__()
        self._server = server
        self.board = Board()
        self.feed = ServerFeed(server, self.board, self._wake)
        self.places: list[Place] = [Place("services")]
        self._changed = asyncio.Event()

    def compose(self) -> ComposeResult:
        """The parts of the screen."""
        yield Static(id="head")
        yield Static(id="path")
        yield Static(id="text")
        yield LineTable()
        yield Input(id="prompt")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to follow the server."""
        self.query_one(LineTable).focus()
        self.run_worker(self.feed.run())
        self.run_worker(self._refresh())

    @property
    def place(self) -> Place:
        """The view that is shown."""
        return self.places[-1]

    def action_ask(self, sign: str) -> None:
        """Ask for a filter (`/`) or the name of a view (`:`)."""
        prompt = self.query_one("#prompt", Input)
        prompt.add_class("asked")
        prompt.placeholder = "filter: words; !word leaves out" if sign == "/" else f"view: {', '.join(KINDS)}"
        prompt.border_title = sign
        prompt.value = self.place.words if sign == "/" else ""
        prompt.focus()

    def action_go(self, kind: str) -> None:
        """Go to a view by its name, or the beginning of it."""
        found = next((each for each in KINDS if kind and each.startswith(kind.lower())), None)
        if found is None:
            self.notify(f"no view {kind!r}: {', '.join(KINDS)}", severity="warning")
            return
        self._go([Place(found)])

    def action_leave(self) -> None:
        """Leave the prompt, then the filter, then the view."""
        if self.query_one("#prompt", Input).has_class("asked"):
            self._filter("")
            self._leave_prompt()
        elif self.place.words:
            self._filter("")
        elif len(self.places) > 1:
            self._go(self.places[:-1])

    def on_line_table_opened(self, event: LineTable.Opened) -> None:
        """Go to what is behind a line."""
        opened = child(self.board, self.place, event.key)
        if opened is not None:
            self._go([*self.places, opened])

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed."""
        if event.input.border_title == "/" and event.input.has_class("asked"):
            self._filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter, or go to the view."""
        sign, words = event.input.border_title, event.value.strip()
        self._leave_prompt()
        if sign == ":" and words:
            self.action_go(words)

    def _leave_prompt(self) -> None:
        prompt = self.query_one("#prompt", Input)
        prompt.remove_class("asked")
        self.query_one(LineTable).focus()

    def _filter(self, words: str) -> None:
        self.places[-1] = self.place._replace(words=words)
        self.draw()

    def _go(self, places: list[Place]) -> None:
        self.places = places
        self.query_one(LineTable).rewind()
        self.draw()

    def _wake(self) -> None:
        self._changed.set()

    async def _refresh(self) -> None:
        """Draw what has changed, at most so often; and the ages, when nothing has."""
        while True:
            started = time.monotonic()
            self.draw()
            # A filter over very many Services leaves most of the time to keys and events.
            await asyncio.sleep(max(_REFRESH_SECONDS, 4 * (time.monotonic() - started)))
            self._changed.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def draw(self) -> None:
        """Show the board as it is."""
        self.board.count_down(time.monotonic())
        now = datetime.now(UTC)
        shown = view(self.board, self.place, now)
        self.query_one("#head", Static).update(Text(head(self.board, self.feed.connection)))
        filtered = f"  /{self.place.words}" if self.place.words else ""
        path = f"{' > '.join(map(title, self.places))} ({len(shown.keys)}){filtered}   $ {shown.command}"
        self.query_one("#path", Static).update(Text(path))
        text = self.query_one("#text", Static)
        text.update(Text(shown.text))
        text.display = bool(shown.text)
        self.query_one(LineTable).show(shown.columns, shown.keys, shown.cells)
