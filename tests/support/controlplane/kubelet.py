"""As much of a scheduler and a kubelet as controllers need: every Pod gets a Node and an address, runs, and is ready.
Nothing runs in it: what asks a Pod for an answer gets none."""

import itertools
import json
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import urllib3

from tests.support.controlplane.api import Api, ApiError

_NODE = "node-1"


class Kubelet:
    """One cluster's, with one Node. `subnet` is the second number of its Pods' addresses."""

    def __init__(self, api: Api, subnet: int) -> None:
        self._api = api
        self._numbers = itertools.count(1)
        self._subnet = subnet
        self._ending = False
        self._thread = threading.Thread(target=self._run, name=f"kubelet-{subnet}", daemon=True)

    def __enter__(self) -> Self:
        labels = {"topology.kubernetes.io/zone": "a", "kubernetes.io/hostname": _NODE}
        self._api.post("/api/v1/nodes", {"metadata": {"name": _NODE, "labels": labels}})
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ending = True  # the thread ends with the watch, at the latest when its API server does

    def _run(self) -> None:
        while not self._ending:
            with (
                suppress(ApiError, urllib3.exceptions.HTTPError, OSError),
                self._api.stream("/api/v1/pods", timeoutSeconds="5") as lines,
            ):
                for line in lines:
                    event = json.loads(line)
                    if event["type"] in {"ADDED", "MODIFIED"}:
                        # Whatever is wrong with one Pod is its own affair: it may be gone by now.
                        with suppress(ApiError):
                            self._take(event["object"])

    def _take(self, pod: dict[str, Any]) -> None:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        if meta.get("deletionTimestamp"):
            self._api.delete(path, grace=0)
        elif not pod["spec"].get("nodeName"):
            target = {"apiVersion": "v1", "kind": "Node", "name": _NODE}
            self._api.post(f"{path}/binding", {"metadata": {"name": meta["name"]}, "target": target})
        elif (pod.get("status") or {}).get("phase") != "Running":
            number = next(self._numbers)
            addresses = [f"10.{self._subnet}.{number // 250}.{number % 250 + 1}", f"fd00:{self._subnet}::{number:x}"]
            conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
            ips = [{"ip": each} for each in addresses]
            status = {"phase": "Running", "podIP": addresses[0], "podIPs": ips, "conditions": conditions}
            self._api.patch(f"{path}/status", {"status": status})
