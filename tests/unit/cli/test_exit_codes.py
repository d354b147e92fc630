"""Exit codes are constants of one module, and `facets --help` has them all."""

import ast
from pathlib import Path

import pytest
from click.testing import CliRunner

from streams.cli import cli
from streams.exit_codes import ExitCode

SOURCES = sorted(Path("streams").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_no_module_has_numbers_of_its_own(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        name, values = "", []
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            values = [*node.args, *(each.value for each in node.keywords if each.arg == "exit_code")]
        elif isinstance(node, ast.Assign):
            name, values = ast.unparse(node.targets[0]), [node.value]
        if name in {"SystemExit", "sys.exit", "os._exit", "ctx.exit", "exit_code", "FacetsError"} or name.endswith(
            "EXIT"
        ):
            numbers = [each.value for each in values if isinstance(each, ast.Constant) and isinstance(each.value, int)]
            assert not numbers, f"{path}:{node.lineno}: exit code {numbers} is not of streams.exit_codes"


def test_help_has_each_code_with_its_meaning() -> None:
    lines = " ".join(CliRunner().invoke(cli, ["--help"]).output.split())
    for code in ExitCode:
        assert f"{code.value} {' '.join(code.meaning.split())}" in lines


def test_help_cuts_nothing() -> None:
    _, _, text = CliRunner().invoke(cli, ["--help"]).output.partition("\n")
    assert "..." not in text
