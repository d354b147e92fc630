"""`facets index`: keeps an index of the past in a file."""

import asyncio
from pathlib import Path

import click

from streams.cli.options import bootstrap_option, index_option


@click.command("index")
@index_option("The index's file (FACETS_INDEX).")
@click.option(
    "--processes", type=click.IntRange(min=1), help="Processes that fold what is there at the start.  [default: cores]"
)
@click.option("--once", is_flag=True, help="End when the index has all that is in the journal now.")
@bootstrap_option
def index_command(index: Path, processes: int | None, once: bool, bootstrap_servers: str) -> None:
    """Keep an index of the past, so that looking back needs no replay.

    Folds the journal into a file (SQLite) that has every row of every Service in compressed blocks, and by address the
    Services that have had it; then follows. get, who, history, diff and replay with a time answer from it where it
    covers the time: the same bytes, in milliseconds. It goes on where it was ended, however that was; an index that is
    damaged, of another version or of other topics is built again. What the journal has let go, the index lets go.

    Start as many as you like, each with a file of its own: they only read Kafka.

    \b
    facets index
    facets index --once && facets who 10.1.2.3 --at 24h

    A signal stops it within 15 s. Exit codes: 69: no broker; 74: the file can't be written, such as for a full disk;
    75: another process keeps this file.
    """
    from streams.history.parallel import cores  # noqa: PLC0415
    from streams.index.run import IndexSettings, run_index  # noqa: PLC0415
    from streams.runtime.progress import TerminalProgress  # noqa: PLC0415
    from streams.runtime.shutdown import leave, set_on_signals  # noqa: PLC0415

    settings = IndexSettings(bootstrap_servers, index, processes or cores(), once)
    progress = TerminalProgress()

    def ready(text: str) -> None:
        progress.close()
        click.echo(f"facets index: {text}", err=True)

    async def until_stopped() -> None:
        stop = asyncio.Event()
        set_on_signals(stop)
        try:
            await run_index(settings, stop, progress, ready)
        finally:
            progress.close()

    asyncio.run(until_stopped())
    leave()
