"""What the reading commands share: names of tables, filters, and rows as a person or a program wants them."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

import click
import orjson
import yaml

from streams.core.errors import FacetsError
from streams.core.exit_codes import ExitCode
from streams.core.records import TABLES

_T = TypeVar("_T")

_SHORT = {"frontend": "fe", "backend": "be", "routing": "rt"}
_ALIASES = {alias: table for table in TABLES for alias in (f"{table}s", _SHORT[table])}


class TableName(click.ParamType):
    """A table's name: singular, plural or short."""

    name = "table"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The singular name."""
        found = _ALIASES.get(str(value).lower(), str(value).lower())
        if found not in TABLES:
            there = ", ".join(f"{table} ({_SHORT[table]})" for table in TABLES)
            self.fail(f"there is no table {value!r}; there are {there}", param, ctx)
        return found


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """`-n`, `-A` and `--cluster`."""
    for option in (
        click.option("--cluster", "clusters", multiple=True, help="Only this cluster; repeatable."),
        click.option("-A", "--all-namespaces", is_flag=True, help="All namespaces."),
        click.option("-n", "--namespace", "namespaces", multiple=True, help="Only this namespace; repeatable."),
    ):
        command = option(command)
    return command


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end; Ctrl-C ends it at once and cleanly."""
    return asyncio.run(main)


def run_within(seconds: float, main: Coroutine[Any, Any, _T], remedy: str = "") -> _T:
    """Run to the end, for at most so many seconds. Raises FacetsError when they are over."""

    async def bounded() -> _T:
        async with asyncio.timeout(seconds):
            return await main

    try:
        return asyncio.run(bounded())
    except TimeoutError:
        raise FacetsError(
            f"timed out after {seconds:g} s", remedy or "try a longer --timeout, or facets doctor", ExitCode.GAVE_UP
        ) from None


def print_rows(table: str, rows: Sequence[dict[str, Any]], style: str) -> None:
    """Rows as a table, wide table, JSON or YAML."""
    if style == "json":
        sys.stdout.buffer.write(orjson.dumps({"items": list(rows)}, option=orjson.OPT_INDENT_2) + b"\n")
        sys.stdout.buffer.flush()
        return
    if style == "yaml":
        click.echo(yaml.safe_dump({"items": list(rows)}, sort_keys=False), nl=False)
        return
    head, line = _FORMATS[table]
    print_grid([head(style == "wide"), *(line(row, style == "wide") for row in rows)])


def print_grid(lines: Sequence[Sequence[str]]) -> None:
    """Lines of cells, in columns; the first line is the head."""
    widths = [max(len(each[i]) for each in lines) for i in range(len(lines[0]))]
    for each in lines:
        click.echo("   ".join(cell.ljust(width) for cell, width in zip(each, widths, strict=True)).rstrip())


def row_line(table: str, row: dict[str, Any]) -> str:
    """A row as one line of a log that a person reads along."""
    head = f"{row['asOf']['at']}  {row['cluster']}  {row['namespace']}/{row['name']}  v{row['version']}  {table}"
    if table == "frontend":
        return f"{head} {row['state']}  {_frontend_line(row, wide=False)[4]}"
    if table == "routing":
        said = "  ".join(f"{way} {row[way]['decision']} ({row[way]['reason']})" for way in ("gateway", "mesh"))
        return f"{head} {row['state']}  {said}"
    change = {name: len(row["change"][name]) for name in ("added", "removed", "updated")}
    ready = sum(1 for endpoint in row["endpoints"] if endpoint["ready"])
    return (
        f"{head} {row['state']}  +{change['added']} -{change['removed']} ~{change['updated']}"
        f"  {ready}/{len(row['endpoints'])} ready"
    )


def _frontend_head(wide: bool) -> list[str]:
    return ["CLUSTER", "NAMESPACE", "NAME", "TYPE", "CLUSTER-IP", "PORTS", "STATE"] + (
        ["DNS-NAME", "SELECTOR", "VERSION"] * wide
    )


def _frontend_line(row: dict[str, Any], wide: bool) -> list[str]:
    address = ",".join(row["clusterIPs"]) or ("None" if row["headless"] else row["externalName"] or "")
    ports = ",".join(f"{port['port']}/{port['protocol']}" for port in row["ports"]) or "<none>"
    short = [row["cluster"], row["namespace"], row["name"], row["type"], address, ports, row["state"]]
    selector = ",".join(f"{key}={value}" for key, value in sorted((row["selector"] or {}).items())) or "<none>"
    return short + ([row["dnsName"], selector, str(row["version"])] if wide else [])


def _backend_head(wide: bool) -> list[str]:
    return ["CLUSTER", "NAMESPACE", "NAME", "READY", "ENDPOINTS", "STATE", "VERSION"] + (["ZONES", "REASON"] * wide)


def _backend_line(row: dict[str, Any], wide: bool) -> list[str]:
    endpoints = row["endpoints"]
    ready = sum(1 for endpoint in endpoints if endpoint["ready"])
    shown = endpoints if wide else endpoints[:3]
    text = ",".join(_address(endpoint) for endpoint in shown) or "<none>"
    if len(shown) < len(endpoints):
        text += f" + {len(endpoints) - len(shown)} more"
    short = [row["cluster"], row["namespace"], row["name"], f"{ready}/{len(endpoints)}", text, row["state"]]
    short.append(str(row["version"]))
    zones = sorted({endpoint["zone"] for endpoint in endpoints if endpoint["zone"]})
    return short + ([",".join(zones) or "<none>", row["reason"] or "-"] if wide else [])


def _routing_head(wide: bool) -> list[str]:
    names = ["CLUSTER", "NAMESPACE", "NAME", "GATEWAY", "REASON", "MESH", "REASON", "STICKY", "ROUTES", "STATE"]
    return names + (["BECAUSE", "VERSION"] * wide)


def _routing_line(row: dict[str, Any], wide: bool) -> list[str]:
    gateway, mesh = row["gateway"], row["mesh"]
    short = [row["cluster"], row["namespace"], row["name"]]
    short += [gateway["decision"], gateway["reason"], mesh["decision"], mesh["reason"]]
    asked = [way["sessionPersistence"]["type"] for way in (gateway, mesh) if way["sessionPersistence"]]
    affine = row["service"] is not None and row["service"]["sessionAffinity"] == "ClientIP"
    sticky = list(dict.fromkeys([*asked, *(["ClientIP"] * affine)]))
    short += [",".join(sticky) or "-", str(len(row["routes"])), row["state"]]
    because = [f"{each['kind']}/{each['name']}" for way in (gateway, mesh) for each in way["because"]]
    return short + ([",".join(dict.fromkeys(because)) or "-", str(row["version"])] if wide else [])


def _address(endpoint: dict[str, Any]) -> str:
    address = f"[{endpoint['address']}]" if endpoint["family"] == "IPv6" else endpoint["address"]
    return f"{address}:{endpoint['ports'][0]['port']}" if endpoint["ports"] else str(address)


_FORMATS: dict[str, tuple[Callable[[bool], list[str]], Callable[[dict[str, Any], bool], list[str]]]] = {
    "frontend": (_frontend_head, _frontend_line),
    "backend": (_backend_head, _backend_line),
    "routing": (_routing_head, _routing_line),
}
