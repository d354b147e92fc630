"""`make demo-audit`, as it stands: what it prints leads from an address to the object that took it away."""

import re
import subprocess
import sys
from datetime import datetime, timedelta

from streams.runtime.folders import cache_dir
from streams.wire.partitioning import DEFAULT_PARTITIONS as PARTITIONS

_ALERT = re.compile(r"ALERT (\S+)  edge-router: no answer from (\S+):(\d+) since")


def test_the_walk_ends_at_the_object_that_took_the_address_away() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "streams.local.demo_audit"],
        env={"FACETS_CACHE_DIR": str(cache_dir()), "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    alert = _ALERT.search(ended.stdout)
    assert alert is not None, ended.stdout
    at, address, _ = alert.groups()
    steps = re.split(r"\n\n\d+\. ", ended.stdout)
    owners = next(step for step in steps if f"who {address} --at " in step)
    cluster, namespace, name = "east", "shop", "cart"
    assert re.search(rf"(?m)^{cluster} +{namespace} +{name} ", owners), owners
    history = next(step for step in steps if f"history {name} " in step)
    row = re.compile(rf"\S+Z  {cluster}  {namespace}/{name}  v\d+  backend ")
    lines = [each for each in history.splitlines() if row.match(each)]
    # The recorded incident: somebody deletes the Service, and makes it again. Each kind of object has a watch of its
    # own, so what the API server deletes after the Service may be heard of before it, in the same millisecond, too.
    assert any(each.startswith(at) and re.search(r"  \+0 -[1-9]\d* ~0  ", each) for each in lines), history
    deleted = next(each for each in lines if each >= at and "  backend deleted  " in each)
    assert re.search(rf" <- (.*, )?Service {name}@\d+", deleted), history
    diff = next(step for step in steps if step.partition("\n")[2].startswith(f"$ facets diff {name} "))
    assert re.search(rf"(?m)^- {cluster}  backend  (backend row, ready|{re.escape(address)}:)", diff), diff
    router = next(step for step in steps if "--router edge-router" in step)
    assert re.search(rf"acked +{namespace}/{name} +version \d+", router), router
    verified = next(step for step in steps if "$ facets audit verify" in step)
    assert len(re.findall(r"partition \d+: \d+ records are as they were taken", verified)) == PARTITIONS
    before = datetime.fromisoformat(at) - timedelta(milliseconds=1)
    assert before.isoformat(timespec="milliseconds").replace("+00:00", "Z") in owners
    assert "\x1b" not in ended.stdout, "no colours in a pipe"
