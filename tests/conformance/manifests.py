"""The manifests of the conformance tests, from their module."""

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.routes import Object

KINDS = frozenset(
    {
        "Namespace", "Service", "Gateway", "ListenerSet", "ReferenceGrant", "HTTPRoute", "GRPCRoute", "TLSRoute",
        "TCPRoute", "UDPRoute", "BackendTLSPolicy",
    }
)  # fmt: skip
"""The kinds that a routing row follows from; nothing else of a manifest is needed (there are no Pods to run)."""

_CLASS = "{GATEWAY_CLASS_NAME}"
_SHORT_NAME = re.compile(r'ShortName:\s*"([A-Za-z0-9]+)"')


@cache
def module() -> Path:
    """The module's folder. Raises CalledProcessError where it can't be fetched."""
    script = Path(__file__).parent / "module.sh"
    output = subprocess.run(["bash", str(script)], stdout=subprocess.PIPE, text=True, check=True).stdout
    return Path(output.strip())


@cache
def names() -> frozenset[str]:
    """The short names of all tests that the module has."""
    sources = (module() / "tests").rglob("*.go")
    return frozenset(name for source in sources for name in _SHORT_NAME.findall(source.read_text()))


def base() -> list[Object]:
    """What all tests presuppose, for gateways and for the mesh."""
    return [*read("base/manifests.yaml"), *read("mesh/manifests.yaml")]


@cache
def read(path: str) -> list[Object]:
    """The objects of a manifest that bear on routing."""
    text = (module() / path).read_text().replace(_CLASS, "facets")
    documents: list[Any] = list(yaml.load_all(text, yaml.CSafeLoader))
    return [document for document in documents if document and document["kind"] in KINDS]
