"""Rows as a Parquet file: a column for what is asked for most, and the whole row beside them. pyarrow is an extra."""

from datetime import datetime
from types import TracebackType
from typing import Any, BinaryIO, Self

import orjson

from streams.errors import FacetsError
from streams.exit_codes import ExitCode
from streams.subscription.rows import Row
from streams.wire.timestamps import read

_GROUP_ROWS = 5_000
"""How many rows are held until they are written as a row group."""

_CAUSE = ("kind", "namespace", "name", "uid", "resourceVersion", "trigger")
_ENDPOINT = ("address", "family", "cluster", "zone", "node", "slice")
_CONDITIONS = ("ready", "serving", "terminating")

_COLUMNS = {
    "table": "frontend, backend, routing or clusterset",
    "cluster": "the cluster; empty in rows of the clusterset, which are of all",
    "namespace": "the Service's namespace",
    "name": "the Service's name",
    "version": "the offset of the journal record that made the row, in the Service's partition",
    "previous": "the version before; null in a Service's first row",
    "at": "when the commit that made the row was written, by its watcher's clock",
    "state": "ready, empty, stale, unknown or deleted",
    "reason": "why the state is that",
    "cause": "the objects whose change made the row",
    "endpoints": "the whole endpoint set from then on; null in tables that have none",
    "row": "the whole row as JSON; its schema is urn:service-facets:TABLE-view",
}


class ParquetFile:
    """Writes rows to an open file; use it in a `with`. Raises FacetsError where pyarrow is not installed, OSError."""

    def __init__(self, file: BinaryIO) -> None:
        self._arrow, parquet = _pyarrow()
        self._schema = schema()
        self._writer = parquet.ParquetWriter(file, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._flush()
        finally:
            self._writer.close()

    def write(self, row: Row) -> None:
        """Write a row, now or with the next ones."""
        self._rows.append(_columns_of(row))
        if len(self._rows) == _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def schema() -> Any:
    """The file's schema: what each column means is its metadata. Raises FacetsError where pyarrow is not installed."""
    arrow, _ = _pyarrow()
    text = arrow.string()
    causes = arrow.list_(arrow.struct([(name, text) for name in _CAUSE]))
    endpoint = [
        *((name, text) for name in _ENDPOINT),
        *((name, arrow.bool_()) for name in _CONDITIONS),
        ("target", text),
    ]
    types = {
        "version": arrow.int64(),
        "previous": arrow.int64(),
        "at": arrow.timestamp("ms", tz="UTC"),
        "cause": causes,
        "endpoints": arrow.list_(arrow.struct(endpoint)),
    }
    optional = {"previous", "endpoints"}
    return arrow.schema(
        [
            arrow.field(name, types.get(name, text), nullable=name in optional, metadata={"description": description})
            for name, description in _COLUMNS.items()
        ]
    )


def _columns_of(row: Row) -> dict[str, Any]:
    content = row.decode()
    at: datetime = read(content["asOf"]["at"])
    return {
        "table": row.table,
        **{name: content[name] for name in ("cluster", "namespace", "name", "version", "previous", "state", "reason")},
        "at": at,
        "cause": [{name: cause.get(name, "") for name in _CAUSE} for cause in content["cause"]],
        "endpoints": [_endpoint(endpoint) for endpoint in content["endpoints"]] if "endpoints" in content else None,
        "row": orjson.dumps(content).decode(),
    }


def _endpoint(endpoint: dict[str, Any]) -> dict[str, Any]:
    target = endpoint["target"]
    return {name: endpoint.get(name) for name in (*_ENDPOINT, *_CONDITIONS)} | {
        "target": f"{target['kind']}/{target['namespace']}/{target['name']}" if target else None
    }


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # noqa: PLC0415
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise FacetsError(
            "Parquet is written by pyarrow, which is not installed", "pip install 'service-facets[parquet]'",
            ExitCode.UNAVAILABLE,
        ) from None  # fmt: skip
    return pyarrow, parquet
