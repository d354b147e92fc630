"""What operators and the owners of routes do to one cluster that has the Gateway API.

All Services are in one namespace, the producer's. Gateways, routes and grants are kept so plain that an oracle can be,
too: a Gateway has one listener, each rule has a match of its own, and the two kinds of routes have no hostname in
common.
"""

from collections.abc import Callable
from random import Random

from tests.simulation.side_workload import SideWorkload
from tests.simulation.world import NAMESPACE, ROUTE_KINDS, ROUTING_KINDS, ApiServer, Object, choices_of, is_bad

NAMESPACES = (NAMESPACE, "team", "edge")
GATEWAYS = ("edge/public", f"{NAMESPACE}/local")
LABEL = "exposed"
HOSTNAMES = {"HTTPRoute": "www.example.org", "GRPCRoute": "api.example.org"}

_GROUP = "gateway.networking.k8s.io"
_GRANTS = (f"{NAMESPACE}/first", f"{NAMESPACE}/second")
_POLICIES = (f"{NAMESPACE}/sticky", f"{NAMESPACE}/other")


class GatewayWorkload(SideWorkload):
    """See SideWorkload."""

    def __init__(
        self, rng: Random, server: ApiServer, services: list[str], note: Callable[[str], None], *, bad: bool
    ) -> None:
        super().__init__(rng, server, services, note)
        self.actions = [
            (8, self._set_route),
            (3, self._delete_route),
            (5, self._move_backend),
            (6, self._change_gateway),
            (5, self._change_grant),
            (4, self._change_namespace),
            (3, self._change_policy),
            (1, self._touch),
        ]
        if bad:
            self.actions.append((3, self._spoil))

    def start(self) -> None:
        """What is there before anybody looks."""
        for namespace in NAMESPACES:
            self._set_namespace(namespace)
        for gateway in GATEWAYS:
            if self.rng.random() < 0.8:
                self._set_gateway(gateway)
        self._set_grant(_GRANTS[0])
        for _ in range(self.rng.randrange(4)):
            self._set_route()

    def heal(self) -> None:
        """In half of the runs nothing bad remains."""
        if self.rng.random() < 0.5:
            for kind in ROUTING_KINDS:
                for item in self.server.listed(kind):
                    if is_bad(item):
                        self.server.write(kind, _name(item), None)

    # ---- routes --------------------------------------------------------------------------------------

    def _set_route(self) -> None:
        rng = self.rng
        kind = rng.choice(ROUTE_KINDS)
        namespace, name = rng.choice(NAMESPACES), f"r{rng.randrange(2)}"
        parents: list[Object] = [{"group": "", "kind": "Service", "name": each} for each in self.services]
        parents += [{"name": each.rpartition("/")[2], "namespace": each.rpartition("/")[0]} for each in GATEWAYS]
        weights = [1.0] * len(self.services) + [len(self.services) / 2] * len(GATEWAYS)
        chosen = list({each["name"]: each for each in rng.choices(parents, weights, k=rng.choice((1, 1, 2)))}.values())
        for parent in chosen:
            if parent.get("kind") == "Service":
                parent["namespace"] = NAMESPACE
                if rng.random() < 0.2:
                    parent["port"] = 80
            elif rng.random() < 0.2:
                parent["sectionName"] = rng.choice(("web", "web", "none"))
        rules = [self._rule(kind, namespace, name, index) for index in range(rng.choice((1, 1, 2)))]
        spec = {"parentRefs": chosen, "hostnames": [HOSTNAMES[kind]], "rules": rules}
        self.server.write(kind, f"{namespace}/{name}", self._dated({"metadata": {}, "spec": spec}))
        self._note("route set")

    def _rule(self, kind: str, namespace: str, name: str, index: int) -> Object:
        rng = self.rng
        own = f"{namespace}-{name}-{index}"
        match = {"path": {"value": f"/{own}"}} if kind == "HTTPRoute" else {"method": {"service": own}}
        rule: Object = {"matches": [match], "backendRefs": self._backends(namespace)}
        if rng.random() < 0.5:
            rule["sessionPersistence"] = {"sessionName": f"session-{rng.randrange(3)}"}
        return rule

    def _backends(self, namespace: str) -> list[Object]:
        rng = self.rng
        backends: list[Object] = []
        for service in rng.sample(self.services, min(len(self.services), rng.choice((1, 1, 2)))):
            backend: Object = {"name": service, "port": 80, "weight": rng.choice((0, 1, 1, 1, 2))}
            if namespace != NAMESPACE or rng.random() < 0.3:
                backend["namespace"] = NAMESPACE
            backends.append(backend)
        return backends

    def _delete_route(self) -> None:
        if routes := self._routes():
            kind, item = self.rng.choice(routes)
            self.server.write(kind, _name(item), None)
            self._note("route deleted")

    def _move_backend(self) -> None:
        if routes := [(kind, item) for kind, item in self._routes() if not is_bad(item)]:
            kind, item = self.rng.choice(routes)
            at = self.rng.randrange(len(item["spec"]["rules"]))
            rules = [
                {**rule, "backendRefs": self._backends(item["metadata"]["namespace"])} if index == at else rule
                for index, rule in enumerate(item["spec"]["rules"])
            ]
            self.server.write(kind, _name(item), {**item, "spec": {**item["spec"], "rules": rules}})
            self._note("route's backend moved")

    def _routes(self) -> list[tuple[str, Object]]:
        return [(kind, item) for kind in ROUTE_KINDS for item in self.server.listed(kind)]

    def _dated(self, item: Object) -> Object:
        """With the time of its creation, which the oldest goes before by."""
        item["metadata"]["creationTimestamp"] = f"2026-11-2{self.rng.randrange(4)}T08:00:00Z"
        return item

    # ---- what routes depend on -----------------------------------------------------------------------

    def _change_gateway(self) -> None:
        gateway = self.rng.choice(GATEWAYS)
        if self.server.get("Gateway", gateway) is not None and self.rng.random() < 0.4:
            self.server.write("Gateway", gateway, None)
            self._note("Gateway deleted")
        else:
            self._set_gateway(gateway)
            self._note("Gateway set")

    def _set_gateway(self, gateway: str) -> None:
        rng = self.rng
        source = rng.choice(("", "Same", "All", "All", "Selector", "Selector"))
        allowed: Object = {"namespaces": {"from": source}} if source else {}
        if source == "Selector":
            allowed["namespaces"]["selector"] = {"matchLabels": {LABEL: "yes"}}
        if rng.random() < 0.2:
            allowed["kinds"] = [{"kind": rng.choice(ROUTE_KINDS)}]
        listener: Object = {"name": "web", "port": 80, "protocol": "HTTP"}
        if allowed:
            listener["allowedRoutes"] = allowed
        self.server.write("Gateway", gateway, {"metadata": {}, "spec": {"listeners": [listener]}})

    def _change_grant(self) -> None:
        grant = self.rng.choice(_GRANTS)
        if self.server.get("ReferenceGrant", grant) is not None and self.rng.random() < 0.5:
            self.server.write("ReferenceGrant", grant, None)
            self._note("grant taken back")
        else:
            self._set_grant(grant)
            self._note("grant set")

    def _set_grant(self, grant: str) -> None:
        rng = self.rng
        pairs = [(kind, namespace) for kind in ROUTE_KINDS for namespace in NAMESPACES if namespace != NAMESPACE]
        sources = [
            {"group": _GROUP, "kind": kind, "namespace": namespace}
            for kind, namespace in rng.sample(pairs, rng.randrange(1, 4))
        ]
        target: Object = {"group": "", "kind": "Service"}
        if rng.random() < 0.3:
            target["name"] = rng.choice(self.services)
        self.server.write("ReferenceGrant", grant, {"metadata": {}, "spec": {"from": sources, "to": [target]}})

    def _change_namespace(self) -> None:
        namespace = self.rng.choice(NAMESPACES)
        if self.server.get("Namespace", namespace) is not None and self.rng.random() < 0.15:
            self.server.write("Namespace", namespace, None)
        else:
            self._set_namespace(namespace)
        self._note("Namespace changed")

    def _set_namespace(self, namespace: str) -> None:
        labels = {LABEL: self.rng.choice(("yes", "no"))} if self.rng.random() < 0.8 else {}
        meta = {"labels": labels, "annotations": choices_of(self.rng)}
        self.server.write("Namespace", namespace, {"metadata": meta})

    def _change_policy(self) -> None:
        policy = self.rng.choice(_POLICIES)
        if self.server.get("XBackendTrafficPolicy", policy) is not None and self.rng.random() < 0.4:
            self.server.write("XBackendTrafficPolicy", policy, None)
            return
        targets = self.rng.sample(self.services, min(len(self.services), self.rng.choice((1, 1, 2))))
        spec: Object = {"targetRefs": [{"group": "", "kind": "Service", "name": each} for each in targets]}
        if self.rng.random() < 0.7:
            spec["sessionPersistence"] = {"sessionName": f"session-{self.rng.randrange(3)}"}
        self.server.write("XBackendTrafficPolicy", policy, self._dated({"metadata": {}, "spec": spec}))
        self._note("traffic policy set")

    # ---- the rest ------------------------------------------------------------------------------------

    def _touch(self) -> None:
        """A write that changes nothing that a facet says."""
        kind = self.rng.choice(ROUTING_KINDS)
        for item in self.server.listed(kind)[:1]:
            self.server.write(kind, _name(item), {**item, "status": {"touched": self.server.revision}})

    def _spoil(self) -> None:
        """An object becomes one that can't be read, though what it names can be told."""
        kind = self.rng.choice((*ROUTE_KINDS, *ROUTE_KINDS, "Gateway", "ReferenceGrant", "XBackendTrafficPolicy"))
        if good := [item for item in self.server.listed(kind) if not is_bad(item)]:
            item = self.rng.choice(good)
            wrong = {
                "Gateway": {"listeners": 7},
                "ReferenceGrant": {"from": 7},
                "XBackendTrafficPolicy": {"sessionPersistence": 7},
            }.get(kind, {"hostnames": 7})
            body = {**item, "spec": {**item["spec"], **wrong}, "simulated-bad": True}
            self.server.write(kind, _name(item), body)
            self._note("bad object of the Gateway API")


def _name(item: Object) -> str:
    meta = item["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if "namespace" in meta else str(meta["name"])
