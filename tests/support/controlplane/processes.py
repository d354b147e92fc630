"""Start, stop, kill, pause and compact a control plane. Every server listens on 127.0.0.1 at a free port."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

import urllib3
import yaml

from tests.support.bound_process import start_bound
from tests.support.controlplane.api import RESOURCES, Api, ApiError

BINARIES = ("etcd", "kube-apiserver", "kube-controller-manager")
CONTROLLERS = (
    "endpoints-controller",
    "endpointslice-controller",
    "endpointslice-mirroring-controller",
    "garbage-collector-controller",  # removes the slices of a deleted Service, as in every cluster
    "namespace-controller",
)
USERS = ("admin", "reader", "norights")


def reader_role() -> dict[str, object]:
    """The rights that the project hands out for the watcher."""
    documents = yaml.safe_load_all((Path(__file__).parents[3] / "compose" / "rbac.yaml").read_text())
    (role,) = (
        each for each in documents
        if each["kind"] == "ClusterRole" and each["metadata"]["name"] == "service-facets-reader"
    )  # fmt: skip
    return {"rules": role["rules"]}


class MissingAssets(RuntimeError):
    """No folder with the control plane's binaries is known."""


def assets_folder() -> Path:
    """The folder that KUBEBUILDER_ASSETS names (the convention of envtest)."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    if not named:
        raise MissingAssets("KUBEBUILDER_ASSETS is not set. Run `make e2e`, which finds or builds a control plane.")
    folder = Path(named)
    missing = [name for name in BINARIES if not os.access(folder / name, os.X_OK)]
    if missing:
        raise MissingAssets(f"KUBEBUILDER_ASSETS={named} has no {', '.join(missing)}. Run `make e2e` without it.")
    return folder


def free_ports(count: int) -> list[int]:
    """`count` different ports that were free a moment ago."""
    held = [socket.socket() for _ in range(count)]
    try:
        for each in held:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in held]
    finally:
        for each in held:
            each.close()


class ControlPlane:
    """One cluster without nodes of its own. `name` is the kubeconfig's context; several can run at once.

    `kubeconfig` is the admin's, `readonly` may get, list and watch what the watcher needs, `norights` may do nothing.
    """

    def __init__(self, name: str, *, ready_seconds: float = 120, controllers: Iterable[str] = ()) -> None:
        self.name = name
        self._controllers = (*CONTROLLERS, *controllers)
        self._assets = assets_folder()
        self.folder = Path(tempfile.mkdtemp(prefix=f"control-plane-{name}-"))
        self._ready_seconds = ready_seconds
        self._etcd_port, self._peer_port, self._secure_port = free_ports(3)
        self._tokens = {user: secrets.token_hex(16) for user in USERS}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._http = urllib3.PoolManager(retries=False)
        self._apis: dict[str, Api] = {}

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._secure_port}"

    @property
    def ca(self) -> Path:
        """The API server's own certificate, which it signed itself."""
        return self.folder / "certs" / "apiserver.crt"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "admin.kubeconfig"

    @property
    def readonly(self) -> Path:
        return self.folder / "reader.kubeconfig"

    @property
    def norights(self) -> Path:
        return self.folder / "norights.kubeconfig"

    @property
    def api(self) -> Api:
        """The admin's requests."""
        return self.api_as("admin")

    def api_as(self, user: str) -> Api:
        """Requests as "admin", "reader" or "norights"."""
        if user not in self._apis:
            self._apis[user] = Api(self.url, self._tokens[user], self.ca)
        return self._apis[user]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start all three components and return once the API server is ready and knows its users."""
        self._write_secrets()
        self._start("etcd")
        self._start("kube-apiserver")
        self._await_ready()
        for user in USERS:
            self._write_kubeconfig(user)
        self._grant_reader()
        self._start("kube-controller-manager")

    def stop(self) -> None:
        """End what runs, the clients of etcd first, and remove the folder."""
        for api in self._apis.values():
            api.close()
        for component in reversed(BINARIES):
            self.kill(component)
        self._http.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self, component: str) -> None:
        """End one component as a crash would (SIGKILL); nothing where it does not run."""
        process = self._running.pop(component, None)
        if process is not None:
            process.kill()
            process.wait()

    def restart(self, component: str) -> None:
        """Kill one component and start it on the same port and data; returns when the API server is ready."""
        self.kill(component)
        self._start(component)
        self._await_ready()

    def pause(self, component: str) -> None:
        """Stop one component with its connections open, as a machine that hangs (SIGSTOP)."""
        self._running[component].send_signal(signal.SIGSTOP)

    def cont(self, component: str) -> None:
        """Let a paused component go on (SIGCONT)."""
        self._running[component].send_signal(signal.SIGCONT)

    def log(self, component: str) -> str:
        return (self.folder / f"{component}.log").read_text(errors="replace")

    def list_all(self) -> dict[str, list[dict]]:  # type: ignore[type-arg]
        """What the server itself lists, by kind: the raw Services, EndpointSlices and Endpoints."""
        return {kind: self.api.get(path)["items"] for kind, path in RESOURCES.items()}

    def compact(self) -> int:
        """Make every resource version before the newest one expire: a watch or list from one gets 410 Gone.

        etcd forgets its history, and the API server its watch cache, which outlives etcd's. Returns the revision.
        """
        status = self._etcd("/v3/maintenance/status", {})
        revision = int(status["header"]["revision"])
        self._etcd("/v3/kv/compaction", {"revision": str(revision), "physical": True})
        self.restart("kube-apiserver")
        return revision

    def _etcd(self, path: str, body: dict[str, object]) -> dict[str, dict[str, str]]:
        answer = self._http.request("POST", f"http://127.0.0.1:{self._etcd_port}{path}", json=body, timeout=30)
        if answer.status != 200:
            raise RuntimeError(f"etcd answered {answer.status} to {path}: {answer.data.decode(errors='replace')}")
        return answer.json()  # type: ignore[no-any-return]

    def _start(self, component: str) -> None:
        arguments = {
            "etcd": self._etcd_arguments,
            "kube-apiserver": self._apiserver_arguments,
            "kube-controller-manager": self._controller_arguments,
        }[component]()
        with (self.folder / f"{component}.log").open("ab") as log:
            self._running[component] = start_bound(
                [str(self._assets / component), *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _etcd_arguments(self) -> list[str]:
        client = f"http://127.0.0.1:{self._etcd_port}"
        return [
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls=http://127.0.0.1:{self._peer_port}",
            "--unsafe-no-fsync",
        ]

    def _apiserver_arguments(self) -> list[str]:
        return [
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            # Published as the endpoint of default/kubernetes, never dialled: else it needs a default route.
            "--advertise-address=192.0.2.1",
            f"--secure-port={self._secure_port}",
            f"--cert-dir={self.folder / 'certs'}",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            f"--service-account-key-file={self.folder / 'sa.pub'}",
            f"--token-auth-file={self.folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
        ]

    def _controller_arguments(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig}",
            f"--controllers={','.join(self._controllers)}",
            f"--service-account-private-key-file={self.folder / 'sa.key'}",
            "--secure-port=0",
            "--leader-elect=false",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ]

    def _write_secrets(self) -> None:
        key = self.folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        subprocess.run(
            ["openssl", "rsa", "-in", key, "-pubout", "-out", self.folder / "sa.pub"], check=True, capture_output=True
        )
        groups = {"admin": ',"system:masters"'}
        lines = [f"{token},{user},{user}{groups.get(user, '')}\n" for user, token in self._tokens.items()]
        (self.folder / "tokens.csv").write_text("".join(lines))

    def _write_kubeconfig(self, user: str) -> None:
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.name, "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}],
            "users": [{"name": user, "user": {"token": self._tokens[user]}}],
            "contexts": [{"name": self.name, "context": {"cluster": self.name, "user": user}}],
            "current-context": self.name,
        }
        path = self.folder / f"{user}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def _grant_reader(self) -> None:
        rbac = "/apis/rbac.authorization.k8s.io/v1"
        self.api.post(f"{rbac}/clusterroles", {"metadata": {"name": "facets-reader"}, **reader_role()})
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "facets-reader"}
        user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "reader"}
        binding = {"metadata": {"name": "facets-reader"}, "roleRef": role, "subjects": [user]}
        self.api.post(f"{rbac}/clusterrolebindings", binding)

    def _await_ready(self) -> None:
        deadline = time.monotonic() + self._ready_seconds
        last = "no answer yet"
        while time.monotonic() < deadline:
            for component, process in self._running.items():
                if process.poll() is not None:
                    tail = "\n".join(self.log(component).splitlines()[-15:])
                    raise RuntimeError(f"{component} of {self.name} ended with {process.returncode}:\n{tail}")
            try:
                if self.ca.exists():
                    self.api.get("/readyz")
                    # Made by the server itself a little after it calls itself ready.
                    self.api.get("/api/v1/namespaces/default/services/kubernetes")
                    return
            except (ApiError, urllib3.exceptions.HTTPError, OSError) as error:
                last = str(error)
            time.sleep(0.1)  # nothing tells of readiness but asking
        raise TimeoutError(f"The API server of {self.name} was not ready in {self._ready_seconds:g} s: {last}")
