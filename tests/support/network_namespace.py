"""A network namespace in which the addresses of Pods are local, so that a backend can listen on each.

Kubernetes refuses loopback addresses for endpoints (API validation of EndpointSlice), so they must be others, and those
must lead nowhere else. Needs `unshare` (util-linux), `ip` (iproute2), and root or unprivileged user namespaces.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from streams.local.kafka.jars import ensure_jars
from streams.runtime.folders import cache_dir
from tests.support.controlplane import MissingAssets, assets_folder

_POD_RANGES = (("-4", "10.244.0.0/16"), ("-6", "fd00:10:244::/64"))


class NoNamespace(RuntimeError):
    """A network namespace can't be made here."""


def command(module: str, *arguments: str) -> list[str]:
    """What runs a module of ours in a namespace of its own; with `--inside` it is to call `enter` first. Fetches what
    can't be fetched from there. Raises NoNamespace."""
    missing = [name for name in ("unshare", "ip") if shutil.which(name) is None]
    if missing:
        raise NoNamespace(f"not installed: {', '.join(missing)} (packages util-linux, iproute2)")
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    prefix = ["unshare", *user, "--net", "--"]
    code = "from tests.support.network_namespace import enter; enter()"
    tried = subprocess.run([*prefix, sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if tried.returncode:
        (reason,) = tried.stderr.strip().splitlines()[-1:] or ("it ended without a word",)
        raise NoNamespace(f"{reason} (be root, or allow unprivileged user namespaces)")
    ensure_jars(cache_dir(), lambda *_: None)
    return [*prefix, sys.executable, "-m", module, *arguments, "--inside"]


def exec_inside(module: str) -> NoReturn:
    """Become the same command of a module, in a namespace of its own. Where that can't be, it ends, and says why."""
    try:
        assets_folder()
        line = command(module, *sys.argv[1:])
    except (MissingAssets, NoNamespace) as error:
        print(error, file=sys.stderr)
        raise SystemExit(69) from None
    os.execvp(line[0], line)


def enter() -> None:
    """Make the addresses of Pods local. Raises NoNamespace outside of a new namespace."""
    _ip("link", "set", "lo", "up")
    if len(_ip("-oneline", "link").splitlines()) != 1:
        raise NoNamespace("this is not a network namespace of its own: start the same command without --inside")
    for family, pod_range in _POD_RANGES:
        _ip(family, "route", "add", "local", pod_range, "dev", "lo")
    # A local route is enough to listen on an IPv4 address of it, but not on an IPv6 one.
    Path("/proc/sys/net/ipv6/ip_nonlocal_bind").write_text("1")


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True).stdout
