"""`facets export` on a real journal: CloudEvents that their SDK reads, Parquet that pyarrow reads, the whole range."""

import builtins
import json
import resource
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from pyarrow import parquet

from tests.support.past import TIMES, Past, facets

SCHEMAS = Path(__file__).parents[2] / "schemas"
RANGE = ("--since", TIMES[1], "--until", TIMES[2])


def history(past: Past, *more: str) -> list[dict[str, Any]]:
    """What the other command that looks back has."""
    lines = facets(past, "history", "--last", "100000", "-o", "json", *more).stdout.splitlines()
    return [json.loads(line) for line in lines]


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["table"], row["cluster"], row["namespace"], row["name"], row["version"]


def test_events_are_cloudevents_with_the_rows_of_the_range(past: Past) -> None:
    result = facets(past, "export", *RANGE)
    assert result.exit_code == 0, result.output
    assert result.stderr.endswith("facets: 2 changes\n")
    events = [JSONFormat().read(CloudEvent, line) for line in result.stdout.splitlines()]
    found = [(e.get_type(), e.get_subject(), e.get_time().isoformat(timespec="milliseconds")) for e in events]
    assert found == [
        ("io.service-facets.backend.changed", "east/shop/s1", TIMES[i].replace("Z", "+00:00")) for i in (1, 2)
    ]
    assert [{"table": "backend", **e.get_data()} for e in events] == history(past, *RANGE)


def test_without_a_range_all_is_exported_once_and_fits_its_schema(past: Past) -> None:
    past.write([record for _ in range(100) for record in past.tables.churn.change()])
    events = [json.loads(line) for line in facets(past, "export").stdout.splitlines()]
    assert len({(event["source"], event["id"]) for event in events}) == len(events) > 100
    rows = [{"table": event["type"].split(".")[2], **event["data"]} for event in events]
    assert sorted(map(key, rows)) == sorted(map(key, history(past)))
    for event in events:
        name = event["dataschema"].removeprefix("urn:service-facets:")
        jsonschema.validate(event["data"], json.loads((SCHEMAS / f"{name}.json").read_text()))
    one = [json.loads(line) for line in facets(past, "export", "backend", "--service", "s1").stdout.splitlines()]
    assert [event["id"] for event in one] == [
        event["id"] for event in events if event["subject"] == "east/shop/s1" and ".backend." in event["type"]
    ]


def test_parquet_has_the_same_rows_in_columns(past: Past, tmp_path: Path) -> None:
    file = tmp_path / "all.parquet"
    result = facets(past, "export", "--format", "parquet", "-o", str(file))
    assert result.exit_code == 0, result.output
    table = parquet.read_table(file)
    assert b"journal record" in table.schema.field("version").metadata[b"description"]
    assert str(table.schema.field("at").type) == "timestamp[ms, tz=UTC]"
    rows = table.to_pylist()
    expected = {key(row): row for row in history(past)}
    assert {key(row): json.loads(row["row"]) for row in rows} == {
        place: {name: value for name, value in row.items() if name != "table"} for place, row in expected.items()
    }
    for row in rows:
        whole = expected[key(row)]
        assert row["at"].isoformat(timespec="milliseconds") == whole["asOf"]["at"].replace("Z", "+00:00")
        assert [each["address"] for each in row["endpoints"] or ()] == [
            each["address"] for each in whole.get("endpoints", ())
        ]
        assert (row["endpoints"] is None) == ("endpoints" not in whole)
    assert [path.name for path in tmp_path.iterdir()] == ["all.parquet"]


def test_a_range_without_changes_leaves_no_file(past: Past, tmp_path: Path) -> None:
    file = tmp_path / "none.jsonl"
    none = facets(past, "export", "--service", "s1", "--since", TIMES[3].replace("00.000", "00.001"), "-o", str(file))
    assert "no change in that time" in str(none.exception)
    late = facets(past, "export", "--until", "2026-11-20T00:00:00Z", "-o", str(file))
    assert "before the journal's beginning" in str(late.exception)
    assert list(tmp_path.iterdir()) == []


def test_what_can_not_be_written_is_said(past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "give -o FILE" in str(facets(past, "export", "--format", "parquet").exception)
    for form in ("parquet", "cloudevents"):
        missing = facets(past, "export", "--format", form, "-o", str(tmp_path / "no" / "file"))
        assert "can't be written: No such file" in str(missing.exception)
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        try:
            full = facets(past, "export", "--format", form, "-o", str(tmp_path / "file"))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert "can't be written" in str(full.exception)
        assert list(tmp_path.iterdir()) == []
    imported = builtins.__import__

    def without_pyarrow(name: str, *rest: Any) -> Any:
        if name == "pyarrow":
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    absent = facets(past, "export", "--format", "parquet", "-o", str(tmp_path / "file"))
    assert "not installed" in str(absent.exception)
