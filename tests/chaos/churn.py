"""What a cluster's users and kubelets do all the time, through faults: every act may fail, none matters alone."""

import logging
import random
import threading
import time
from typing import Any

import urllib3

from tests.support.controlplane import ApiError, Workload
from tests.support.controlplane.workload import SERVICE_LABEL, SLICES, port

log = logging.getLogger("chaos.churn")

NAMESPACES = ("churn-a", "churn-b", "churn-c")
DEMO = (("shop", "web"), ("shop", "cart"), ("shop", "search"), ("payments", "api"), ("payments", "fraud"))
FAILURES = (ApiError, urllib3.exceptions.HTTPError, OSError, TimeoutError)
MARKER = "marker"


class Churn(threading.Thread):
    """Acts at random, by seed, about `pace` seconds apart, until `end`. `hold` makes it quiet and waits for it."""

    def __init__(self, work: Workload, seed: int, pace: float = 0.12) -> None:
        super().__init__(name="churn", daemon=True)
        self.acts = 0
        self.failed = 0
        self._work = work
        self._random = random.Random(seed)
        self._pace = pace
        self._names = 0
        self._go = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._ended = threading.Event()

    def prepare(self) -> None:
        """Namespaces, and the marker objects (one of each type that is watched)."""
        work = self._work
        for namespace in NAMESPACES:
            work.add_namespace(namespace)
            for number in range(4):
                work.service(namespace, f"s{number}", [port("http", 80, "http")])
                for _ in range(3):
                    self._add_pod(namespace, f"s{number}")
        namespace = NAMESPACES[0]
        work.service(namespace, MARKER, [port("http", 80)], app=None)
        ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
        work.slice(namespace, MARKER, MARKER, [{"addresses": ["198.51.100.99"]}], ports)
        work.endpoints(namespace, MARKER, [], mirrored=False)

    def mark(self) -> dict[str, str]:
        """Write to one object of each type: their new resourceVersions, by frontier, are above all that was done."""
        stamp = {"metadata": {"annotations": {"chaos": str(time.time_ns())}}}
        core = f"/api/v1/namespaces/{NAMESPACES[0]}"
        paths = {
            "services": f"{core}/services/{MARKER}",
            "endpointslices.discovery.k8s.io": f"{SLICES}/namespaces/{NAMESPACES[0]}/endpointslices/{MARKER}",
            "endpoints": f"{core}/endpoints/{MARKER}",
        }
        return {
            frontier: self._work.api.patch(path, stamp)["metadata"]["resourceVersion"]
            for frontier, path in paths.items()
        }

    def hold(self) -> None:
        """Stop after the act that is under way."""
        self._go.clear()
        self._idle.wait(60)

    def go_on(self) -> None:
        self._go.set()

    def end(self) -> None:
        self._ended.set()
        self._go.set()
        if self.is_alive():
            self.join(40)

    def run(self) -> None:
        acts = [
            (self._add, 5), (self._remove, 4), (self._flip, 6), (self._terminate, 3), (self._service, 3),
            (self._drop_service, 2), (self._ports, 2), (self._slice, 3), (self._move_slice, 3), (self._drop_slice, 2),
            (self._legacy, 2), (self._kind, 1),
        ]  # fmt: skip
        choices, weights = [each for each, _ in acts], [weight for _, weight in acts]
        while not self._ended.is_set():
            if not self._go.is_set():
                self._idle.set()
                self._go.wait()
                self._idle.clear()
                continue
            act = self._random.choices(choices, weights)[0]
            try:
                act()
                self.acts += 1
            except FAILURES as error:
                # A fault is under way, or what it wanted to change is not there: both are everyday.
                self.failed += 1
                log.debug("%s: %s", act.__name__, error)
            self._ended.wait(self._random.uniform(0.2, 1.8) * self._pace)
        self._idle.set()

    # ---- acts ------------------------------------------------------------------------------------------

    def _where(self) -> tuple[str, str]:
        if self._random.random() < 0.35:
            return self._random.choice(DEMO)
        return self._random.choice(NAMESPACES), f"s{self._random.randrange(6)}"

    def _pods(self, namespace: str, app: str) -> list[dict[str, Any]]:
        listed = self._work.api.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=f"app={app}")
        return list(listed["items"])

    def _add_pod(self, namespace: str, app: str, *, ready: bool = True) -> None:
        self._names += 1
        ports = [("http", self._random.choice((8080, 8080, 8081)))]
        self._work.add_pod(namespace, f"{app}-x{self._names}", {"app": app}, ports=ports, ready=ready)

    def _add(self) -> None:
        namespace, app = self._where()
        for _ in range(self._random.choice((1, 1, 1, 4))):
            if len(self._pods(namespace, app)) < 12:
                self._add_pod(namespace, app, ready=self._random.random() < 0.8)

    def _remove(self) -> None:
        namespace, app = self._where()
        pods = self._pods(namespace, app)
        count = len(pods) if self._random.random() < 0.1 else 1
        for pod in self._random.sample(pods, min(count, len(pods))):
            self._work.remove(namespace, pod["metadata"]["name"])

    def _terminate(self) -> None:
        namespace, app = self._where()
        pod = self._random.choice(self._pods(namespace, app) or [None])
        if pod is not None:
            self._work.terminate(namespace, pod["metadata"]["name"])

    def _flip(self) -> None:
        namespace, app = self._where()
        pod = self._random.choice(self._pods(namespace, app) or [None])
        if pod is not None:
            conditions = pod.get("status", {}).get("conditions", [])
            ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
            self._work.pod_ready(namespace, pod["metadata"]["name"], not ready)

    def _service(self) -> None:
        namespace, name = self._random.choice(NAMESPACES), f"s{self._random.randrange(6)}"
        how = self._random.choice(("service", "service", "headless", "bare"))
        if how == "headless":
            self._work.headless(namespace, name, [port("http", 80, "http")])
        else:
            self._work.service(namespace, name, [port("http", 80, "http")], app=None if how == "bare" else "")

    def _drop_service(self) -> None:
        self._work.delete_service(self._random.choice(NAMESPACES), f"s{self._random.randrange(6)}")

    def _ports(self) -> None:
        namespace, name = self._where()
        number = self._random.choice((80, 8000, 9000))
        spec = {"ports": [port("http", number, self._random.choice(("http", 8080)))]}
        self._work.patch_service(namespace, name, {"spec": spec})

    def _kind(self) -> None:
        namespace, name = self._where()
        spec = {"sessionAffinity": self._random.choice(("ClientIP", "None"))}
        self._work.patch_service(namespace, name, {"spec": spec})

    def _hand_made(self) -> tuple[str, str, int]:
        number = self._random.randrange(6)
        return self._random.choice(NAMESPACES), f"hand-{number}", number

    def _slice(self) -> None:
        namespace, name, number = self._hand_made()
        lasts = self._random.sample(range(8), self._random.randrange(5))
        # An address belongs to one slice: which of two wins is another test's matter.
        ends = [
            {"addresses": [f"198.51.{100 + number}.{last}"], "conditions": {"ready": self._random.random() < 0.8}}
            for last in lasts
        ]
        if self._work.exists(f"{SLICES}/namespaces/{namespace}/endpointslices/{name}"):
            self._work.patch_slice(namespace, name, {"endpoints": ends})
        else:
            ports = [{"name": "http", "port": 8443, "protocol": "TCP"}]
            self._work.slice(namespace, name, f"s{self._random.randrange(6)}", ends, ports)

    def _move_slice(self) -> None:
        namespace, name, _ = self._hand_made()
        label = {SERVICE_LABEL: f"s{self._random.randrange(6)}"}
        self._work.patch_slice(namespace, name, {"metadata": {"labels": label}})

    def _drop_slice(self) -> None:
        namespace, name, _ = self._hand_made()
        self._work.delete_slice(namespace, name)

    def _legacy(self) -> None:
        namespace, name = "platform", self._random.choice(("warehouse", "archive"))
        lasts = self._random.sample(range(50, 60), self._random.randrange(4))
        subsets = [
            {
                "addresses": [{"ip": f"192.0.2.{last}"} for last in lasts],
                "ports": [{"name": "postgres", "port": 5432, "protocol": "TCP"}],
            }
        ]
        mirrored = name == "archive"
        self._work.endpoints(namespace, name, subsets if lasts else [], mirrored=mirrored, replace=True)
