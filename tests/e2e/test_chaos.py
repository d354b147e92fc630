"""Three minutes of chaos on the real parts (`make chaos MINUTES=` is longer): not one guarantee is broken."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bound_process import start_bound
from tests.support.controlplane import MissingAssets, assets_folder

ROOT = Path(__file__).resolve().parents[2]
MINUTES = float(os.environ.get("CHAOS_MINUTES", "3"))
DEADLINE = MINUTES * 60 + 600


@pytest.mark.slow
def test_no_guarantee_is_broken_by_chaos(tmp_path: Path) -> None:
    try:
        assets_folder()
    except MissingAssets as error:
        pytest.fail(str(error))
    told = tmp_path / "chaos.json"
    with (tmp_path / "chaos.log").open("w+") as log:
        run = start_bound(
            [sys.executable, "-m", "tests.chaos", "--minutes", str(MINUTES), "--report", str(told)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            code = run.wait(DEADLINE)
        finally:
            if run.poll() is None:
                # It ends what it has started itself.
                run.send_signal(signal.SIGTERM)
                run.wait(120)
            log.seek(0)
            print(log.read())
    assert code == 0
    report = json.loads(told.read_text())
    assert report["violations"] == []
    assert report["quietPoints"] >= 2
    assert report["faultsInjected"] >= 6 * MINUTES
