"""`facets completion`: prints the completion script of a shell."""

import click
from click.shell_completion import get_completion_class

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion_command(context: click.Context, shell: str) -> None:
    """Print the script that makes a SHELL complete commands, options and names.

    Names of clusters, namespaces and Services come from the tables, if they can be read within a few seconds.

    \b
    source <(facets completion bash)                   in ~/.bashrc
    source <(facets completion zsh)                    in ~/.zshrc
    facets completion fish > ~/.config/fish/completions/facets.fish
    """
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    click.echo(kind(context.find_root().command, {}, "facets", "_FACETS_COMPLETE").source())
