"""Two Services that change: `cart`, whose slices Kubernetes' own controller makes, and `tea`, whose slices are made by
hand, so that old and new ones overlap as long as we like. What is right at a moment is worked out here from what was
asked of the API server, not from any row."""

import asyncio
import itertools
from collections.abc import Iterable
from typing import Any

from tests.routers.stage import Stage
from tests.support.controlplane.workload import port

NAMESPACE = "shop"
HTTP, OPS = 8080, 8081
"""What every backend listens on."""
NUMBERS = {"http": 80, "web": 80, "ops": 9100}
"""The Service ports by name; `web` is another name of the first."""
TARGETS = {"http": HTTP, "web": HTTP, "ops": OPS}
STATES = {
    "ready": {"ready": True, "serving": True, "terminating": False},
    "unready": {"ready": False, "serving": False, "terminating": False},
    "draining": {"ready": False, "serving": True, "terminating": True},
}


def resource(service: str, number: int) -> str:
    """The xDS resource name of a Service port: that of the clusterset, as each cluster exports the Services."""
    return f"{service}.{NAMESPACE}.svc.clusterset.local:{number}"


def service_ports(names: Iterable[str]) -> list[dict[str, Any]]:
    """Ports of a Service; the backends speak HTTP/2."""
    return [port(name, NUMBERS[name], TARGETS[name], appProtocol="kubernetes.io/h2c") for name in names]


class PodService:
    """`cart` in one cluster: Pods that a selector finds. `ready` are the addresses of the ready Pods by name, IPv4
    first; `leaving` those of Pods that terminate or are not ready."""

    name = "cart"

    def __init__(self, stage: Stage, cluster: str) -> None:
        self.cluster = cluster
        self.ready: dict[str, tuple[str, ...]] = {}
        self.leaving: dict[str, tuple[str, ...]] = {}
        self.is_dual = False
        self.ports: tuple[str, ...] = ("http",)
        self._backends = stage.backends
        self._work = stage.workloads[cluster]
        self._numbers = itertools.count(1)

    async def prepare(self, pods: int) -> None:
        """The Service with so many Pods."""
        ports = service_ports(self.ports)
        await asyncio.to_thread(
            self._work.service, NAMESPACE, self.name, ports, ipFamilyPolicy="SingleStack", ipFamilies=["IPv4"]
        )
        for _ in range(pods):
            await self.add_pod()

    async def add_pod(self) -> str:
        """Another Pod, whose backend listens before it is ready; its name."""
        name = f"{self.name}-{self.cluster}-{next(self._numbers)}"
        labels = {"app": self.name}
        ports = (("http", HTTP), ("ops", OPS))
        addresses = await asyncio.to_thread(self._work.add_pod, NAMESPACE, name, labels, ports=ports, ready=False)
        self.ready[name] = tuple(addresses)
        await self._backends.start(addresses, (HTTP, OPS))
        await asyncio.to_thread(self._work.pod_ready, NAMESPACE, name)
        await self._settle()
        return name

    async def set_ready(self, name: str, ready: bool) -> None:
        """Let a Pod be ready or not; its backend goes on."""
        here, there = (self.leaving, self.ready) if ready else (self.ready, self.leaving)
        there[name] = here.pop(name)
        await asyncio.to_thread(self._work.pod_ready, NAMESPACE, name, ready)
        await self._settle()

    async def delete(self, name: str) -> None:
        """Begin a Pod's end: it serves, and is to get no new requests."""
        self.leaving[name] = self.ready.pop(name)
        await asyncio.to_thread(self._work.terminate, NAMESPACE, name)

    async def terminate(self, name: str) -> None:
        """The same, until its slice says so."""
        await self.delete(name)
        await self._settle()

    async def remove(self, name: str) -> tuple[str, ...]:
        """End a terminating Pod; its addresses, whose backends go on."""
        addresses = self.leaving.pop(name)
        await asyncio.to_thread(self._work.remove, NAMESPACE, name)

        def done(slices: list[dict[str, Any]]) -> bool:
            listed = {
                address for one in slices for endpoint in one["endpoints"] or [] for address in endpoint["addresses"]
            }
            return listed.isdisjoint(addresses)

        await asyncio.to_thread(self._work.await_slices, NAMESPACE, self.name, done)
        return addresses

    async def set_ports(self, *names: str) -> None:
        """Give the Service these ports."""
        self.ports = names
        patch = {"spec": {"ports": service_ports(names)}}
        await asyncio.to_thread(self._work.patch_service, NAMESPACE, self.name, patch)
        wanted = set(names)

        def done(slices: list[dict[str, Any]]) -> bool:
            ports = [{own["name"] for own in one["ports"] or []} for one in slices if one["endpoints"]]
            return bool(ports) and all(names == wanted for names in ports)

        await asyncio.to_thread(self._work.await_slices, NAMESPACE, self.name, done)

    async def set_dual(self, dual: bool) -> None:
        """Give the Service IPv6 besides IPv4, or take it away."""
        self.is_dual = dual
        families = ["IPv4", "IPv6"] if dual else ["IPv4"]
        policy = "RequireDualStack" if dual else "SingleStack"
        patch = {"spec": {"ipFamilyPolicy": policy, "ipFamilies": families}}
        await asyncio.to_thread(self._work.patch_service, NAMESPACE, self.name, patch)
        await self._settle()

    async def _settle(self) -> None:
        """Wait until the controller has made the slices of it."""
        count = len(self.ready) * (2 if self.is_dual else 1)
        await asyncio.to_thread(self._work.await_ready, NAMESPACE, self.name, count)

    @property
    def allowed(self) -> set[str]:
        """The addresses that may get new requests."""
        return {address for both in self.ready.values() for address in both[: 2 if self.is_dual else 1]}

    @property
    def expected(self) -> set[str]:
        """Those that must get some: of two addresses of a Pod a router takes the first that answers."""
        return {both[0] for both in self.ready.values()}


class SliceService:
    """`tea` in one cluster: its slices are ours. An endpoint has an IPv4 and an IPv6 address, and `states` its state;
    `families` are those that have a slice now."""

    name = "tea"

    def __init__(self, stage: Stage, cluster: str, endpoints: Iterable[tuple[str, str]]) -> None:
        self.cluster = cluster
        self.states = dict.fromkeys(endpoints, "ready")
        self.families: tuple[str, ...] = ("IPv4",)
        self.ports: tuple[str, ...] = ("http",)
        self._slices: dict[str, str] = {}
        self._work = stage.workloads[cluster]
        self._numbers = itertools.count(1)

    async def prepare(self) -> None:
        """The Service with its first slice."""
        ports = service_ports(self.ports)
        await asyncio.to_thread(
            self._work.service, NAMESPACE, self.name, ports, app=None, ipFamilyPolicy="RequireDualStack"
        )
        await self.replace()

    async def replace(self, *, ports: tuple[str, ...] = (), families: tuple[str, ...] = ()) -> None:
        """New slices beside the old ones, the Service's new ports if it gets some, and then the old ones go: as any
        controller does it that leaves no gap."""
        old, self._slices = list(self._slices.values()), {}
        self.families = families or self.families
        is_renamed, self.ports = bool(ports), ports or self.ports
        for family in self.families:
            name = self._slices[family] = f"{self.name}-{next(self._numbers)}"
            content = self._endpoints(family), self._slice_ports()
            await asyncio.to_thread(self._work.slice, NAMESPACE, name, self.name, *content, family=family)
        if is_renamed:
            patch = {"spec": {"ports": service_ports(self.ports)}}
            await asyncio.to_thread(self._work.patch_service, NAMESPACE, self.name, patch)
        for name in old:
            await asyncio.to_thread(self._work.delete_slice, NAMESPACE, name)

    async def set_states(self, states: dict[tuple[str, str], str]) -> None:
        """Let endpoints be ready, unready, or draining."""
        self.states |= states
        for family, name in self._slices.items():
            patch = {"endpoints": self._endpoints(family)}
            await asyncio.to_thread(self._work.patch_slice, NAMESPACE, name, patch)

    def addresses(self) -> dict[str, str]:
        """The states of the addresses in the slices."""
        return {
            address: state
            for both, state in self.states.items()
            for family, address in zip(("IPv4", "IPv6"), both, strict=True)
            if family in self.families
        }

    def _endpoints(self, family: str) -> list[dict[str, Any]]:
        number = ("IPv4", "IPv6").index(family)
        return [{"addresses": [both[number]], "conditions": STATES[state]} for both, state in self.states.items()]

    def _slice_ports(self) -> list[dict[str, Any]]:
        return [{"name": name, "port": TARGETS[name], "protocol": "TCP"} for name in self.ports]


def tea_addresses(services: Iterable[SliceService]) -> set[str]:
    """The addresses that get new requests: of an address that two clusters have, that with the older export decides,
    which is the first by name (README); draining ones are left only where nothing else is (KEP-1669)."""
    states: dict[str, str] = {}
    for service in sorted(services, key=lambda service: service.cluster):
        for address, state in service.addresses().items():
            states.setdefault(address, state)
    for state in ("ready", "draining"):
        if addresses := {address for address, own in states.items() if own == state}:
            return addresses
    return set()
