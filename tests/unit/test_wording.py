"""Errors that a person meets say what is wrong in plain words, and what to do."""

from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from click.testing import CliRunner

from streams.cli import cli
from streams.errors import FacetsError
from streams.serve.http import query as http_query
from streams.serve.http.query import BadParameter
from streams.subscription.delivery import Cursor


def test_no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACETS_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("FACETS_BOOTSTRAP_SERVERS", raising=False)
    error = CliRunner().invoke(cli, ["get", "backend"], standalone_mode=False).exception
    assert isinstance(error, FacetsError)
    assert str(error) == "no Kafka broker: `facets up` isn't running here, and --bootstrap-servers isn't set"
    assert error.exit_code == 69


@pytest.mark.parametrize("text", ["x", "Zm9v", "%%%", "e30="])
def test_a_damaged_cursor(text: str) -> None:
    with pytest.raises(FacetsError) as raised:
        Cursor.decode(text)
    assert str(raised.value) == "the cursor is damaged or isn't one"
    assert "leave the cursor out" in raised.value.remedy


def _known(request: web.Request) -> None:
    http_query.known_only(request, "cluster", "table")


def _cluster(request: web.Request) -> str:
    return http_query.one(request, "cluster")


def _timeout(request: web.Request) -> float:
    return http_query.seconds(request, "timeout", 1, 60)


@pytest.mark.parametrize(
    ("query", "check", "text"),
    [
        ("cluster=east", http_query.known_only, "this path takes no query parameters (got cluster)"),
        ("clutser=a", _known, 'unknown parameter clutser: did you mean "cluster"?'),
        ("xyz=a", _known, "unknown parameter xyz: there are cluster, table"),
        ("cluster=a&cluster=b", _cluster, "parameter cluster is given 2 times; give it once"),
        ("", _cluster, "parameter cluster is missing: a cluster's name (letters, digits, - _ and .)"),
        ("timeout=x", _timeout, "parameter timeout must be a number of seconds from 0 to 60 (got 'x')"),
        ("table=pods", http_query.selection, "parameter table must be one of frontend, backend, routing (got 'pods')"),
    ],
)
def test_query_parameters(query: str, check: Callable[[web.Request], object], text: str) -> None:
    with pytest.raises(BadParameter) as raised:
        check(make_mocked_request("GET", f"/v1/changes?{query}"))
    assert str(raised.value) == text
