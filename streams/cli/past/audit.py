"""`facets audit`: a signed Merkle log over the journal, and what it shows of a record."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from streams.cli.options import Command, bootstrap_on_demand_option, bootstrap_option
from streams.errors import FacetsError
from streams.exit_codes import ExitCode

if TYPE_CHECKING:
    from streams.audit.journal_log import JournalLog
    from streams.kafka.range_reader import RangeReader


class RecordPlace(click.ParamType):
    """PARTITION:OFFSET, given as a pair."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Partition and offset."""
        if isinstance(value, tuple):
            return value
        partition, _, offset = str(value).partition(":")
        if not (partition.isdecimal() and offset.isdecimal()):
            self.fail(f"{value!r} is not PARTITION:OFFSET, such as 3:1207", param, ctx)
        return int(partition), int(offset)


def _folder() -> Path:
    from streams.runtime.folders import data_dir  # noqa: PLC0415

    return data_dir() / "audit"


def _key_option(command: Command) -> Command:
    return click.option(
        "--key", type=click.Path(dir_okay=False, path_type=Path), default=lambda: _folder() / "key.pem",
        envvar="FACETS_AUDIT_KEY", show_default="DATA_FOLDER/audit/key.pem",
        help="The Ed25519 key in PEM that signs (FACETS_AUDIT_KEY).",
    )(command)  # fmt: skip


def _public_key_option(command: Command) -> Command:
    return click.option(
        "--public-key", type=click.Path(dir_okay=False, path_type=Path), default=lambda: _folder() / "key.pem.pub",
        envvar="FACETS_AUDIT_PUBLIC_KEY", show_default="DATA_FOLDER/audit/key.pem.pub",
        help="The public key in PEM that is trusted (FACETS_AUDIT_PUBLIC_KEY).",
    )(command)  # fmt: skip


def _log_option(command: Command) -> Command:
    return click.option(
        "--log", "folder", type=click.Path(file_okay=False, path_type=Path), default=_folder,
        envvar="FACETS_AUDIT_LOG", show_default="DATA_FOLDER/audit",
        help="The folder of the logs (FACETS_AUDIT_LOG).",
    )(command)  # fmt: skip


@click.group("audit")
def audit_command() -> None:
    """Show that the journal is as it was: signed Merkle logs over its records.

    One log for each partition, in a folder: tiles (C2SP tlog-tiles) with RFC 6962 hashes, and a checkpoint as a signed
    note. An entry is canonical JSON with a record's offset, Kafka's timestamp in milliseconds, and the SHA-256 of key
    and value. Who keeps a checkpoint elsewhere can tell later that nothing before it was changed.

    \b
    facets audit key                             once: makes the key that signs
    facets audit checkpoint                      now and then, oftener than records expire
    facets audit verify                          names the first record that is not as it was
    facets audit prove 3:1207 > record.tlog-proof
    facets audit verify --proof record.tlog-proof --public-key key.pem.pub
    """


@audit_command.command("key")
@_key_option
def key_command(key: Path) -> None:
    """Make a key that signs checkpoints, and print its public key.

    The key can be read by you alone; the public key is beside it, in FILE.pub: give it to who is to check.
    """
    from streams.audit.keys import make_key, public_path, public_pem  # noqa: PLC0415

    click.echo(public_pem(make_key(key)).decode(), nl=False)
    click.echo(f"facets: the key is in {key}, its public key in {public_path(key)}", err=True)


@audit_command.command("checkpoint")
@_key_option
@_log_option
@bootstrap_option
def checkpoint_command(key: Path, folder: Path, bootstrap_servers: str) -> None:
    """Extend the logs up to what the tables have sealed, and print the signed checkpoints.

    A log is begun at the first record that is retained. Nothing is signed that contradicts what was signed before:
    where the log, or its last record in the journal, has changed, it is an error. Keep what is printed elsewhere, such
    as with another team: `facets audit verify --checkpoint FILE` takes it.
    """
    from streams.audit.journal_log import lock_held, locked, sealed_ends  # noqa: PLC0415
    from streams.audit.keys import read_key  # noqa: PLC0415
    from streams.runtime.process_lock import LockHeld  # noqa: PLC0415
    from streams.subscription.set_client import written_tables  # noqa: PLC0415

    private = read_key(key)
    tables = written_tables(bootstrap_servers)
    try:
        with locked(folder), _logs(folder, bootstrap_servers) as (logs, reader):
            ends = sealed_ends(reader, tables, len(logs))
            for log in logs:
                extended = log.extend(reader, ends[log.partition], private)
                if extended is None:
                    click.echo(f"facets: partition {log.partition}: nothing is sealed yet", err=True)
                    continue
                click.echo(extended.note, nl=False)
                size, added = extended.checkpoint.size, extended.added
                click.echo(f"facets: partition {log.partition}: {size} records, {added} of them new", err=True)
    except LockHeld as error:
        raise lock_held(error, folder) from None
    except OSError as error:
        raise FacetsError(
            f"the logs in {folder} can't be written: {error.strerror or error}",
            "free space or give another folder: --log", ExitCode.IO_ERROR,
        ) from error  # fmt: skip


@audit_command.command("verify")
@_log_option
@_public_key_option
@click.option(
    "--checkpoint", "kept", type=click.Path(dir_okay=False, path_type=Path), multiple=True,
    help="A checkpoint that was kept: the log must have grown out of it; repeatable.",
)  # fmt: skip
@click.option("--topic", default=None, help="Check a copy of the journal, such as a mirror's.  [default: the journal]")
@click.option(
    "--proof", type=click.Path(dir_okay=False, path_type=Path), help="Check this proof alone, without Kafka and log."
)
@bootstrap_on_demand_option
def verify_command(
    folder: Path,
    public_key: Path,
    kept: tuple[Path, ...],
    topic: str | None,
    proof: Path | None,
    bootstrap_servers: Any,
) -> None:
    """Name the first record of each partition that is altered, reordered or missing.

    Each record that is retained is held against its log, and the log against its signed checkpoint. Records that have
    expired can't be checked any more, and are named as that. Exit code 1 if anything differs, 3 if there is no log.
    With --proof only a proof is checked, offline.
    """
    from streams.audit.keys import read_public_key  # noqa: PLC0415

    trusted = read_public_key(public_key)
    if proof is not None:
        if kept or topic:
            raise click.UsageError("--proof is checked alone: it takes --public-key, and nothing else")
        _verify_proof(proof, trusted)
        return
    with _logs(folder, bootstrap_servers()) as (logs, reader):
        if topic is not None and reader.partitions(topic) != len(logs):
            raise FacetsError(
                f"{topic} has {reader.partitions(topic)} partitions, the journal {len(logs)}: it is no copy of it",
                "give the name of the copy: --topic", ExitCode.UNKNOWN_NAME,
            )  # fmt: skip
        results = [_verify(log, reader, trusted, topic) for log in logs]
        _verify_kept(logs, trusted, kept)
    if not any(result is not None for result in results):
        raise FacetsError(
            f"there is no log of this journal in {folder}", "facets audit checkpoint begins one", ExitCode.NOT_KNOWN
        )
    if False in results:
        raise SystemExit(ExitCode.NEGATIVE)


@audit_command.command("prove")
@click.argument("place", metavar="PARTITION:OFFSET", type=RecordPlace())
@_log_option
@_public_key_option
@bootstrap_option
def prove_command(place: tuple[int, int], folder: Path, public_key: Path, bootstrap_servers: str) -> None:
    """Print a proof that a journal record is in the log (C2SP tlog-proof).

    It has the record itself, as long as that is retained, and is checked without Kafka and log, by the public key:
    `facets audit verify --proof FILE`. A row's version is the offset of the record that made it.

    \b
    facets audit prove 3:1207 > record.tlog-proof
    """
    from streams.audit.journal_log import prove  # noqa: PLC0415
    from streams.audit.keys import read_public_key  # noqa: PLC0415

    partition, offset = place
    trusted = read_public_key(public_key)
    with _logs(folder, bootstrap_servers) as (logs, reader):
        if partition >= len(logs):
            raise click.BadParameter(f"partition {partition} not found: there are 0 to {len(logs) - 1}")
        click.echo(prove(logs[partition], reader, trusted, offset), nl=False)


@contextlib.contextmanager
def _logs(folder: Path, bootstrap: str) -> "Iterator[tuple[list[JournalLog], RangeReader]]":
    from streams.audit.journal_log import JournalLog  # noqa: PLC0415
    from streams.kafka.admin import cluster_id  # noqa: PLC0415
    from streams.kafka.range_reader import RangeReader  # noqa: PLC0415

    with RangeReader(bootstrap, "facets-audit") as reader:
        count, cluster = reader.journal_partitions(), cluster_id(bootstrap)
        yield [JournalLog(folder, cluster, partition) for partition in range(count)], reader


def _verify(log: "JournalLog", reader: "RangeReader", trusted: Any, topic: str | None) -> bool | None:
    """Check a partition, and print what was found; None where it has no log."""
    from streams.audit.journal_check import check_journal  # noqa: PLC0415
    from streams.audit.log_folder import LogDamaged  # noqa: PLC0415
    from streams.wire.records import JOURNAL  # noqa: PLC0415

    try:
        checkpoint = log.checkpoint(trusted)
        if checkpoint is None:
            return None
        checked = check_journal(log, checkpoint, reader, topic or JOURNAL)
    except LogDamaged as error:
        click.echo(f"partition {log.partition}: {error}")
        click.echo(f"  remedy: {error.remedy}", err=True)
        return False
    if checked.expired:
        click.echo(
            f"partition {log.partition}: offsets {checked.first} to {checked.first + checked.expired - 1} have "
            "expired: they are in the log, and can't be checked any more"
        )
    if checked.difference is not None:
        offset, kind, detail = checked.difference
        click.echo(f"partition {log.partition}: offset {offset} is {kind}: {detail}")
        return False
    later = f"; {checked.later} came after the checkpoint" if checked.later else ""
    click.echo(f"partition {log.partition}: {checked.size - checked.expired} records are as they were taken{later}")
    return True


def _verify_kept(logs: "list[JournalLog]", trusted: Any, files: tuple[Path, ...]) -> None:
    """Hold the logs against checkpoints that were kept: each file has one, or several as they were printed."""
    from streams.audit.journal_check import check_kept  # noqa: PLC0415
    from streams.audit.notes import NoteError, open_checkpoint, split_notes  # noqa: PLC0415

    by_origin = {log.origin: log for log in logs}
    for file in files:
        for note in split_notes(_read_text(file)):
            try:
                kept = open_checkpoint(note, trusted)
            except NoteError as error:
                raise FacetsError(
                    f"{file}: {error}", "give the checkpoint as it was printed", ExitCode.BAD_DATA
                ) from error
            log = by_origin.get(kept.origin)
            current = log.checkpoint(trusted) if log is not None else None
            if log is None or current is None:
                raise FacetsError(
                    f"{file} is of {kept.origin}: there is no such log here", "check --log", ExitCode.NOT_KNOWN
                )
            check_kept(log, current, kept)
            click.echo(f"partition {log.partition}: the log has grown out of the {kept.size} records of {file}")


def _verify_proof(file: Path, trusted: Any) -> None:
    from streams.audit.proofs import check_proof  # noqa: PLC0415

    try:
        proven = check_proof(_read_text(file), trusted)
    except ValueError as error:
        raise FacetsError(
            f"{file} proves nothing: {error}", "ask for the proof again: facets audit prove", ExitCode.NEGATIVE
        ) from error
    entry, checkpoint = proven.entry, proven.checkpoint
    click.echo(
        f"offset {entry.offset}, taken by Kafka at {entry.timestamp} ms, is record {proven.leaf} of {checkpoint.size} "
        f"in {checkpoint.origin}"
    )
    if proven.record is None:
        click.echo(f"its bytes had expired; the SHA-256 of its value is {entry.value}")
    else:
        click.echo((proven.record.value or b"").decode(errors="replace"))


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FacetsError(f"no file {file}", "check its name", ExitCode.UNKNOWN_NAME) from None
    except (OSError, UnicodeDecodeError) as error:
        raise FacetsError(f"{file} can't be read: {error}", "give another file", ExitCode.BAD_DATA) from error
