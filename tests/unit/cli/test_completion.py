"""The shell's completion, as the shell asks for it, and what needs no Kafka of it."""

import pytest
from click.testing import CliRunner

from streams.cli import cli
from tests.support.completion import complete


@pytest.mark.parametrize(
    ("shell", "start"),
    [("bash", "_facets_completion"), ("zsh", "#compdef facets"), ("fish", "function _facets_completion")],
)
def test_each_shell_has_its_script(shell: str, start: str) -> None:
    assert CliRunner().invoke(cli, ["completion", shell]).stdout.strip().startswith(start)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("facets his", ["history"]),
        ("facets get b", ["backend"]),
        ("facets wait --resource ht", ["httproutes"]),
        ("facets get be --no-h", ["--no-headers"]),
    ],
)
def test_commands_tables_resources_and_options(line: str, offered: list[str]) -> None:
    assert complete(line) == offered


def test_without_a_broker_no_name_is_offered_and_nothing_is_said() -> None:
    assert complete("facets get be --cluster e", FACETS_BOOTSTRAP_SERVERS="127.0.0.1:1") == []


def test_version_has_what_is_installed() -> None:
    result = CliRunner().invoke(cli, ["version"])
    assert result.stdout.startswith("facets    ")
