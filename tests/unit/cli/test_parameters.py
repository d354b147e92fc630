"""What commands take as names, addresses and times, by table."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from streams.cli import cli
from streams.cli.names import ResourceName, ServiceName, ServicePath, TableName, TablePath
from streams.cli.options import Moment
from streams.cli.past.diff import Point
from streams.cli.read.who import AddressPorts
from streams.history.coverage import NotKnown
from streams.objects.resources import OPTIONAL, RESOURCES
from streams.wire.records import FOLDED_TABLES

BROKER = ["--bootstrap-servers", "127.0.0.1:1"]
READS_ALL_TABLES = {"wait", "diff", "fold", "work", "serve"}


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (AddressPorts(), "10.244.0.5", ("10.244.0.5", ())),
        (AddressPorts(), "10.244.0.5:8080", ("10.244.0.5", (8080,))),
        (AddressPorts(), "10.244.0.5:8080,9090", ("10.244.0.5", (8080, 9090))),
        (AddressPorts(), "fd00::1", ("fd00::1", ())),
        (AddressPorts(), "[fd00::1]", ("fd00::1", ())),
        (AddressPorts(), "[fd00::1]:80", ("fd00::1", (80,))),
        (ServiceName(), "cart", ServicePath("", "", "cart")),
        (ServiceName(), "shop/cart", ServicePath("", "shop", "cart")),
        (ServiceName(), "east/shop/cart", ServicePath("east", "shop", "cart")),
        (TablePath(), "be", ("backend", None)),
        (TablePath(), "backend/east/shop/cart", ("backend", ServicePath("east", "shop", "cart"))),
        (TablePath(bare=True), "shop/cart", ("", ServicePath("", "shop", "cart"))),
        (TablePath(bare=True), "rt/shop/cart", ("routing", ServicePath("", "shop", "cart"))),
        (TableName(), "Frontends", "frontend"),
        (Point(), "1042", (1042, "")),
        (Point(), "v1042", (1042, "")),
        (Point(), "2026-11-24T12:00:00Z", (-1, "2026-11-24T12:00:00.000Z")),
        (ResourceName(), "svc", "services"),
        (ResourceName(), "Service", "services"),
        (ResourceName(), "ep", "endpoints"),
        (ResourceName(), "endpointslices", "endpointslices.discovery.k8s.io"),
        (ResourceName(), "httproutes", "httproutes.gateway.networking.k8s.io"),
        (ResourceName(), "HTTPRoute", "httproutes.gateway.networking.k8s.io"),
        (ResourceName(), "ns", "namespaces"),
    ],
)
def test_what_is_printed_can_be_pasted_back(kind: click.ParamType, text: str, value: Any) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text", "problem"),
    [
        (AddressPorts(), "cart", "'cart' is not an IP address, with or without a port"),
        (AddressPorts(), "10.0.0.1:http", "is not an IP address"),
        (AddressPorts(), "10.0.0.1:99999", "has a port that is not from 1 to 65535"),
        (AddressPorts(), "10.0.0.1:0", "has a port that is not from 1 to 65535"),
        (AddressPorts(), "[fd00::1]80", "is not an IP address"),
        (ServiceName(), "a/b/c/d", "is not [[CLUSTER/]NAMESPACE/]SERVICE"),
        (ServiceName(), "shop/", "is not [[CLUSTER/]NAMESPACE/]SERVICE"),
        (TableName(), "bakend", 'did you mean "backend" or "backends"?'),
        (TableName(), "pods", "there are frontend (fe), backend (be), routing (rt)"),
        (ResourceName(), "svcs", 'did you mean "svc"'),
        (Moment(), "noon", "neither a time"),
    ],
)
def test_what_is_none_is_said_with_what_is_near(kind: click.ParamType, text: str, problem: str) -> None:
    with pytest.raises(click.BadParameter) as raised:
        kind.convert(text, None, None)
    assert problem in raised.value.message


def test_the_future_is_not_known() -> None:
    with pytest.raises(NotKnown, match="is in the future"):
        Moment().convert("2126-11-24T12:00:00Z", None, None)


def test_no_name_of_a_resource_means_two() -> None:
    aliases = ResourceName().aliases
    for resource in (*RESOURCES, *OPTIONAL):
        assert aliases[resource.frontier] == aliases[resource.kind.lower()] == resource.frontier


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["get", "be/shop/cart", "-n", "other"], "-n other excludes shop/cart"),
        (["get", "be/east/shop/cart", "--cluster", "west"], "--cluster west excludes east/shop/cart"),
        (["get", "be/cart", "fe/cart"], "one table at a time: backend or frontend"),
        (["get", "be", "-w", "--cut"], "-w prints rows as they change"),
        (["diff", "shop/cart", "-n", "other"], "-n other excludes shop/cart"),
        (["history", "shop/cart", "-n", "other"], "-n other excludes shop/cart"),
        (["follow", "--service", "a/x", "--service", "b/y"], "use -n and --cluster"),
        (["wait", "cart", "--resource-version", "1"], "missing option '--cluster'"),
        (["get", "cs", "--cluster", "east"], "clusterset is of all clusters"),
        (["follow", "clusterset", "--cluster", "east"], "clusterset is of all clusters"),
        (["history", "east/shop/cart", "--table", "cs"], "clusterset is of all clusters"),
        (["diff", "east/shop/cart", "--table", "cs"], "clusterset is of all clusters"),
        (["replay", "cs", "--cluster", "east"], "clusterset is of all clusters"),
        (["fold", "--cluster", "east", "--cluster", "west"], "give --cluster NAME=FILE"),
        (["gte"], 'did you mean "get"?'),
    ],
)
def test_arguments_that_disagree(arguments: list[str], problem: str) -> None:
    result = CliRunner().invoke(cli, [*arguments, *BROKER[: 2 * (arguments[0] not in {"fold", "gte"})]])
    assert result.exit_code == 2
    assert problem in result.stderr


@pytest.mark.parametrize("name", [*cli.list_commands(click.Context(cli))])
def test_help_names_every_table_where_one_can_be_chosen_or_read(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    chooses = any(isinstance(parameter.type, TableName | TablePath) for parameter in command.params)
    if chooses or name in READS_ALL_TABLES:
        text = CliRunner().invoke(cli, [name, "--help"]).output
        assert [table for table in FOLDED_TABLES if table not in text] == []
