"""The machine that the figures are of, in one sentence."""

import contextlib
import os
import platform
import subprocess
from pathlib import Path

import psutil

from streams.local.kafka.jars import KAFKA_VERSION
from tests.support.controlplane import MissingAssets, assets_folder


def describe() -> str:
    """Cores, memory, processor, and the versions of what was measured with."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else psutil.cpu_count() or 1
    parts = [
        f"{cores} cores ({_processor()})",
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        f"{platform.system()} {platform.release()}",
        f"Python {platform.python_version()}",
        f"Apache Kafka {KAFKA_VERSION}",
    ]
    kubernetes = _kubernetes()
    return "Machine: " + ", ".join([*parts, *([kubernetes] if kubernetes else [])]) + "."


def load() -> float:
    """How many processes wanted a core in the last minute, by core: above 0.2 the figures are not ours alone."""
    return psutil.getloadavg()[0] / (psutil.cpu_count() or 1)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _kubernetes() -> str:
    try:
        binary = assets_folder() / "kube-apiserver"
    except MissingAssets:
        return ""
    return subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
