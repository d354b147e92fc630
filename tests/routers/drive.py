"""The two Services change for some minutes, while each router gets requests to each of their ports."""

import asyncio
import contextlib
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

from tests.routers.services import (
    HTTP,
    NAMESPACE,
    NUMBERS,
    OPS,
    PodService,
    SliceService,
    resource,
    tea_addresses,
)
from tests.routers.stage import ROUTERS, Stage
from tests.support.controlplane import service_exports
from tests.support.controlplane.workload import SLICES, port

_RETIRE_SECONDS = 3.0
"""For how long a backend goes on after all routers have acknowledged a set without it."""
_BETWEEN_SECONDS = 6.0
"""Between two changes of the clusters, for the others' changes in either state."""
_LINGER_SECONDS = 2.0
"""For how long nothing else changes once addresses are out of a set: requests that still went there would be seen."""
_TEA = {
    # The first is in both clusters, as with one range of Pod addresses for all.
    "east": [("10.244.200.1", "fd00:10:244::c801"), ("10.244.200.2", "fd00:10:244::c802"),
             ("10.244.200.3", "fd00:10:244::c803")],
    "west": [("10.244.200.1", "fd00:10:244::c801"), ("10.244.201.2", "fd00:10:244::c902"),
             ("10.244.201.3", "fd00:10:244::c903")],
}  # fmt: skip
_MARKER = "marker"
_Act = Callable[[], Awaitable[Any]]


class Drive:
    """All changes, each seen through to all routers. `changes` counts them by kind, `seen` by router those that it
    acknowledged in a set of its own, `acked` has by router the versions of sets that it acknowledged, `nacks` counts by
    router what it refused. In between our own processes are restarted (`restarts`)."""

    def __init__(self, stage: Stage, seed: int) -> None:
        self.stage = stage
        self.changes: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.restarts: Counter[str] = Counter()
        self.nacks: Counter[str] = Counter(dict.fromkeys(ROUTERS, 0))
        self.acked: dict[str, set[tuple[str, int]]] = {name: set() for name in ROUTERS}
        self.joined = ["east", "west"]
        self.cart = {name: PodService(stage, name) for name in self.joined}
        self.tea = {name: SliceService(stage, name, _TEA[name]) for name in self.joined}
        self._random = random.Random(seed)
        self._locks = {name: asyncio.Lock() for name in ("cart", "tea")}
        self._open: dict[str, list[int]] = {"cart": [], "tea": []}
        self._addresses: dict[str, set[str]] = {"cart": set(), "tea": set()}
        self._retiring: set[asyncio.Task[None]] = set()

    async def prepare(self) -> None:
        """Everything, with all backends, before the first request."""
        await asyncio.gather(*map(self._prepare_cluster, self.joined))
        for cluster in self.joined:
            for name in ("cart", "tea"):
                await asyncio.to_thread(service_exports.export, self.stage.planes[cluster].api, NAMESPACE, name)
        for addresses in {addresses for both in _TEA.values() for addresses in both}:
            await self.stage.backends.start(addresses, (HTTP, OPS))
        await self.stage.start_facets()
        await self.stage.start_routers()
        for service in ("cart", "tea"):
            await self._open_port(service, NUMBERS["http"])

    async def _prepare_cluster(self, cluster: str) -> None:
        workload = self.stage.workloads[cluster]
        await asyncio.to_thread(workload.service, NAMESPACE, _MARKER, [port("http", 80)], app=None)
        slice_ports = [{"name": "http", "port": 80, "protocol": "TCP"}]
        endpoint = {"addresses": ["198.51.100.99"]}
        await asyncio.to_thread(workload.slice, NAMESPACE, _MARKER, _MARKER, [endpoint], slice_ports)
        await self.cart[cluster].prepare(3)
        await self.tea[cluster].prepare()

    async def run(self, seconds: float) -> None:
        """Change both Services, and the clusters, beside each other for so long."""
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for loop in (self._change_cart, self._change_tea, self._change_clusters):
                group.create_task(self._repeat(loop, until))
        await asyncio.gather(*self._retiring)
        for name in self._open:
            await self._check_answers(name, time.monotonic())

    async def _repeat(self, loop: Callable[[], AsyncGenerator[None, None]], until: float) -> None:
        """Go through a loop's acts until it is time, and at least once through all."""
        is_complete = False
        while not is_complete or time.monotonic() < until:
            async with contextlib.aclosing(loop()) as acts:
                async for _ in acts:
                    if is_complete and time.monotonic() >= until:
                        return
            is_complete = True

    # ---- the changes ----------------------------------------------------------------------------------

    async def _change_cart(self) -> AsyncGenerator[None, None]:
        cart = self._any(self.cart)
        for act in self._shuffled(self._roll, self._ready_and_back, self._dual_and_back, self._cart_port):
            async with self._locks["cart"]:
                await act(cart if cart.cluster in self.joined else self.cart["east"])
            yield

    async def _roll(self, cart: PodService) -> None:
        await self._change("Pod added", cart, cart.add_pod)
        old = next(iter(cart.ready))
        await self._change("Pod terminating", cart, lambda: cart.terminate(old))
        addresses = cart.leaving[old]
        await self._change("Pod removed", cart, lambda: cart.remove(old))
        self._retire(addresses)

    async def _ready_and_back(self, cart: PodService) -> None:
        pod = self._random.choice(list(cart.ready))
        await self._change("endpoint unready", cart, lambda: cart.set_ready(pod, False))
        await self._change("endpoint ready", cart, lambda: cart.set_ready(pod, True))

    async def _dual_and_back(self, cart: PodService) -> None:
        await self._change("family added", cart, lambda: cart.set_dual(True))
        await self._change("family removed", cart, lambda: cart.set_dual(False))

    async def _cart_port(self, cart: PodService) -> None:
        await self._change("port added", cart, lambda: cart.set_ports("http", "ops"))
        await self._open_port("cart", NUMBERS["ops"])
        await self._close_port("cart", NUMBERS["ops"])
        await self._change("port removed", cart, lambda: cart.set_ports("http"))

    async def _change_tea(self) -> AsyncGenerator[None, None]:
        tea = self._any(self.tea)
        acts = (self._recycle, self._rename, self._tea_port, self._switch_families, self._states, self._all_draining)
        for act in self._shuffled(*acts):
            async with self._locks["tea"]:
                await act(tea if tea.cluster in self.joined else self.tea["east"])
            yield

    async def _recycle(self, tea: SliceService) -> None:
        await self._change("slice recycled", tea, tea.replace)

    async def _rename(self, tea: SliceService) -> None:
        await self._change("port renamed", tea, lambda: tea.replace(ports=("web",)))
        await self._change("port renamed", tea, lambda: tea.replace(ports=("http",)))

    async def _tea_port(self, tea: SliceService) -> None:
        await self._change("port added", tea, lambda: tea.replace(ports=("ops", "http")))
        await self._open_port("tea", NUMBERS["ops"])
        await self._change("slice recycled", tea, tea.replace)
        await self._close_port("tea", NUMBERS["ops"])
        await self._change("port removed", tea, lambda: tea.replace(ports=("http",)))

    async def _switch_families(self, tea: SliceService) -> None:
        await self._change("family switched", tea, lambda: tea.replace(families=("IPv6",)))
        await self._change("family added", tea, lambda: tea.replace(families=("IPv4", "IPv6")))
        await self._change("family switched", tea, lambda: tea.replace(families=("IPv4",)))

    async def _states(self, tea: SliceService) -> None:
        # The first may be in another cluster's set, too.
        one, other = list(tea.states)[1:]
        await self._change("endpoint unready", tea, lambda: tea.set_states({one: "unready"}))
        await self._change("endpoint terminating", tea, lambda: tea.set_states({one: "ready", other: "draining"}))
        await self._change("endpoint ready", tea, lambda: tea.set_states({other: "ready"}))

    async def _all_draining(self, tea: SliceService) -> None:
        if self.joined != ["east"]:
            return
        states = dict.fromkeys(tea.states, "draining")
        await self._change("all terminating", tea, lambda: tea.set_states(states))
        await self._change("endpoint ready", tea, lambda: tea.set_states(dict.fromkeys(states, "ready")))

    async def _change_clusters(self) -> AsyncGenerator[None, None]:
        for act in (self._leave_or_join, self._restart_server, self._leave_or_join, self._kill_watcher):
            async with self._locks["cart"], self._locks["tea"]:
                await act()
            yield
            await asyncio.sleep(_BETWEEN_SECONDS)

    async def _leave_or_join(self) -> None:
        if "west" in self.joined:
            await self._change_both("cluster left", self._leave)
        else:
            await self._change_both("cluster joined", self._join)

    async def _restart_server(self) -> None:
        """The routers keep what they have, and get the same again from the next server."""
        await self.count_nacks()
        await self.stage.end("serve")
        await self.stage.start_server()
        for name in self._open:
            await self.stage.until(partial(self._is_acked, name, 0), f"the new server's {name} is acknowledged")
            await self._check_answers(name, time.monotonic())
        self.restarts["server restarted"] += 1

    async def _kill_watcher(self) -> None:
        """The next watcher lists everything again: nothing changes."""
        cluster = self._random.choice(self.joined)
        await self.stage.end(f"watch-{cluster}", signal.SIGKILL)
        await self.stage.start_watcher(cluster)
        for name in self._open:
            await self._until_acked(name, cluster)
            await self._check_answers(name, time.monotonic())
        self.restarts["watcher killed"] += 1

    async def _leave(self) -> None:
        self.joined.remove("west")
        await self.stage.end("watch-west")
        await self.stage.forget("west")

    async def _join(self) -> None:
        self.joined.append("west")
        await self.stage.start_watcher("west")

    # ---- one change -----------------------------------------------------------------------------------

    async def _change(self, kind: str, service: PodService | SliceService, act: _Act) -> None:
        """Make a change, and see it through: all routers have acknowledged it, requests reach what is to get them,
        and from now on nothing else."""
        async with self._seen_through(kind, service.name):
            await act()
            await self._until_acked(service.name, service.cluster)

    async def _change_both(self, kind: str, act: _Act) -> None:
        async with self._seen_through(kind, "cart"), self._seen_through(kind, "tea"):
            before = {name: (await self._propagation(name))["version"] for name in ("cart", "tea")}
            await act()
            for name, version in before.items():
                await self.stage.until(partial(self._is_acked, name, version), f"{kind}: {name} is acknowledged")

    @contextlib.asynccontextmanager
    async def _seen_through(self, kind: str, name: str) -> AsyncIterator[None]:
        before, began = await self._standings(name), time.monotonic()
        allowed = self._allowed(name, NUMBERS["http"])
        yield
        after = await self._standings(name)
        self.changes[kind] += 1
        for router in ROUTERS:
            if after[router] > before[router]:
                self.seen[router] += 1
            else:
                self.stage.violations.append(f"{router} has not seen: {kind} of {name} ({before} -> {after})")
        await self._check_answers(name, began)
        if not allowed <= self._allowed(name, NUMBERS["http"]):
            await asyncio.sleep(_LINGER_SECONDS)
            await self._check_answers(name, time.monotonic())

    async def _check_answers(self, name: str, began: float) -> None:
        for number in self._open[name]:
            self._addresses[name] |= self._allowed(name, number)
        for number in self._open[name]:
            for load in self.stage.loads.values():
                load.judge(resource(name, number), self._allowed(name, number), self._addresses[name], began)
        for number in self._open[name]:
            for load in self.stage.loads.values():
                await load.until_answered(resource(name, number), self._expected(name, number))
        self.stage.check()

    async def _until_acked(self, name: str, cluster: str) -> None:
        """Wait until all routers have acknowledged all that was written to a cluster until now: marks are written
        after it."""
        stamp = {"metadata": {"annotations": {"mark": str(time.time_ns())}}}
        api = self.stage.planes[cluster].api
        paths = {
            "services": f"/api/v1/namespaces/{NAMESPACE}/services/{_MARKER}",
            "endpointslices.discovery.k8s.io": f"{SLICES}/namespaces/{NAMESPACE}/endpointslices/{_MARKER}",
        }
        for frontier, path in paths.items():
            version = (await asyncio.to_thread(api.patch, path, stamp))["metadata"]["resourceVersion"]
            query = {"cluster": cluster, "resource": frontier, "resourceVersion": version, "namespace": NAMESPACE}
            answer = await self.stage.get("/v1/acked", service=name, timeout="60", **query)
            if not answer["acked"] or not set(ROUTERS) <= set(answer["clients"]):
                raise TimeoutError(f"{name} in {cluster} is not acknowledged by all: {answer}")

    async def _is_acked(self, name: str, above: int) -> bool:
        services = (await self.stage.get("/v1/propagation", namespace=NAMESPACE, service=name))["services"]
        if not services:
            return False
        (service,) = services
        acked = {client["node"] for client in service["clients"] if client["acked"] >= service["version"]}
        return service["version"] > above and acked >= set(ROUTERS)

    async def _standings(self, name: str) -> dict[str, int]:
        """By router the version of the Service that it has acknowledged."""
        standings = {client["node"]: client["acked"] for client in (await self._propagation(name))["clients"]}
        for router, version in standings.items():
            self.acked[router].add((name, version))
        return standings

    async def _propagation(self, name: str) -> Any:
        return (await self.stage.get("/v1/propagation", namespace=NAMESPACE, service=name))["services"][0]

    async def count_nacks(self) -> None:
        """Add up what the routers have refused of this server's."""
        for client in (await self.stage.get("/v1/propagation"))["clients"]:
            self.nacks[client["node"]] += client["nacks"]
            if client["lastNack"]:
                self.stage.violations.append(f"{client['node']} has refused {client['lastNack']}")

    # ---- what is right --------------------------------------------------------------------------------

    def _allowed(self, name: str, number: int) -> set[str]:
        """The addresses that may get requests to this port, in the clusters that have it."""
        if name == "tea":
            return tea_addresses(self._with_port(self.tea, number))
        return {address for cart in self._with_port(self.cart, number) for address in cart.allowed}

    def _expected(self, name: str, number: int) -> set[str]:
        """Those of them that must get some."""
        if name == "tea":
            return self._allowed(name, number)
        return {address for cart in self._with_port(self.cart, number) for address in cart.expected}

    def _with_port(self, services: dict[str, Any], number: int) -> list[Any]:
        joined = [services[cluster] for cluster in self.joined]
        return [own for own in joined if number in {NUMBERS[port_name] for port_name in own.ports}]

    # ---- helpers --------------------------------------------------------------------------------------

    async def _open_port(self, service: str, number: int) -> None:
        self._open[service].append(number)
        for load in self.stage.loads.values():
            await load.open(resource(service, number))
        await self._check_answers(service, time.monotonic())

    async def _close_port(self, service: str, number: int) -> None:
        for load in self.stage.loads.values():
            await load.close(resource(service, number))
        self._open[service].remove(number)

    def _retire(self, addresses: tuple[str, ...]) -> None:
        """Stop a removed backend after a while."""

        async def stop() -> None:
            await asyncio.sleep(_RETIRE_SECONDS)
            await self.stage.backends.stop(addresses)

        task = asyncio.create_task(stop())
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _any(self, services: dict[str, Any]) -> Any:
        return services[self._random.choice(self.joined)]

    def _shuffled(self, *acts: Any) -> list[Any]:
        return self._random.sample(acts, len(acts))
