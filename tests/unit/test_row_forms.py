"""Rows as they are printed in batches."""

import msgspec
import pytest

from streams.wire.row_forms import without_endpoints

# What would end or begin a field's text if it were not inside a string.
_ODD = 'x"endpoints":[1],"change":{"added":[2'


@pytest.mark.parametrize("text", ["", _ODD, '],"change":{"added":['])
def test_only_the_endpoints_are_left_out(text: str) -> None:
    endpoint = {"address": "10.1.0.1", "target": {"name": text}, "ports": []}
    change = {"added": [endpoint], "removed": [], "updated": [endpoint]}
    row = {"table": "backend", "reason": text, "version": 7, "previous": 5, "endpoints": [endpoint], "change": change}
    printed = without_endpoints(msgspec.json.encode(row))
    assert printed == msgspec.json.encode({name: value for name, value in row.items() if name != "endpoints"})


def test_rows_of_other_tables_are_whole() -> None:
    text = msgspec.json.encode({"table": "frontend", "reason": _ODD, "ports": []})
    assert without_endpoints(text) == text
