"""How commands look back: from the index where there is one that covers the point, else by a replay."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from streams.cli.output import remark
from streams.errors import FacetsError
from streams.exit_codes import ExitCode

if TYPE_CHECKING:
    from streams.history.queries import Until
    from streams.history.replay import Replay
    from streams.index.past import Past
    from streams.subscription.rows import Filter


@contextlib.contextmanager
def looking_back(bootstrap: str, index: Path, until: "Until", selection: "Filter | None" = None) -> "Iterator[Past]":
    """The past of the selected Services (None: of all) up to a point. Says on stderr where it is folded, and what would
    be faster. Raises FacetsError."""
    from streams.index.database import IndexUnusable  # noqa: PLC0415
    from streams.index.past import FoldedPast, IndexedPast, open_index  # noqa: PLC0415
    from streams.subscription.rows import EVERYTHING  # noqa: PLC0415

    reader = None
    if not until.seqs:
        if not index.exists():
            remark(["the journal is folded for this; an index would be faster: facets index"])
        else:
            try:
                reader = open_index(index, bootstrap, until, selection or EVERYTHING)
            except IndexUnusable as error:
                remark([f"{error}: the journal is folded instead; facets index brings it up to date"])
    if reader is None:
        with folding(bootstrap) as replay:
            yield FoldedPast(replay)
        return
    with reader:
        try:
            yield IndexedPast(reader)
        except IndexUnusable as error:
            raise FacetsError(
                str(error), "facets index builds it again; until then delete it, and the journal is folded",
                ExitCode.BAD_DATA,
            ) from error  # fmt: skip


@contextlib.contextmanager
def folding(bootstrap: str, processes: int | None = None) -> "Iterator[Replay]":
    """A replay with its progress on stderr; warns if the journal's beginning has expired."""
    from streams.history.replay import Replay  # noqa: PLC0415
    from streams.runtime.progress import TerminalProgress  # noqa: PLC0415

    progress = TerminalProgress()
    try:
        with Replay(bootstrap, progress, processes=processes) as replay:
            if not replay.whole:
                click.echo(
                    "facets: the journal's beginning has expired: the replay starts at its first retained snapshot",
                    err=True,
                )
            yield replay
    finally:
        progress.close()
