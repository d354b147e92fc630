"""The API server as a model: every object's whole history, and controllers that change the objects.

One resourceVersion counts all writes of a cluster, as etcd's revision does. Readers may be behind (`lag`), and what is
older than `compacted` can't be watched from any more.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

NAMESPACE = "shop"
KINDS = ("Service", "EndpointSlice", "Endpoints")
ROUTE_KINDS = ("HTTPRoute", "GRPCRoute")
ROUTING_KINDS = ("Namespace", "Gateway", "ReferenceGrant", *ROUTE_KINDS, "XBackendTrafficPolicy")
"""What is served beside them where the cluster has the Gateway API."""

EXPORT_KINDS = ("ServiceExport", "ClusterProperty")
"""What is served where the cluster has the Multi-Cluster Services API."""

LABEL = "kubernetes.io/service-name"
ODD_ADDRESS = "10.1.0.0/24"
"""An address that can't be read: it costs its endpoint alone."""

PARTLY = 7
"""One in so many of the slices that are made anew has one."""

PORTS: tuple[list[dict[str, Any]], ...] = (
    [{"name": "http", "port": 8080, "protocol": "TCP"}],
    [{"name": "http", "port": 8080}, {"name": "admin", "port": 9090, "appProtocol": "kubernetes.io/h2c"}],
    [{"name": "admin", "port": 9090, "appProtocol": "kubernetes.io/h2c"}, {"name": "http", "port": 8080}],
    [{"port": None}],
)

OVERLAPPING: tuple[list[dict[str, Any]], ...] = (
    [{"name": "http", "port": 8080}, {"name": "debug", "port": 6060}],
    [{"name": "admin", "port": 9090}],
    [{"name": "http", "port": 8081}, {"name": "admin", "port": 9090, "appProtocol": "http"}],
)
"""Other ports of the same endpoints: some in common with those above, some with another number or appProtocol."""

Object = dict[str, Any]


class ApiServer:
    """The objects of one cluster with their history, by kind and name: `NAMESPACE/NAME`, or the name alone for what is
    in the namespace of the Services, or in none."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self.revision = 10
        self.compacted = 0
        self.down = False
        kinds = (*KINDS, *ROUTING_KINDS, *EXPORT_KINDS)
        self.history: dict[str, dict[str, list[tuple[int, Object | None]]]] = {kind: {} for kind in kinds}
        self.log: dict[str, list[tuple[int, str, Object]]] = {kind: [] for kind in kinds}
        self._uids = 0

    def uid(self) -> str:
        """A uid never given before."""
        self._uids += 1
        return f"{self.cluster}-{self._uids:06d}"

    def write(self, kind: str, name: str, body: Object | None) -> None:
        """Create or update (`body` without metadata.resourceVersion), or delete with None."""
        before = self.get(kind, name)
        if before is None and body is None:
            return
        self.revision += 1
        version = str(self.revision)
        served = dict(body if body is not None else before or {})
        meta = dict(served.get("metadata") or {})
        namespace, _, bare = name.rpartition("/")
        meta |= {"name": bare, "resourceVersion": version}
        if kind not in {"Namespace", "ClusterProperty"}:
            meta["namespace"] = namespace or NAMESPACE
        meta["uid"] = before["metadata"]["uid"] if before else self.uid()
        served["metadata"] = meta
        self.history[kind].setdefault(name, []).append((self.revision, None if body is None else served))
        operation = "DELETED" if body is None else "MODIFIED" if before else "ADDED"
        self.log[kind].append((self.revision, operation, served))

    def get(self, kind: str, name: str, revision: int | None = None) -> Object | None:
        """The object as it was at a revision (now, if none is given)."""
        versions = self.history[kind].get(name)
        if not versions:
            return None
        if revision is None:
            return versions[-1][1]
        at = bisect_right(versions, revision, key=lambda each: each[0])
        return versions[at - 1][1] if at else None

    def versions(self, kind: str, name: str, after: int, upto: int) -> list[tuple[int, Object | None]]:
        """What an object became within these revisions."""
        return [each for each in self.history[kind].get(name, ()) if after < each[0] <= upto]

    def changes(self, kind: str, upto: int) -> int:
        """How often objects of a kind were written up to a revision."""
        return bisect_right(self.log[kind], upto, key=lambda each: each[0])

    def listed(self, kind: str, revision: int | None = None) -> list[Object]:
        """All objects of a kind at a revision, ordered by name."""
        found = (self.get(kind, name, revision) for name in sorted(self.history[kind]))
        return [each for each in found if each is not None]

    def events(self, kind: str, after: int, upto: int) -> list[tuple[int, str, Object]]:
        """The watch events after one revision, up to another."""
        log = self.log[kind]
        start = bisect_right(log, after, key=lambda each: each[0])
        end = bisect_right(log, upto, key=lambda each: each[0])
        return log[start:end]


def is_bad(item: Object | None) -> bool:
    """Whether the model made the object such that no facet can be read from it."""
    return item is not None and bool(item.get("simulated-bad"))


def is_odd(item: Object) -> bool:
    """Whether the model made a part of the object such that it can't be read."""
    return any(each["addresses"] == [ODD_ADDRESS] for each in item.get("endpoints") or ())


def choices_of(rng: Random) -> dict[str, str]:
    """The annotations by which an operator chooses, or not."""
    return {
        annotation: rng.choice(("service", "endpoint"))
        for annotation in ("service-facets.io/gateway-routing", "service-facets.io/mesh-routing")
        if rng.random() < 0.25
    }


class Workload:
    """What users and controllers do to one cluster. Some changes take two writes, with anything in between. `ports` is
    chance of its own for slices and subsets that share an address, but not all of its ports; `routing` for what of a
    Service bears on its routing alone: without it, nothing does."""

    def __init__(
        self,
        rng: Random,
        server: ApiServer,
        services: int,
        note: Callable[[str], None],
        *,
        bad: bool,
        ports: Random,
        routing: Random | None = None,
    ) -> None:
        self.rng = rng
        self._ports = ports
        self.server = server
        self.names = [f"s{i}" for i in range(services)]
        self._note = note
        self._routing = routing
        self._bad = bad
        self._pods = 0
        self._pending: list[Callable[[], None]] = []
        self._actions: list[tuple[int, Callable[[], None]]] = [
            (6, self._set_service),
            (3, self._delete_service),
            (14, self._set_slice),
            (5, self._drop_slice),
            (10, self._move),
            (8, self._condition),
            (5, self._duplicate),
            (4, self._relabel),
            (4, self._recycle),
            (6, self._legacy),
            (3, self._touch),
        ]
        if bad:
            self._actions.append((8, self._spoil))

    def start(self) -> None:
        """The objects that are there before anybody looks."""
        for name in self.names:
            if self.rng.random() < 0.8:
                self._set_service(name)
                for index in range(self.rng.randrange(3)):
                    self._set_slice(f"{name}-{index}", name)

    def act(self) -> None:
        """One write, or none if there is nothing to do."""
        if self._pending and self.rng.random() < 0.7:
            self._pending.pop(0)()
            return
        weights = [weight for weight, _ in self._actions]
        self.rng.choices(self._actions, weights)[0][1]()

    def heal(self) -> None:
        """Finish what was begun; in half of the runs nothing bad remains."""
        while self._pending:
            self._pending.pop(0)()
        if self.rng.random() < 0.5:
            for kind in KINDS:
                for item in self.server.listed(kind):
                    if is_bad(item):
                        self.server.write(kind, item["metadata"]["name"], None)

    # ---- Services ------------------------------------------------------------------------------------

    def _set_service(self, name: str = "") -> None:
        rng = self.rng
        name = name or rng.choice(self.names)
        spec: Object = {"ports": [{"name": "http", "port": rng.choice((80, 443)), "targetPort": "http"}]}
        kind = rng.randrange(8)
        if kind == 0:
            spec |= {"type": "ExternalName", "externalName": "example.org", "ports": None}
        elif kind == 1:
            spec |= {"clusterIP": "None", "clusterIPs": ["None"], "selector": {"app": name}}
        else:
            address = f"10.96.0.{rng.randrange(1, 9)}"
            spec |= {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address]}
            spec["selector"] = {"app": name} if kind > 2 else None
        if rng.random() < 0.3:
            spec["trafficDistribution"] = "PreferClose"
        meta: Object = {}
        if self._routing is not None:
            spec["sessionAffinity"] = self._routing.choice(("None", "None", "ClientIP"))
            meta["annotations"] = choices_of(self._routing)
        self.server.write("Service", name, {"metadata": meta, "spec": spec})

    def _delete_service(self) -> None:
        name = self.rng.choice(self.names)
        order = [lambda: self.server.write("Service", name, None)]
        order += [
            lambda each=each: self.server.write("EndpointSlice", each, None)  # type: ignore[misc]
            for each in self._slices_of(name)
            if self.rng.random() < 0.7
        ]
        if self.rng.random() < 0.5:
            self.rng.shuffle(order)
        if self.rng.random() < 0.5:
            # Made again at once, under the same name: another uid.
            order.append(lambda: self._set_service(name))
            self._note("Service made again")
        self._note("Service deleted")
        order.pop(0)()
        self._pending += order

    def _touch(self) -> None:
        """A write that changes nothing that a facet says."""
        kind = self.rng.choice(KINDS)
        for item in self.server.listed(kind)[:1]:
            annotations = {**item["metadata"].get("annotations", {}), "touched": str(self.server.revision)}
            meta = {**item["metadata"], "annotations": annotations}
            self.server.write(kind, meta["name"], {**item, "metadata": meta})

    # ---- EndpointSlices ------------------------------------------------------------------------------

    def _slices_of(self, service: str) -> list[str]:
        return [
            item["metadata"]["name"]
            for item in self.server.listed("EndpointSlice")
            if item["metadata"].get("labels", {}).get(LABEL) == service
        ]

    def _endpoint(self, family: str) -> Object:
        rng = self.rng
        number = rng.randrange(1, 7)
        address = {"IPv4": f"10.1.0.{number}", "IPv6": f"fd00::{number}", "FQDN": f"h{number}.example.org"}[family]
        conditions: Object = {}
        if rng.random() < 0.7:
            conditions["ready"] = rng.random() < 0.7
        if rng.random() < 0.4:
            conditions["serving"] = rng.random() < 0.7
        if rng.random() < 0.3:
            conditions["terminating"] = rng.random() < 0.5
        endpoint: Object = {"addresses": [address], "conditions": conditions}
        if rng.random() < 0.8:
            pod = number if rng.random() < 0.7 else self._new_pod()
            endpoint["targetRef"] = {"kind": "Pod", "namespace": NAMESPACE, "name": f"pod-{pod}", "uid": f"pod-{pod}"}
        chance = rng.random()
        if chance < 0.3:
            endpoint |= {"zone": "z1", "nodeName": "n1", "hints": {"forZones": [{"name": "z1"}]}}
        # Of the same draw, so that the seeds that once showed a fault still do.
        if not 0.2 < chance < 0.6:
            endpoint["hostname"] = "web-0" if chance < 0.8 else "web-1"
        return endpoint

    def _new_pod(self) -> int:
        self._pods += 1
        return 100 + self._pods

    def _endpoints(self, family: str) -> list[Object]:
        made = [self._endpoint(family) for _ in range(self.rng.randrange(5))]
        return list({each["addresses"][0]: each for each in made}.values())

    def _set_slice(self, name: str = "", service: str = "") -> None:
        rng = self.rng
        service = service or rng.choice(self.names)
        name = name or f"{service}-{rng.randrange(4)}"
        before = self.server.get("EndpointSlice", name)
        if before is not None:
            service = before["metadata"].get("labels", {}).get(LABEL, service)
        self._put(name, service, rng.choice(("IPv4", "IPv4", "IPv4", "IPv6", "FQDN")), None, None)

    def _put(
        self, name: str, service: str, family: str, ports: list[Object] | None, endpoints: list[Object] | None
    ) -> None:
        body = {
            "metadata": {"labels": {LABEL: service} if service else {}},
            "addressType": family,
            "ports": self.rng.choices(PORTS, (6, 2, 2, 1))[0] if ports is None else ports,
            "endpoints": self._endpoints(family) if endpoints is None else endpoints,
        }
        if self._bad and endpoints is None and self.server.revision % PARTLY == 0:
            self._note("slice that can be read in part")
            body["endpoints"] = [{"addresses": [ODD_ADDRESS], "conditions": {}}, *body["endpoints"]]
        self.server.write("EndpointSlice", name, body)

    def _drop_slice(self) -> None:
        if names := [item["metadata"]["name"] for item in self.server.listed("EndpointSlice")]:
            self.server.write("EndpointSlice", self.rng.choice(names), None)

    def _good(self) -> Iterator[Object]:
        return (each for each in self.server.listed("EndpointSlice") if not is_bad(each))

    def _pair(self) -> tuple[Object, str, str] | None:
        """A slice with endpoints, and the names of its Service and of another slice of it."""
        sources = [each for each in self._good() if each["endpoints"] and each["metadata"].get("labels", {}).get(LABEL)]
        if not sources:
            return None
        source = self.rng.choice(sources)
        service = source["metadata"]["labels"][LABEL]
        others = [each for each in self._slices_of(service) if each != source["metadata"]["name"]]
        others += [name for i in range(4) if self.server.get("EndpointSlice", name := f"{service}-{i}") is None]
        return (source, service, self.rng.choice(others)) if others else None

    def _move(self) -> None:
        """An endpoint goes from one slice to another, in either order."""
        if (found := self._pair()) is None:
            return
        source, service, other = found
        endpoint = self.rng.choice(source["endpoints"])

        def put() -> None:
            self._with(other, service, source, endpoint)

        def take() -> None:
            now = self.server.get("EndpointSlice", source["metadata"]["name"])
            if now is not None and not is_bad(now):
                left = [each for each in now["endpoints"] if each["addresses"] != endpoint["addresses"]]
                self.server.write("EndpointSlice", now["metadata"]["name"], {**now, "endpoints": left})

        first, second = (put, take) if self.rng.random() < 0.5 else (take, put)
        self._note("endpoint moved, added first" if first is put else "endpoint moved, removed first")
        first()
        self._pending.append(second)

    def _with(self, name: str, service: str, like: Object, endpoint: Object) -> None:
        now = self.server.get("EndpointSlice", name)
        if now is None or is_bad(now) or now["addressType"] != like["addressType"] or now["ports"] != like["ports"]:
            label = now["metadata"].get("labels", {}).get(LABEL, service) if now else service
            self._put(name, label, like["addressType"], like["ports"], [endpoint])
            return
        kept = [each for each in now["endpoints"] if each["addresses"] != endpoint["addresses"]]
        self.server.write("EndpointSlice", name, {**now, "endpoints": [*kept, endpoint]})

    def _duplicate(self) -> None:
        """Two slices claim one endpoint: the same Pod in another state, or another Pod with its address."""
        if (found := self._pair()) is None:
            return
        source, service, other = found
        self._note("endpoint claimed twice")
        endpoint = dict(self.rng.choice(source["endpoints"]))
        endpoint["conditions"] = self._endpoint("IPv4")["conditions"]
        if self.rng.random() < 0.5:
            pod = self._new_pod()
            endpoint["targetRef"] = {"kind": "Pod", "name": f"pod-{pod}", "uid": f"pod-{pod}"}
        if self._ports.random() < 0.5:
            # A Service's ports change: the slice with the new ones is there before the old one goes.
            self._note("ports of an address claimed twice")
            source = {**source, "ports": self._ports.choice(OVERLAPPING)}
        self._with(other, service, source, endpoint)

    def _condition(self) -> None:
        for item in self._pick(each for each in self._good() if each["endpoints"]):
            at = self.rng.randrange(len(item["endpoints"]))
            changed = {**item["endpoints"][at], "conditions": self._endpoint("IPv4")["conditions"]}
            endpoints = [*item["endpoints"][:at], changed, *item["endpoints"][at + 1 :]]
            self.server.write("EndpointSlice", item["metadata"]["name"], {**item, "endpoints": endpoints})

    def _pick(self, items: Iterator[Object]) -> list[Object]:
        found = list(items)
        return [self.rng.choice(found)] if found else []

    def _relabel(self) -> None:
        """The label moves to another Service, or goes. (Only odd slices move, only even ones are ever spoiled:
        which Service an unreadable slice bears on is not defined when both happen unseen.)"""
        for item in self._pick(each for each in self._good() if each["metadata"]["name"][-1] in "13"):
            service = self.rng.choice([*self.names, ""])
            self._note("label moved")
            meta = {**item["metadata"], "labels": {LABEL: service} if service else {}}
            self.server.write("EndpointSlice", meta["name"], {**item, "metadata": meta})

    def _recycle(self) -> None:
        """The name of a slice about to go is used for other content: as an update, or deleted and made again."""
        for item in self._pick(self._good()):
            self._note("slice recycled")
            name = item["metadata"]["name"]
            service = item["metadata"].get("labels", {}).get(LABEL, "")
            if name[-1] in "13" and self.rng.random() < 0.5:
                service = self.rng.choice(self.names)
            if self.rng.random() < 0.5:
                self.server.write("EndpointSlice", name, None)
            self._put(name, service, item["addressType"], None, None)

    # ---- the rest ------------------------------------------------------------------------------------

    def _legacy(self) -> None:
        name = self.rng.choice(self.names)
        if self.rng.random() < 0.3:
            self.server.write("Endpoints", name, None)
            return
        numbers = self.rng.sample(range(1, 7), 3)
        made = [{"ip": f"10.1.0.{n}", "targetRef": {"kind": "Pod", "name": f"p{n}", "uid": f"u{n}"}} for n in numbers]
        cut = self.rng.randrange(4)
        subset = {"addresses": made[:cut], "notReadyAddresses": made[cut:], "ports": self.rng.choice(PORTS[:2])}
        subsets = [subset]
        if self._ports.random() < 0.4:
            cut = self._ports.randrange(4)
            ports = self._ports.choice(OVERLAPPING)
            subsets.append({"addresses": made[:cut], "notReadyAddresses": [], "ports": ports})
        self.server.write("Endpoints", name, {"metadata": {}, "subsets": subsets})

    def _spoil(self) -> None:
        """An object that can't be read."""
        kind = self.rng.choices(KINDS, (2, 6, 1))[0]
        name = self.rng.choice(self.names)
        if kind == "EndpointSlice":
            service, name = name, f"{name}-{self.rng.choice((0, 2))}"
            body: Object = {"addressType": "IPv4", "endpoints": [], "ports": [{"port": -1}]}
            body["metadata"] = {"labels": {LABEL: service}}
        elif kind == "Service":
            body = {"metadata": {}, "spec": {"ports": [{"port": 99999999}]}}
        else:
            body = {"metadata": {}, "subsets": 7}
        self._note("bad object")
        self.server.write(kind, name, {**body, "simulated-bad": True})
