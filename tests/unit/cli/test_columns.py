"""Tables as a person reads them: columns, ages, and what is cut."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest

from streams.cli.columns import age, fit
from streams.cli.output import RowPrinter, sort_rows
from streams.wire.timestamps import write

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (185, "3m5s"), (600, "10m"), (3600, "60m"), (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"), (9 * 3600, "9h"), (47 * 3600, "47h"), (50 * 3600, "2d2h"), (9 * 86400, "9d"),
        (800 * 86400, "2y70d"), (3650 * 86400, "10y"),
    ],
)  # fmt: skip
def test_age_is_kubectls(seconds: int, text: str) -> None:
    assert age(write(NOW - timedelta(seconds=seconds)), NOW) == text


@pytest.mark.parametrize(
    ("room", "text"),
    [
        (35, "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80"), (34, "10.0.0.1:80,10.0.0.2:80 +1 more"),
        (19, "10.0.0.1:80 +2 more"), (18, "10.0.0.1:80 +2"), (13, "+3 more"),
    ],
)  # fmt: skip
def test_a_list_is_cut_to_what_fits(room: int, text: str) -> None:
    assert fit(["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], room) == text


def test_a_list_of_nothing() -> None:
    assert fit([], 0) == "<none>"


def test_one_item_is_not_cut() -> None:
    assert fit(["10.0.0.1:80"], 3) == "10.0.0.1:80"


def head(cluster: str = "east", name: str = "checkout", state: str = "ready") -> dict[str, Any]:
    return {
        "cluster": cluster, "namespace": "storefront", "name": name, "version": 123456, "state": state, "reason": "",
        "asOf": {"at": "2026-11-24T11:00:00.000Z"},
    }  # fmt: skip


def backend(count: int, family: str = "IPv4", **names: str) -> dict[str, Any]:
    start = "10.244.10." if family == "IPv4" else "fd00:10:244::"
    endpoints = [
        {"address": f"{start}{i}", "family": family, "ports": [{"port": 8080}], "ready": True, "zone": "z"}
        for i in range(count)
    ]  # fmt: skip
    return {**head(**names), "endpoints": endpoints}


def frontend(**names: str) -> dict[str, Any]:
    ports = [{"port": port, "protocol": "TCP"} for port in (80, 443, 9090)]
    return {
        **head(**names), "type": "ClusterIP", "clusterIPs": ["10.96.200.100", "fd00:10:96::1234"], "headless": False,
        "externalName": None, "ports": ports, "dnsName": "x", "selector": {"app": "x"},
    }  # fmt: skip


def routing(**names: str) -> dict[str, Any]:
    def way(reason: str) -> dict[str, Any]:
        return {"decision": "endpoint", "reason": reason, "sessionPersistence": None, "because": []}

    return {
        **head(**names),
        "gateway": way("SessionPersistence"),
        "mesh": way("Default"),
        "service": None,
        "routes": [],
    }


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.mark.parametrize(
    ("table", "rows", "heading"),
    [
        ("backend", [backend(0, state="unknown"), backend(2), backend(1000)], "READY STATE AGE ENDPOINTS"),
        ("backend", [backend(3, "IPv6", name="a-service-of-24-letters-")], "READY STATE AGE ENDPOINTS"),
        ("frontend", [frontend()], "TYPE CLUSTER-IP STATE AGE PORTS"),
        ("routing", [routing()], "GATEWAY MESH STATE REASON"),
    ],
)
def test_tables_fit_80_columns_with_the_state_before_what_is_long(
    table: str, rows: list[dict[str, Any]], heading: str, capsys: pytest.CaptureFixture[str]
) -> None:
    RowPrinter(table, "table").print(rows)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80, "\n".join(lines)
    assert len(lines) == len(rows) + 1
    assert lines[0].split() == ["CLUSTER", "NAMESPACE", "NAME", *heading.split()]


def test_wide_cuts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    RowPrinter("backend", "wide").print([backend(10)])
    assert capsys.readouterr().out.count(":8080") == 10


def test_names_can_be_pasted_back(capsys: pytest.CaptureFixture[str]) -> None:
    RowPrinter("backend", "name").print([backend(1)])
    assert capsys.readouterr().out == "backend/east/storefront/checkout\n"


def test_no_headers_and_one_namespace(capsys: pytest.CaptureFixture[str]) -> None:
    RowPrinter("backend", "table", headers=False, namespaced=False).print([backend(1)])
    assert capsys.readouterr().out.split()[:4] == ["east", "checkout", "1/1", "ready"]


def test_a_stream_has_one_heading_and_steady_columns(capsys: pytest.CaptureFixture[str]) -> None:
    printer = RowPrinter("backend", "table", streaming=True)
    printer.print([backend(1)])
    printer.print([backend(1, name="db")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].index("READY") == lines[1].index("1/1") == lines[2].index("1/1")


def test_sort_by_a_field() -> None:
    rows = [backend(2, name="b"), backend(10, name="a"), {**backend(0, name="c"), "version": 7}]
    assert [row["name"] for row in sort_rows(rows, ".name")] == ["a", "b", "c"]
    assert [row["name"] for row in sort_rows(rows, "{.version}")] == ["c", "b", "a"]
    assert [row["name"] for row in sort_rows(rows, "endpoints")] == ["c", "b", "a"]
    with pytest.raises(click.BadParameter, match='did you mean "version"'):
        sort_rows(rows, "verison")
