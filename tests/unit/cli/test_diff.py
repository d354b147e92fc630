"""`facets diff`: what it says of a difference."""

from itertools import pairwise
from typing import Any

from streams.cli.past.diff import _describe
from streams.history.queries import differences


def endpoint(**more: Any) -> dict[str, Any]:
    port = {"name": "http", "port": 80, "protocol": "TCP", "appProtocol": None}
    return {"address": "10.1.0.1", "family": "IPv4", "ports": [port], "ready": True, "target": None, **more}


def test_a_field_that_is_not_always_there_comes_changes_and_goes() -> None:
    rows = [{"endpoints": [endpoint(**each)]} for each in ({}, {"hostname": "web-0"}, {"hostname": "web-1"}, {})]
    said = [_describe(each) for old, new in pairwise(rows) for each in differences("backend", old, new)]
    assert [text.partition("  ")[2] for text in said] == [
        'hostname: null -> "web-0"', 'hostname: "web-0" -> "web-1"', 'hostname: "web-1" -> null',
    ]  # fmt: skip
