"""The multi-cluster API on real API servers: mcs-api's own CRDs, its objects, and several clusters in a kubeconfig."""

import subprocess
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import yaml

from tests.support.controlplane.api import Api, ApiError
from tests.support.controlplane.processes import ControlPlane

ROOT = Path(__file__).parents[3]
MCS = "/apis/multicluster.x-k8s.io/v1beta1"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
DEADLINE = 60
_CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

CLUSTER_PROPERTY = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {
        "name": "clusterproperties.about.k8s.io",
        "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
    },
    "spec": {
        "group": "about.k8s.io",
        "scope": "Cluster",
        "names": {"kind": "ClusterProperty", "listKind": "ClusterPropertyList", "plural": "clusterproperties",
                  "singular": "clusterproperty"},
        "versions": [
            {
                "name": "v1beta1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "required": ["value"],
                                "properties": {"value": {"type": "string", "maxLength": 128000, "minLength": 1}},
                            }
                        },
                    }
                },
            }
        ],
    },
}  # fmt: skip
"""The fields that KEP-2149 gives it: the about-api's module is not in Go's proxy everywhere."""


def crds() -> list[dict[str, Any]]:
    """mcs-api's CRDs, as its module has them."""
    script = ROOT / "tests" / "e2e" / "mcs-api.sh"
    folder = subprocess.run(["bash", str(script)], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    return [yaml.safe_load(path.read_text()) for path in sorted(Path(folder).glob("*.yaml"))]


def install(api: Api) -> None:
    """Install the CRDs; returns when their types are served."""
    for crd in (*crds(), CLUSTER_PROPERTY):
        if found(api, f"{_CRDS}/{crd['metadata']['name']}") is None:
            api.post(_CRDS, crd)
    for path in (f"{MCS}/serviceexports", f"{MCS}/serviceimports", "/apis/about.k8s.io/v1beta1/clusterproperties"):
        until(lambda path=path: found(api, path) is not None, f"{path} is not served")


def uninstall(api: Api) -> None:
    """Remove mcs-api's CRDs, and with them the objects; returns when they are gone."""
    paths = [f"{_CRDS}/{crd['metadata']['name']}" for crd in crds()]
    for path in paths:
        api.delete(path)
    for path in paths:
        until(lambda path=path: found(api, path) is None, f"{path} is not gone")


def grant(api: Api, user: str, *roles: str) -> None:
    """Give a user roles of those that compose has for `facets import`."""
    files = sorted((ROOT / "compose").glob("import*-rbac.yaml"))
    documents = [document for file in files for document in yaml.safe_load_all(file.read_text())]
    for role in roles:
        (document,) = (each for each in documents if each["kind"] == "ClusterRole" and each["metadata"]["name"] == role)
        api.post(f"{RBAC}/clusterroles", document)
        reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
        binding = {"metadata": {"name": f"{role}-{user}"}, "roleRef": reference, "subjects": [subject]}
        api.post(f"{RBAC}/clusterrolebindings", binding)


def merged_kubeconfig(path: Path, planes: Iterable[ControlPlane], user: str = "admin") -> Path:
    """A kubeconfig with a context for each control plane, named as it is."""
    config: dict[str, Any] = {"apiVersion": "v1", "kind": "Config", "clusters": [], "users": [], "contexts": []}
    for plane in planes:
        own = yaml.safe_load((plane.folder / f"{user}.kubeconfig").read_text())
        config["clusters"] += own["clusters"]
        config["users"].append({"name": f"{user}-{plane.name}", "user": own["users"][0]["user"]})
        context = {"cluster": plane.name, "user": f"{user}-{plane.name}"}
        config["contexts"].append({"name": plane.name, "context": context})
    config["current-context"] = config["contexts"][0]["name"]
    path.write_text(yaml.safe_dump(config))
    return path


def found(api: Api, path: str, **query: str) -> Any:
    """What is at a path; None where nothing is."""
    try:
        return api.get(path, **query)
    except ApiError as error:
        if error.code != 404:
            raise
        return None


def until(right: Callable[[], Any], problem: str | Callable[[], str]) -> Any:
    """Ask until the answer is true; it is returned."""
    deadline = time.monotonic() + DEADLINE
    while not (answer := right()):
        assert time.monotonic() < deadline, problem if isinstance(problem, str) else problem()
        time.sleep(0.1)  # nothing tells of it but asking
    return answer
