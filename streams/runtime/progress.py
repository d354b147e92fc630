"""Progress of long steps: a bar on a terminal, plain lines under a pipe, always on stderr."""

from collections.abc import Callable

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

#: Called with the step and its fraction done (0 to 1; None if unknown).
ProgressReport = Callable[[str, float | None], None]


class TerminalProgress:
    """Shows each step on stderr: one bar a step on a terminal; else one line when the step begins."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._step: str | None = None

    def __call__(self, step: str, fraction: float | None) -> None:
        if step != self._step:
            self.close()
            self._step = step
            if not (self._console.is_terminal and fraction is not None):
                self._console.print(step, highlight=False, markup=False, soft_wrap=True)
        if fraction is None or not self._console.is_terminal:
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                console=self._console,
            )
            self._task = self._bar.add_task(step, total=1.0)
            self._bar.start()
        if self._task is not None:
            self._bar.update(self._task, completed=fraction)
        if fraction >= 1.0:
            self.close()

    def close(self) -> None:
        """Removes the bar, if any."""
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._task = None
