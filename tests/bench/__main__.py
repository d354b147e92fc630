"""Run the benchmarks, print the table, write build/bench.json and the plots. See `--help`."""

import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from tests.bench import machine
from tests.bench.bench import ROOT, Bench, Benchmark
from tests.bench.figures import Figure, markdown, read, table, write
from tests.bench.registry import BENCHMARKS

NAMES = [each.name for each in BENCHMARKS]
LISTED = "\n".join(f"{each.name:12} {each.about}" for each in BENCHMARKS)


@click.command(help=f"Measure Service Facets next to its peers, in one run on this machine.\n\n\b\n{LISTED}")
@click.option("--quick", is_flag=True, help="Less of everything: a few minutes.")
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="Only this benchmark; repeatable.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=ROOT / "build",
              help="Folder of bench.json and the plots.  [default: build]")  # fmt: skip
@click.option("--markdown", "as_markdown", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              help="Run nothing: print this bench.json as Markdown.")  # fmt: skip
def main(quick: bool, only: tuple[str, ...], out: Path, as_markdown: Path | None) -> None:
    """The command."""
    if as_markdown is not None:
        print(markdown(read(as_markdown), as_markdown.with_suffix(".machine.txt").read_text().strip()))
        return
    # To be told to end is as Ctrl-C: what was started is ended in order, and what was measured is shown.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    chosen = [each for each in BENCHMARKS if each.name in only or not only]
    console = Console(stderr=True)
    described = machine.describe()
    busy = machine.load()
    if busy > 0.2:
        described += f" It was not idle when the run began ({busy:.1f} processes to a core)."
    console.print(described, highlight=False)
    figures: list[Figure] = []
    failed: list[str] = []
    out.mkdir(parents=True, exist_ok=True)
    path = out / "bench.json"
    write(path, figures)
    path.with_suffix(".machine.txt").write_text(described + "\n")
    interrupted = False
    for index, each in enumerate(chosen, 1):
        try:
            _measure(each, f"{index}/{len(chosen)} {each.name}", figures, path, console, quick=quick)
        except KeyboardInterrupt:
            interrupted = True
            console.print(f"{each.name}: interrupted", style="yellow")
            break
        except Exception as error:
            failed.append(each.name)
            traceback.print_exc()
            console.print(f"[red]{each.name} failed:[/] {escape(str(error)[:300])}")
    width = max(console.width, 140) if not sys.stdout.isatty() else None
    Console(width=width).print(table(figures))
    print(f"{described}\nFigures and plots: {out}")
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    sys.exit(130 if interrupted else 1 if failed else 0)


def _measure(each: Benchmark, title: str, figures: list[Figure], path: Path, console: Console, *, quick: bool) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="facets-bench-") as folder, console.status(title) as status:
        say = _say(title, status.update if console.is_terminal else console.print)
        say(each.about)
        with Bench(each.name, Path(folder), path.parent, quick=quick, say=say) as bench:
            for figure in each.run(bench):
                figures.append(figure)
                write(path, figures)
                console.print(f"  {figure.name}: {figure.ours:.4g} {figure.unit}", highlight=False)
    console.print(f"{title}: {time.monotonic() - began:.0f} s")


def _say(title: str, show: Callable[[str], None]) -> Callable[[str], None]:
    return lambda text: show(f"{title}: {escape(text)}")


if __name__ == "__main__":
    main()
