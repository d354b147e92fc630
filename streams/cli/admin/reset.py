"""`facets reset`: deletes this machine's data."""

import shutil

import click

from streams.errors import FacetsError
from streams.exit_codes import ExitCode


@click.command("reset")
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
def reset_command(yes: bool) -> None:
    """Delete what `facets up` and `facets work` keep on this machine: Kafka's data with all topics, and checkpoints.

    Refused while anything runs there. The folder is FACETS_DATA_DIR, else this user's; a Kafka elsewhere and
    downloads are not touched.

    \b
    facets reset
    FACETS_DATA_DIR=/tmp/try facets reset --yes
    """
    from streams.local.local_data import claimed, size_of  # noqa: PLC0415
    from streams.runtime.folders import data_dir  # noqa: PLC0415

    folder = data_dir()
    if not folder.is_dir() or not any(folder.iterdir()):
        click.echo(f"There is nothing to delete in {folder}.")
        return
    with claimed(folder) as parts:
        if not parts:
            click.echo(f"There is nothing of facets to delete in {folder}.")
            return
        size = sum(map(size_of, parts)) / 1e6
        if not yes:
            click.confirm(f"Delete {size:.1f} MB of Kafka topics and checkpoints in {folder}?", abort=True)
        try:
            for part in parts:
                shutil.rmtree(part) if part.is_dir() else part.unlink()
        except OSError as error:
            raise FacetsError(
                f"{error.filename} can't be deleted: {error.strerror}", "check who owns it, and run this again",
                ExitCode.IO_ERROR,
            ) from error  # fmt: skip
    click.echo(f"Deleted {size:.1f} MB in {folder}.")
