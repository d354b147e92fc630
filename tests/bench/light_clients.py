"""Builds and runs the clients of `light`, which are in Go so that they take as little of the cores as may be."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from streams.runtime.folders import cache_dir
from tests.bench.bench import Bench, Part

SOURCE = Path(__file__).parent / "light"


class Arrival(NamedTuple):
    """How many clients had a change, or a later one of its Service, and when the last of them did (unix time)."""

    clients: int
    last: float


class LightClients:
    """Clients of one server, in one process; they have connected, and have what there was."""

    def __init__(
        self, bench: Bench, kind: str, port: int, count: int, services: int, names: Sequence[str] = ()
    ) -> None:
        name = f"light-{kind}-{port}"
        self._out = bench.folder / f"{name}.json"
        options = (kind, str(port), str(count), str(services), str(self._out))
        self.part: Part = bench.program(name, build(), *options, *names)
        self.part.says("ready", 180)
        self.messages = 0

    def finish(self, last: Sequence[int]) -> Mapping[int, Arrival]:
        """The arrivals by change, once all clients have the last change of each Service, or nothing more comes."""
        stdin = self.part.process.stdin
        assert stdin is not None
        stdin.write(" ".join(map(str, last)).encode() + b"\n")
        stdin.close()
        self.part.finish()
        outcome = orjson.loads(self._out.read_bytes())
        self.messages = outcome["messages"]
        return {int(turn): Arrival(**arrival) for turn, arrival in outcome["turns"].items()}


def has_go() -> bool:
    """Whether they can be built."""
    return shutil.which("go") is not None


def build() -> str:
    """The path of the program; built, unless it is there in this state. Raises RuntimeError."""
    program = cache_dir() / "light-clients"
    newest = max(each.stat().st_mtime for each in SOURCE.iterdir())
    if not program.exists() or program.stat().st_mtime < newest:
        program.parent.mkdir(parents=True, exist_ok=True)
        built = subprocess.run(
            ["go", "build", "-o", str(program), "."], cwd=SOURCE, capture_output=True, text=True, check=False
        )
        if built.returncode:
            raise RuntimeError(f"go build: {built.stderr[-3000:]}")
    return str(program)
