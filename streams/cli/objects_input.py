"""Kubernetes objects from files, folded: what the offline commands share."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import click
import orjson

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.fold.offline import AuditFold, UnknownInput
from streams.fold.table import Write
from streams.objects.documents import Item, UnreadableDocument, UnreadableInput, read_documents

_REMEDY = "give it what `kubectl get services,endpointslices,endpoints -A -o json` (or -o yaml) prints, as UTF-8"
_NAMED = 20
"""How many problems of a file are named; the others are counted."""

DEFAULT_CLUSTER = "local"


class ClusterFile(click.ParamType):
    """NAME=FILE: a cluster's name, and the file with its objects."""

    name = "name=file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, IO[bytes]]:
        """The name and the opened file."""
        if isinstance(value, tuple):
            return value
        name, separator, path = str(value).partition("=")
        if not separator or not name or not path:
            self.fail(f"{value!r} is not NAME=FILE", param, ctx)
        file: IO[bytes] = click.File("rb").convert(path, param, ctx)
        return name, file


def inputs_by_cluster(
    files: Sequence[IO[bytes]], clusters: Sequence[tuple[str, IO[bytes]]], name: str = DEFAULT_CLUSTER
) -> dict[str, list[IO[bytes]]]:
    """The files of each cluster: without `clusters` those of the one with this name (without a file, standard input).
    Raises click.UsageError if both are given."""
    if files and clusters:
        raise click.UsageError("give FILEs of one cluster, or --cluster NAME=FILE for each of several, not both")
    if not clusters:
        return {name: list(files) or [sys.stdin.buffer]}
    inputs: dict[str, list[IO[bytes]]] = {}
    for cluster, file in clusters:
        inputs.setdefault(cluster, []).append(file)
    return inputs


class ObjectsInput:
    """Files with the objects of one cluster. What can't be read is reported on standard error, and counted."""

    def __init__(self, command: str, files: Sequence[IO[bytes]]) -> None:
        self._command = command
        self._files = files
        self._unreadable: dict[str, int] = {}

    def writes(self, fold: AuditFold) -> Iterator[Write]:
        """Fold the files one after another; yields the rows and tombstones. Raises FacetsError as `batches`."""
        for batch in self.batches(fold):
            yield from batch

    def batches(self, fold: AuditFold) -> Iterator[list[Write]]:
        """Fold the files one after another; yields the rows and tombstones of each document, those of whole commits.
        Raises FacetsError if a file is no text, or can't be read from the disk."""
        for file in self._files:
            name = str(getattr(file, "name", "<stdin>"))
            try:
                for item in read_documents(file):
                    yield self._fold(fold, name, item)
            except UnreadableInput as error:
                raise FacetsError(f"{name} can't be read: {error}", _REMEDY, ExitCode.BAD_DATA) from error
            except OSError as error:
                raise FacetsError(
                    f"{name} can't be read: {error.strerror or error}", "name a file", ExitCode.BAD_DATA
                ) from error
        yield list(self._rows(fold.finish()))
        if fold.unknown_kinds:
            kinds = ", ".join(f"{kind} ({count})" for kind, count in sorted(fold.unknown_kinds.items()))
            self._report(f"kinds that no facet uses: {kinds}")

    def raise_for_unreadable(self) -> None:
        """Raises FacetsError if a part of the input could not be read."""
        if self._unreadable:
            parts = " and ".join(f"{count} part(s) of {name}" for name, count in self._unreadable.items())
            raise FacetsError(f"{parts} could not be read; the rest is folded", _REMEDY, ExitCode.BAD_DATA)

    def _fold(self, fold: AuditFold, name: str, item: Item) -> list[Write]:
        if isinstance(item, UnreadableDocument):
            self._count(name, item.place, item.reason)
            return []
        try:
            return list(self._rows(fold.take(item.value)))
        except UnknownInput as error:
            self._count(name, item.place, str(error))
            return []

    def _rows(self, writes: Iterable[Write]) -> Iterator[Write]:
        for write in writes:
            if write.table == "deadletter":
                letter: dict[str, Any] = orjson.loads(write.value or b"{}")
                self._report(f"{letter['kind']} {letter['namespace']}/{letter['name']}: {letter['reason']}")
            elif not write.key.startswith(b"~"):
                yield write

    def _count(self, name: str, place: str, reason: str) -> None:
        self._unreadable[name] = self._unreadable.get(name, 0) + 1
        if self._unreadable[name] <= _NAMED:
            self._report(f"{name}: {place}: {reason}")

    def _report(self, text: str) -> None:
        click.echo(f"facets {self._command}: {text}", err=True)
