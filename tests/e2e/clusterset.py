"""Two clusters that export Services to each other, on real API servers, with the processes between them."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import urllib3

from streams.exit_codes import ExitCode
from streams.kafka.admin import ensure
from streams.local.kafka.broker import EmbeddedKafka
from tests.support.controlplane import ControlPlane, mcs
from tests.support.controlplane.mcs import MCS, found, until
from tests.support.facets_processes import Facets, free_port

NAMES = ("east", "west")
SLICES = "/apis/discovery.k8s.io/v1"
HTTP = {"name": "http", "port": 80, "protocol": "TCP"}


class ClusterSet:
    """Two clusters, and the processes between them."""

    def __init__(self, facets: Facets, planes: dict[str, ControlPlane], folder: Path) -> None:
        self.facets = facets
        self.planes = planes
        self.kubeconfig = mcs.merged_kubeconfig(folder / "admin", planes.values())
        self.importers = mcs.merged_kubeconfig(folder / "importer", planes.values(), "norights")

    def start(self, name: str = "import", *more: str, ready: bool = True) -> None:
        """Start an importer, by the account that may do only this."""
        clusters, port = [f"--cluster={each}={each}" for each in NAMES], free_port()
        self.facets.start(name, "import", "--kubeconfig", str(self.importers), *clusters, "--http-port", port, *more)
        if ready:
            until(lambda: is_ready(port), lambda: f"not ready\n{self.facets.logs()}")

    def end(self, name: str = "import", how: signal.Signals = signal.SIGTERM) -> int:
        return self.facets.end(name, how)

    def dry_run(self, *more: str) -> tuple[int, list[dict[str, Any]]]:
        """What --dry-run finds: its exit code, and the actions."""
        clusters = [f"--cluster={each}={each}" for each in NAMES]
        command = [sys.executable, "-m", "streams.cli", "import", "--dry-run", "-o", "json", *clusters]
        command += ["--kubeconfig", str(self.importers), "--bootstrap-servers", self.facets.bootstrap]
        done = subprocess.run([*command, *more], capture_output=True, timeout=mcs.DEADLINE, check=False)
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]

    def namespace(self, name: str, *clusters: str) -> None:
        for cluster in clusters or NAMES:
            self.planes[cluster].api.post("/api/v1/namespaces", {"metadata": {"name": name}})

    def service(self, cluster: str, namespace: str, name: str, addresses: list[str], **spec: Any) -> None:
        """A Service without a selector, and a slice with these addresses."""
        api = self.planes[cluster].api
        body = {"metadata": {"name": name}, "spec": {"ports": [HTTP], **spec}}
        api.post(f"/api/v1/namespaces/{namespace}/services", body)
        if addresses:
            api.post(f"{SLICES}/namespaces/{namespace}/endpointslices", endpoint_slice(name, addresses))

    def export(self, cluster: str, namespace: str, name: str, **spec: Any) -> None:
        body = {
            "apiVersion": "multicluster.x-k8s.io/v1beta1", "kind": "ServiceExport", "metadata": {"name": name},
            "spec": spec,
        }  # fmt: skip
        self.planes[cluster].api.post(f"{MCS}/namespaces/{namespace}/serviceexports", body)

    def unexport(self, cluster: str, namespace: str, name: str) -> None:
        self.planes[cluster].api.delete(f"{MCS}/namespaces/{namespace}/serviceexports/{name}")

    def service_import(self, cluster: str, namespace: str, name: str) -> Any:
        return found(self.planes[cluster].api, f"{MCS}/namespaces/{namespace}/serviceimports/{name}")

    def slices(self, cluster: str, namespace: str, name: str) -> list[dict[str, Any]]:
        """The slices that were imported of a Service."""
        selector = f"multicluster.kubernetes.io/service-name={name}"
        path = f"{SLICES}/namespaces/{namespace}/endpointslices"
        items: list[dict[str, Any]] = self.planes[cluster].api.get(path, labelSelector=selector)["items"]
        return items

    def endpoints(self, cluster: str, namespace: str, name: str) -> dict[str, list[str]]:
        """The addresses that were imported, by the cluster that has them."""
        by_source: dict[str, list[str]] = {}
        for each in self.slices(cluster, namespace, name):
            source = each["metadata"]["labels"]["multicluster.kubernetes.io/source-cluster"]
            by_source.setdefault(source, []).extend(end["addresses"][0] for end in each["endpoints"])
        return {source: sorted(addresses) for source, addresses in by_source.items()}

    def conditions(self, cluster: str, namespace: str, name: str) -> dict[str, tuple[str, str]]:
        """Of a ServiceExport: status and reason by type."""
        item = found(self.planes[cluster].api, f"{MCS}/namespaces/{namespace}/serviceexports/{name}")
        return {
            each["type"]: (each["status"], each["reason"]) for each in (item.get("status") or {}).get("conditions", ())
        }

    def names(self, cluster: str, namespace: str) -> set[str]:
        """The Services that the tables have of a cluster's own."""
        command = [sys.executable, "-m", "streams.cli", "get", "frontend", "-n", namespace, "--cluster", cluster]
        command += ["-o", "json", "--bootstrap-servers", self.facets.bootstrap]
        done = subprocess.run(command, capture_output=True, timeout=mcs.DEADLINE, check=False)
        assert done.returncode in {ExitCode.OK, ExitCode.UNKNOWN_NAME}, done.stderr.decode()
        return {row["name"] for row in json.loads(done.stdout)["items"]} if done.stdout else set()

    def until_conditions(self, cluster: str, namespace: str, name: str, **wanted: tuple[str, str]) -> None:
        """Wait until conditions of a ServiceExport have this status and reason."""
        seen: dict[str, tuple[str, str]] = {}

        def right() -> bool:
            seen.clear()
            seen.update(self.conditions(cluster, namespace, name))
            return seen | wanted == seen

        until(right, lambda: f"not {wanted} but {seen}\n{self.facets.logs()}")

    def until(self, right: Any) -> Any:
        return until(right, lambda: f"not in time\n{self.facets.logs()}")

    def until_imported(self, namespace: str, name: str, endpoints: dict[str, list[str]], *clusters: str) -> None:
        for cluster in clusters or NAMES:
            self.until(lambda cluster=cluster: self.service_import(cluster, namespace, name))
            self.until(lambda cluster=cluster: self.endpoints(cluster, namespace, name) == endpoints)

    def until_gone(self, namespace: str, name: str, *clusters: str) -> None:
        for cluster in clusters or NAMES:
            self.until(lambda cluster=cluster: self.service_import(cluster, namespace, name) is None)
            self.until(lambda cluster=cluster: not self.slices(cluster, namespace, name))


@contextmanager
def clusterset(folder: Path, planes: dict[str, ControlPlane]) -> Iterator[ClusterSet]:
    """The clusters with the CRDs, each watched; a worker; no importer yet."""
    with EmbeddedKafka(folder / "broker") as broker:
        facets = Facets(folder, broker.bootstrap_servers)
        ensure(facets.bootstrap)
        for plane in planes.values():
            mcs.install(plane.api)
            mcs.grant(plane.api, "norights", "service-facets-importer")
        made = ClusterSet(facets, planes, folder)
        clusters = [f"--cluster={each}={each}" for each in NAMES]
        facets.start("watch", "watch", "--kubeconfig", str(made.kubeconfig), *clusters, "--http-port", free_port())
        facets.start("work", "work", "--http-port", free_port(), "--data-dir", str(folder / "worker"))
        try:
            yield made
        finally:
            for name in list(facets.running):
                facets.end(name, signal.SIGKILL)


def endpoint_slice(service: str, addresses: list[str]) -> dict[str, Any]:
    return {
        "metadata": {"name": f"{service}-slice", "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "nodeName": "n1", "zone": "z1"} for address in addresses],
    }


def is_ready(port: str) -> bool:
    try:
        return bool(urllib3.request("GET", f"http://127.0.0.1:{port}/readyz", retries=False).status == 200)
    except urllib3.exceptions.HTTPError:
        return False
