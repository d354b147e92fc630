"""Errors that a person meets say what is wrong in plain words, and what to do."""

from pathlib import Path
from urllib.parse import parse_qsl

import msgspec
import pytest
from click.testing import CliRunner

from streams.cli import cli
from streams.errors import FacetsError
from streams.serve.http.endpoint import Nothing
from streams.serve.http.endpoints import acked, changes, propagation
from streams.serve.http.query import BadParameter, decode_parameters
from streams.subscription.cursor import Cursor

WRITE = "cluster=a&resourceVersion=1"
SECONDS = "parameter timeout must be a number of seconds from 0 to 3600"


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


@pytest.mark.parametrize(
    ("kind", "query", "text"),
    [
        (Nothing, "cluster=east", "this path takes no query parameters (got cluster)"),
        (changes.Query, "clutser=a", 'unknown parameter clutser: did you mean "cluster"?'),
        (propagation.Query, "xyz=a", "unknown parameter xyz: there are namespace, service"),
        (acked.Query, "cluster=a&cluster=b", "parameter cluster is given 2 times; give it once"),
        (acked.Query, "", "parameter cluster is missing: a cluster's name (letters, digits, - _ and .)"),
        (acked.Query, f"{WRITE}&timeout=x", f"{SECONDS} (got 'x')"),
        (
            acked.Query,
            f"{WRITE}&timeout=nan",
            "parameter timeout must be a number of seconds from 0 to 3600 (got 'nan')",
        ),
        (acked.Query, "cluster=a&resourceVersion=x", "parameter resourceVersion must be a decimal number (got 'x')"),
        (
            changes.Query,
            "table=pods",
            "parameter table must be one of frontend, backend, routing, clusterset (got 'pods')",
        ),
        (
            changes.Query,
            "namespace=a&namespace=B",
            "parameter namespace must be a Kubernetes name (lower case letters, digits, - and .) (got 'B')",
        ),
        (
            changes.Query,
            "service=a%0a",
            "parameter service must be a Kubernetes name (lower case letters, digits, - and .) (got 'a\\n')",
        ),
        (changes.Query, "&".join(["service=a"] * 101), "parameter service is given 101 times; the limit is 100"),
    ],
)
def test_query_parameters(kind: type[msgspec.Struct], query: str, text: str) -> None:
    with pytest.raises(BadParameter) as raised:
        decode_parameters(parse_qsl(query, keep_blank_values=True), kind)
    assert str(raised.value) == text


@pytest.mark.parametrize("timeout", ["1", "1.5", ".5", "1e2", "0"])
def test_a_time_is_a_number_as_python_reads_it(timeout: str) -> None:
    found = decode_parameters(parse_qsl(f"{WRITE}&timeout={timeout}&timeout=9"), acked.Query)
    assert (found.timeout, found.resource, found.namespace) == (
        float(timeout),
        "endpointslices.discovery.k8s.io",
        msgspec.UNSET,
    )
