"""The bootstrap that compose/ gives to Envoy is what the command prints, and Envoy takes it."""

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from streams.cli import cli

COMPOSE = Path(__file__).parents[2] / "compose" / "envoy.yaml"
PRINTED_BY = ("--xds", "serve:18000", "--listen", "0.0.0.0:10000", "--node-id", "compose")


def test_it_is_what_the_command_prints() -> None:
    result = CliRunner().invoke(cli, ["envoy-bootstrap", *PRINTED_BY])
    assert result.stdout == COMPOSE.read_text()
    assert " ".join(PRINTED_BY) in COMPOSE.with_name("compose.yaml").read_text()


def test_envoy_takes_it() -> None:
    envoy = Path(sys.executable).parent / "envoy"
    done = subprocess.run(
        [str(envoy), "--mode", "validate", "-c", str(COMPOSE)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"configuration '{COMPOSE}' OK" in done.stdout
