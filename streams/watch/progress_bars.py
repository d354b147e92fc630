"""Progress bars for the first lists of clusters."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from streams.runtime.closing import Closing


class ListProgress(Closing):
    """A bar for each resource of each cluster, on stderr, removed when all are listed. Later lists have none."""

    def __init__(self, console: Console | None = None) -> None:
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            console=console or Console(stderr=True),
            transient=True,
        )
        self._tasks: dict[tuple[str, str], TaskID] = {}
        self._open: set[tuple[str, str]] = set()

    def close(self) -> None:
        """Take them off the screen."""
        self._bars.stop()

    def __call__(self, cluster: str, resource: str, listed: int, total: int | None, done: bool) -> None:
        """Update the number of objects listed."""
        key = (cluster, resource)
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(f"listing {cluster} {resource}", total=total)
            self._open.add(key)
            self._bars.start()
        self._bars.update(self._tasks[key], completed=listed, total=listed if done else max(total or 0, listed) or None)
        if done:
            self._open.discard(key)
            if not self._open:
                self._bars.stop()
