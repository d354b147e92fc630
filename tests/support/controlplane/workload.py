"""What a kubelet and a user do, through the real API: Nodes, Pods with a status, Services of every type."""

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

from tests.support.controlplane.api import Api, ApiError

Object = dict[str, Any]
SLICES = "/apis/discovery.k8s.io/v1"
SERVICE_LABEL = "kubernetes.io/service-name"


def port(name: str, number: int, target: int | str | None = None, protocol: str = "TCP", **more: Any) -> Object:
    """A Service port; `target` is a number or the name of a container port."""
    return {"name": name, "port": number, "targetPort": target or number, "protocol": protocol, **more}


class Workload:
    """A cluster's Pods by hand. `subnet` is the third number of the Pod addresses: 10.244.<subnet>.0/24 and on."""

    def __init__(self, api: Api, *, zones: Iterable[str] = ("a", "b", "c"), subnet: int = 0, prefix: str = "n") -> None:
        self.api = api
        self.zones = list(zones)
        self.nodes: list[str] = []
        self._prefix = prefix
        self._numbers = itertools.count(subnet * 256 + 1)
        self._names = itertools.count(1)
        self._pods: dict[tuple[str, str], list[str]] = {}
        self._apps: dict[tuple[str, str], Object] = {}

    # Nodes and namespaces

    def add_nodes(self, per_zone: int = 1) -> list[str]:
        """Ready Nodes in every zone; the Pods that follow are spread over them in turn."""
        for zone in self.zones:
            for _ in range(per_zone):
                name = f"{self._prefix}{len(self.nodes) + 1}"
                self.add_node(name, zone)
        return self.nodes

    def add_node(self, name: str, zone: str, *, ready: bool = True) -> None:
        labels = {"topology.kubernetes.io/zone": zone, "kubernetes.io/hostname": name}
        self.api.post("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
        # Topology hints are made only where every Node says how many CPUs it has.
        status = {"capacity": {"cpu": "4"}, "allocatable": {"cpu": "4"}, "conditions": [_condition("Ready", ready)]}
        self.api.patch(f"/api/v1/nodes/{name}/status", {"status": status})
        self.nodes.append(name)

    def add_namespace(self, name: str) -> None:
        self.api.post("/api/v1/namespaces", {"metadata": {"name": name}})

    # Pods

    def add_pod(
        self,
        namespace: str,
        name: str,
        labels: dict[str, str],
        *,
        ports: Iterable[tuple[str, int]] = (("http", 8080),),
        ready: bool = True,
        ipv6: bool = True,
        node: str | None = None,
        hostname: str | None = None,
        subdomain: str | None = None,
    ) -> list[str]:
        """A Running Pod on a Node; returns its addresses, IPv4 first."""
        number = next(self._numbers)
        addresses = [f"10.244.{number // 256}.{number % 256}"] + ([f"fd00:10:244::{number:x}"] if ipv6 else [])
        node = node or self.nodes[number % len(self.nodes)]
        protocols = {"dns": "UDP", "quic": "UDP"}
        container = {
            "name": "main",
            "image": "example.test/app:1",
            "ports": [
                {"name": each, "containerPort": number_, "protocol": protocols.get(each, "TCP")}
                for each, number_ in ports
            ],
        }
        spec: Object = {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 30}
        spec |= {"hostname": hostname} if hostname else {}
        spec |= {"subdomain": subdomain} if subdomain else {}
        self.api.post(
            f"/api/v1/namespaces/{namespace}/pods", {"metadata": {"name": name, "labels": labels}, "spec": spec}
        )
        status = {
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": [{"ip": each} for each in addresses],
            "conditions": [_condition("Ready", ready)],
        }
        self.api.patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": status})
        return addresses

    def pod_ready(self, namespace: str, name: str, ready: bool = True) -> None:
        status = {"conditions": [_condition("Ready", ready)]}
        self.api.patch(f"/api/v1/namespaces/{namespace}/pods/{name}/status", {"status": status})

    def terminate(self, namespace: str, name: str) -> None:
        """Begin a graceful end: the endpoint is terminating, and serving while the Pod is ready."""
        self.api.delete(f"/api/v1/namespaces/{namespace}/pods/{name}", grace=30)

    def remove(self, namespace: str, name: str) -> None:
        """The end that the kubelet reports: the Pod is gone."""
        self.api.delete(f"/api/v1/namespaces/{namespace}/pods/{name}", grace=0)

    # Apps: what a Deployment would do

    def app(self, namespace: str, name: str, replicas: int, *, settle: float = 0, **pod: Any) -> None:
        """Pods labelled app=<name>; `pod` goes to add_pod, for those of a later scale or roll too."""
        self._apps[namespace, name] = pod
        self._pods[namespace, name] = []
        self.scale(namespace, name, replicas, settle=settle)

    def pods(self, namespace: str, name: str) -> list[str]:
        return list(self._pods[namespace, name])

    def scale(self, namespace: str, name: str, replicas: int, *, settle: float = 0) -> None:
        """Add Pods, or end the oldest; `settle` seconds between an end's beginning and the Pod's removal."""
        pods = self._pods[namespace, name]
        while len(pods) < replicas:
            self._add(namespace, name)
        ending, self._pods[namespace, name] = pods[: len(pods) - replicas], pods[len(pods) - replicas :]
        for each in ending:
            self.terminate(namespace, each)
        if ending and settle:
            time.sleep(settle)
        for each in ending:
            self.remove(namespace, each)

    def roll(self, namespace: str, name: str, *, settle: float = 0, **pod: Any) -> None:
        """A rolling update, one Pod at a time: new one starts, gets ready, old one terminates, is gone."""
        self._apps[namespace, name] |= pod
        for old in self.pods(namespace, name):
            new = self._add(namespace, name, ready=False)
            time.sleep(settle)
            self.pod_ready(namespace, new)
            self.terminate(namespace, old)
            time.sleep(settle)
            self.pod_ready(namespace, old, False)
            self.remove(namespace, old)
            self._pods[namespace, name].remove(old)

    def _add(self, namespace: str, name: str, **more: Any) -> str:
        pod = f"{name}-{next(self._names):04d}"
        self.add_pod(namespace, pod, {"app": name}, **(self._apps[namespace, name] | more))
        self._pods[namespace, name].append(pod)
        return pod

    # Services, and the endpoints that nobody selects

    def service(
        self,
        namespace: str,
        name: str,
        ports: Iterable[Object] = (),
        *,
        app: str | None = "",
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        **spec: Any,
    ) -> Object:
        """A Service as served. It selects app=<name>, or `app`; None selects nothing. `spec` is as in the API."""
        spec = {"ports": list(ports), **spec}
        if app is not None:
            spec["selector"] = {"app": app or name}
        metadata = {"name": name, "labels": labels or {}, "annotations": annotations or {}}
        return self.api.post(f"/api/v1/namespaces/{namespace}/services", {"metadata": metadata, "spec": spec})  # type: ignore[no-any-return]

    def headless(self, namespace: str, name: str, ports: Iterable[Object] = (), **more: Any) -> Object:
        return self.service(namespace, name, ports, clusterIP="None", **more)

    def dual_stack(self, namespace: str, name: str, ports: Iterable[Object], **more: Any) -> Object:
        return self.service(namespace, name, ports, ipFamilyPolicy="RequireDualStack", **more)

    def external_name(self, namespace: str, name: str, host: str) -> Object:
        return self.service(namespace, name, app=None, type="ExternalName", externalName=host)

    def patch_service(self, namespace: str, name: str, patch: Object) -> None:
        self.api.patch(f"/api/v1/namespaces/{namespace}/services/{name}", patch)

    def load_balancer_address(self, namespace: str, name: str, ip: str) -> None:
        """What a cloud's controller writes once it has an address."""
        status = {"status": {"loadBalancer": {"ingress": [{"ip": ip}]}}}
        self.api.patch(f"/api/v1/namespaces/{namespace}/services/{name}/status", status)

    def delete_service(self, namespace: str, name: str) -> None:
        self.api.delete(f"/api/v1/namespaces/{namespace}/services/{name}")

    def slice(
        self,
        namespace: str,
        name: str,
        service: str,
        endpoints: Iterable[Object],
        ports: Iterable[Object],
        *,
        family: str = "IPv4",
    ) -> Object:
        """A hand-made EndpointSlice; `family` is its addressType."""
        body = {
            "metadata": {
                "name": name,
                "labels": {SERVICE_LABEL: service, "endpointslice.kubernetes.io/managed-by": "staff"},
            },
            "addressType": family,
            "endpoints": list(endpoints),
            "ports": list(ports),
        }
        return self.api.post(f"{SLICES}/namespaces/{namespace}/endpointslices", body)  # type: ignore[no-any-return]

    def patch_slice(self, namespace: str, name: str, patch: Object) -> None:
        self.api.patch(f"{SLICES}/namespaces/{namespace}/endpointslices/{name}", patch)

    def relabel_slice(self, namespace: str, name: str, service: str) -> None:
        """Move a slice to another Service."""
        self.patch_slice(namespace, name, {"metadata": {"labels": {SERVICE_LABEL: service}}})

    def delete_slice(self, namespace: str, name: str) -> None:
        self.api.delete(f"{SLICES}/namespaces/{namespace}/endpointslices/{name}")

    def endpoints(
        self, namespace: str, name: str, subsets: list[Object], *, mirrored: bool = True, replace: bool = False
    ) -> Object:
        """Legacy Endpoints of a Service without selector; not `mirrored`, they have no EndpointSlice beside them."""
        labels = {} if mirrored else {"endpointslice.kubernetes.io/skip-mirror": "true"}
        body = {"metadata": {"name": name, "labels": labels}, "subsets": subsets}
        path = f"/api/v1/namespaces/{namespace}/endpoints"
        return self.api.put(f"{path}/{name}", body) if replace else self.api.post(path, body)  # type: ignore[no-any-return]

    # What the controllers made of it

    def slices_of(self, namespace: str, service: str) -> list[Object]:
        query = {"labelSelector": f"{SERVICE_LABEL}={service}"}
        return self.api.request("GET", f"{SLICES}/namespaces/{namespace}/endpointslices", query=query)["items"]  # type: ignore[no-any-return]

    def await_slices(
        self, namespace: str, service: str, until: Callable[[list[Object]], bool], seconds: float = 60
    ) -> list[Object]:
        """The Service's slices as soon as `until` holds of them. Raises TimeoutError with what was there last."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.slices_of(namespace, service)
            if until(found):
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"The slices of {namespace}/{service} after {seconds:g} s: {found}")
            time.sleep(0.05)

    def await_ready(self, namespace: str, service: str, addresses: int, seconds: float = 60) -> list[Object]:
        """The slices once exactly so many of their endpoints are ready, over all address families."""
        return self.await_slices(namespace, service, lambda found: len(ready_addresses(found)) == addresses, seconds)

    def exists(self, path: str) -> bool:
        try:
            self.api.get(path)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True


def ready_addresses(slices: Iterable[Object]) -> list[str]:
    """Sorted; no ready condition means ready (EndpointConditions in the API reference)."""
    return sorted(
        endpoint["addresses"][0]
        for each in slices
        for endpoint in each.get("endpoints") or []
        if endpoint.get("conditions", {}).get("ready", True)
    )


def _condition(kind: str, holds: bool) -> Object:
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"type": kind, "status": "True" if holds else "False", "lastTransitionTime": now, "reason": "Harness"}
