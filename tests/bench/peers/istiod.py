"""istiod beside us: found or built from Istio's Go module (istiod.sh), and run outside of a cluster.

It has neither certificates nor injection nor Istio's own resources: it has endpoints to serve, and nothing else.
"""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.bench.bench import Bench, Part, free_port
from tests.support.controlplane import ControlPlane

BUILD = Path(__file__).parent / "istiod.sh"
NAMESPACE = "istio-system"
DEFAULT, NO_DEBOUNCE = "istiod", "istiod, no debounce"
_QUIET = {
    "ENABLE_CA_SERVER": "false",
    "PILOT_CERT_PROVIDER": "none",
    "INJECTION_WEBHOOK_CONFIG_NAME": "",
    "VALIDATION_WEBHOOK_CONFIG_NAME": "",
    "PILOT_MAX_REQUESTS_PER_SECOND": "10000",
}
"""What has nothing to do with endpoints, switched off; and all clients may connect at once."""
_ENVIRONMENT: dict[str, Mapping[str, str]] = {
    DEFAULT: {},
    NO_DEBOUNCE: {
        "PILOT_ENABLE_EDS_DEBOUNCE": "false",
        "PILOT_DEBOUNCE_AFTER": "0s",
        "PILOT_DEBOUNCE_MAX": "0s",
    },
}


class Istiod(NamedTuple):
    """A running one, and the port of its ADS."""

    part: Part
    port: int


def version_of(binary: str) -> str:
    """As notes name it."""
    return Path(binary).name


def binary_if_any(bench: Bench) -> str:
    """The path of its binary: the one that ISTIOD names, one that was built before, or one that Go builds now. ""
    without any: what it is compared with is then measured alone. Raises RuntimeError if the build fails."""
    bash = shutil.which("bash")
    if bash is None:
        return ""
    bench.say("finding or building istiod")
    built = subprocess.run([bash, BUILD], capture_output=True, text=True, check=False)
    if built.returncode and "there is no Go" not in built.stderr:
        raise RuntimeError(f"{BUILD.name}: {built.stderr[-3000:]}")
    return built.stdout.strip()


def start(bench: Bench, binary: str, plane: ControlPlane, name: str) -> Istiod:
    """Start one of the two ways (DEFAULT, NO_DEBOUNCE); returns when it serves."""
    port = free_port()
    part = bench.program(
        *(key(name), binary, "discovery", "--kubeconfig", str(plane.kubeconfig), "--grpcAddr", f"127.0.0.1:{port}"),
        *("--httpAddr", f"127.0.0.1:{free_port()}", "--monitoringAddr", f"127.0.0.1:{free_port()}"),
        *("--secureGRPCAddr", "", "--httpsAddr", "", "--ctrlz_port", "0"),
        environment={**_QUIET, **_ENVIRONMENT[name]},
    )
    part.says("starting gRPC discovery service")
    return Istiod(part, port)


def key(name: str) -> str:
    """A peer's name as a file's."""
    return name.replace(", ", "-").replace(" ", "-")


def resource_name(dns_name: str, port: int) -> str:
    """The name of an endpoint set there."""
    return f"outbound|{port}||{dns_name}"
