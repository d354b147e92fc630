"""Repeated log lines are summed up, by kind and by time, and nothing is lost at the end."""

import logging
from collections.abc import Callable, Iterator

import pytest

from streams.objects.resources import OPTIONAL, RESOURCES
from streams.runtime.log_summary import BURST, WINDOW_SECONDS, RepeatSummary


class Written(logging.Handler):
    """Keeps the lines."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"{record.levelname} {record.name}: {record.getMessage()}")


class MovedClock:
    """A clock that a test moves; what is scheduled happens on its way."""

    def __init__(self) -> None:
        self.now = 100.0
        self._due: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def schedule(self, seconds: float, call: Callable[[], None]) -> "MovedClock.Entry":
        entry = (self.now + seconds, call)
        self._due.append(entry)
        return self.Entry(self, entry)

    def move(self, seconds: float) -> None:
        end = self.now + seconds
        while due := min((each for each in self._due if each[0] <= end), key=lambda each: each[0], default=None):
            self._due.remove(due)
            self.now = due[0]
            due[1]()
        self.now = end

    class Entry:
        def __init__(self, clock: "MovedClock", entry: tuple[float, Callable[[], None]]) -> None:
            self._clock, self._entry = clock, entry

        def cancel(self) -> None:
            if self._entry in self._clock._due:
                self._clock._due.remove(self._entry)


class World:
    def __init__(self) -> None:
        self.clock = MovedClock()
        self.written = Written()
        self.handler = RepeatSummary(self.written, clock=self.clock, schedule=self.clock.schedule)
        self.log = logging.Logger("facets.sse", logging.DEBUG)
        self.log.addHandler(self.handler)

    @property
    def lines(self) -> list[str]:
        return self.written.lines


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.handler.close()


def test_a_thousand_equal_warnings_are_a_few_lines_and_a_number(world: World) -> None:
    for client in range(1000):
        world.log.warning("%s: disconnected, it has read nothing for %g s", f"10.0.0.{client}", 5)
    assert len(world.lines) == BURST
    world.clock.move(WINDOW_SECONDS)
    assert world.lines[BURST:] == [
        f"WARNING facets.sse: … {1000 - BURST} more like this in 10 s, the last: "
        "10.0.0.999: disconnected, it has read nothing for 5 s"
    ]
    world.clock.move(1000)
    assert len(world.lines) == BURST + 1


def test_a_flood_that_goes_on_is_a_summary_a_window(world: World) -> None:
    for _ in range(600):
        world.log.error("no")
        world.clock.move(0.1)
    world.handler.flush()
    counts = [int(line.split()[3]) for line in world.lines if "more like this" in line]
    assert sum(counts) + BURST * len(counts) == 600
    assert len(world.lines) <= 7 * (BURST + 1)


def test_lines_of_different_kinds_are_told_apart(world: World) -> None:
    other = logging.Logger("facets.xds", logging.DEBUG)
    other.addHandler(world.handler)
    for _ in range(BURST + 1):
        world.log.warning("a %s", 1)
        world.log.error("a %s", 1)
        world.log.warning("b %s", 1)
        other.warning("a %s", 1)
    assert len(world.lines) == 4 * BURST
    world.handler.flush()
    assert sum("1 more like this" in line for line in world.lines) == 4


def test_what_was_formatted_before_is_one_kind_whatever_its_numbers_are(world: World) -> None:
    for client in range(100):
        world.log.warning(f"client {client} left after {client * 3} ms")
    assert len(world.lines) == BURST


def test_a_few_lines_stay_as_they_are(world: World) -> None:
    for _ in range(20):
        world.log.info("listed %s", "services")
        world.clock.move(WINDOW_SECONDS / (BURST - 1))
    world.clock.move(100)
    assert world.lines == ["INFO facets.sse: listed services"] * 20


def test_a_line_of_each_resource_type_is_kept(world: World) -> None:
    """What an account may not read is a warning for each type, and a person needs the names of all of them."""
    for resource in (*RESOURCES, *OPTIONAL):
        world.log.warning("not allowed: list %s", resource.frontier)
    assert len(world.lines) == len(RESOURCES) + len(OPTIONAL)


def test_debug_is_never_left_out(world: World) -> None:
    for _ in range(100):
        world.log.debug("x")
    assert len(world.lines) == 100


def test_the_end_of_the_process_loses_no_number(world: World) -> None:
    for _ in range(BURST + 7):
        world.log.warning("x")
    world.handler.close()
    assert "7 more like this" in world.lines[-1]
    world.clock.move(100)
    assert len(world.lines) == BURST + 1


def test_without_end_many_kinds_take_no_memory_without_end(world: World) -> None:
    for kind in range(5000):
        world.log.warning("kind " + "x" * kind)
    assert len(world.lines) == 5000
    assert len(world.handler._windows) <= 512


def test_it_is_done_in_every_process(caplog: pytest.LogCaptureFixture) -> None:
    """The real timer and logging's own end: a process that logs a thousand lines and ends."""
    import subprocess
    import sys

    code = (
        "import logging; from streams.runtime.log_setup import configure_logging; configure_logging(0, 'text')\n"
        "for i in range(1000): logging.getLogger('facets.x').warning('client %s', i)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    lines = done.stderr.splitlines()
    assert len(lines) == BURST + 1
    assert f"… {1000 - BURST} more like this" in lines[-1]
    assert lines[-1].endswith("the last: client 999")
