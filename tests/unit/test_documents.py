"""What README and help texts say of the commands: each command that they name is there, with its options."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from streams.cli import cli

ROOT = Path(__file__).parents[2]


def named_commands(text: str) -> Iterator[str]:
    """All that is quoted as code, or stands on a line of its own, and begins with `facets `."""
    for line in text.replace("\b", "").splitlines():
        for code in [*re.findall(r"`(facets [^`]+)`", line), *re.findall(r"(?:^ *|[|;] *)(facets [a-z].*)$", line)]:
            for part in re.split(r"\s+#\s|\s{3,}|[|;>]|&&", code):
                if part.strip().startswith("facets "):
                    yield part.strip()


def check(words: list[str]) -> None:
    """That the command is there and knows each option."""
    context = click.Context(cli, info_name="facets")
    left = iter(words)
    for word in left:
        if word.startswith("-"):
            name = word.split("=")[0]
            options = {name: each for each in context.command.get_params(context) for name in each.opts}
            options |= {name: each for each in cli.get_params(context) for name in each.opts}
            assert name in options, f"no option {name} in: facets {' '.join(words)}"
            option = options[name]
            if "=" not in word and isinstance(option, click.Option) and not option.is_flag and not option.count:
                next(left, None)  # Its value.
        elif isinstance(context.command, click.Group):
            found = context.command.get_command(context, word)
            assert found is not None, f"no command {word} in: facets {' '.join(words)}"
            context = click.Context(found, parent=context, info_name=word)


def every_help() -> Iterator[tuple[str, str]]:
    def below(group: click.Group, path: str) -> Iterator[tuple[str, str]]:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield f"{path} {name}", command.help or ""
            if isinstance(command, click.Group):
                yield from below(command, f"{path} {name}")

    yield "facets", cli.help or ""
    yield from below(cli, "facets")


def test_commands_in_readme_are_there() -> None:
    found = list(named_commands((ROOT / "README.md").read_text()))
    assert len(found) > 20
    for command in found:
        check(shlex.split(command)[1:])


@pytest.mark.parametrize(("name", "text"), list(every_help()), ids=lambda value: value if len(value) < 30 else "")
def test_commands_in_help_are_there(name: str, text: str) -> None:
    for command in named_commands(text):
        check(shlex.split(command)[1:])


def test_a_command_that_is_not_there_is_noticed() -> None:
    found = list(named_commands("`facets gte backend` and\n    facets get backend --alll    # all"))
    assert found == ["facets gte backend", "facets get backend --alll"]
    for command in found:
        with pytest.raises(AssertionError):
            check(shlex.split(command)[1:])
