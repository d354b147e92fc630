"""The routing table on real parts: Gateway API's own CRDs on a real control plane, installed, used and removed while
`facets watch` runs; what `facets get routing` prints is compared with what must follow from the objects."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.exit_codes import ExitCode
from streams.kafka.admin import ensure
from tests.support.controlplane import ControlPlane
from tests.support.controlplane.api import ApiError
from tests.support.facets_processes import DEADLINE, Facets, free_port
from tests.support.routes import (
    GROUP,
    Object,
    annotated,
    by_cookie,
    choices,
    gateway,
    grant,
    policy,
    route,
    rule,
    to_gateway,
    to_service,
)

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
PLURALS = {
    "Gateway": "gateways",
    "HTTPRoute": "httproutes",
    "GRPCRoute": "grpcroutes",
    "TCPRoute": "tcproutes",
    "ReferenceGrant": "referencegrants",
    "XBackendTrafficPolicy": "xbackendtrafficpolicies",
}
SHOP, OTHER = "routed", "routed-elsewhere"


class Cluster:
    """Objects in a real API server, and what the tables say of them."""

    def __init__(self, plane: ControlPlane, running: Facets, crds: Path) -> None:
        self.plane = plane
        self.running = running
        self.crds = crds

    def install(self, channel: str) -> None:
        """Install (or upgrade to) a channel's CRDs."""
        for file in sorted((self.crds / channel).glob("gateway.networking.*.yaml")):
            for crd in yaml.safe_load_all(file.read_text()):
                if crd["kind"] == "CustomResourceDefinition" and crd["spec"]["names"]["kind"] in PLURALS:
                    self._apply(f"{CRDS}/{crd['metadata']['name']}", CRDS, crd)

    def uninstall(self) -> None:
        """Remove all of the Gateway API's CRDs, and with them its objects."""
        for crd in self.plane.api.get(CRDS)["items"]:
            if crd["spec"]["group"].startswith("gateway.networking."):
                self.plane.api.delete(f"{CRDS}/{crd['metadata']['name']}")

    def put(self, *items: Object) -> None:
        """Make or change objects."""
        for item in items:
            collection = self._collection(item)
            self._apply(f"{collection}/{item['metadata']['name']}", collection, item)

    def drop(self, *items: Object) -> None:
        """Delete objects."""
        for item in items:
            self.plane.api.delete(f"{self._collection(item)}/{item['metadata']['name']}")

    def rows(self, namespace: str = SHOP, cluster: str = "east") -> dict[str, Any]:
        """What `facets get routing -o json` prints, by Service."""
        command = [sys.executable, "-m", "streams.cli", "get", "routing", "-n", namespace, "-o", "json"]
        command += ["--cluster", cluster]
        found = subprocess.run(
            [*command, "--bootstrap-servers", self.running.bootstrap],
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
        # A namespace that has just been made is not known at once.
        assert found.returncode in {ExitCode.OK, ExitCode.UNKNOWN_NAME}, found.stderr.decode()
        return {row["name"]: row for row in json.loads(found.stdout)["items"]}

    def until(self, expected: dict[str, Any], namespace: str = SHOP) -> dict[str, Any]:
        """Wait until the Services' routing is this: (gateway, its reason, mesh, its reason). The rows."""
        return self.wait(
            lambda rows: {name: said(rows[name]) for name in expected if name in rows} == expected, namespace
        )

    def wait(
        self, right: Callable[[dict[str, Any]], bool], namespace: str = SHOP, cluster: str = "east"
    ) -> dict[str, Any]:
        """Wait until the rows are right."""
        deadline = time.monotonic() + DEADLINE
        while not right(rows := self.rows(namespace, cluster)):
            if time.monotonic() > deadline:
                shown = {name: said(row) for name, row in rows.items()}
                raise AssertionError(f"not within {DEADLINE} s: {shown}\n{json.dumps(rows)}\n{self.running.logs()}")
        return rows

    def _collection(self, item: Object) -> str:
        meta, kind, version = item["metadata"], item["kind"], item.get("apiVersion", "v1")
        if kind == "Namespace":
            return "/api/v1/namespaces"
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        return f"{root}/namespaces/{meta['namespace']}/{PLURALS.get(kind) or kind.lower() + 's'}"

    def _apply(self, path: str, collection: str, item: Object) -> None:
        body = {**item, "metadata": {k: v for k, v in item["metadata"].items() if k not in {"uid", "resourceVersion"}}}
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                made = self._write(path, collection, body)
                # A schema that was replaced just now may still prune what it doesn't know.
                if ("sessionPersistence" in json.dumps(body)) == ("sessionPersistence" in json.dumps(made)):
                    return
            except ApiError as error:
                # A CRD that was made just now is not served yet, one that is going is not gone yet.
                if error.code not in {404, 405, 409}:
                    raise
            assert time.monotonic() < deadline, f"{path} could not be written in {DEADLINE} s"
            time.sleep(0.1)

    def _write(self, path: str, collection: str, body: Object) -> Any:
        try:
            version = self.plane.api.get(path)["metadata"]["resourceVersion"]
        except ApiError as error:
            if error.code != 404:
                raise
            return self.plane.api.post(collection, body)
        return self.plane.api.put(path, {**body, "metadata": {**body["metadata"], "resourceVersion": version}})


def said(row: Any) -> tuple[str, str, str, str]:
    """The two decisions, with their reasons."""
    gateway, mesh = row["gateway"], row["mesh"]
    return gateway["decision"], gateway["reason"], mesh["decision"], mesh["reason"]


def service(name: str, namespace: str = SHOP, **spec: Any) -> Object:
    """A Service on port 80."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"name": "http", "port": 80}], **spec},
    }


def namespace(name: str, **annotations: str) -> Object:
    """A Namespace with its operator's choices."""
    meta = {"name": name, "labels": {"routed": "yes"}, "annotations": choices(**annotations)}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": meta}


@pytest.fixture
def cluster(facets: Facets) -> Iterator[Cluster]:
    """A control plane of its own, for CRDs are the whole cluster's; watched by an account that may only read."""
    script = Path(__file__).parent / "gateway-api.sh"
    crds = Path(subprocess.run(["bash", str(script)], stdout=subprocess.PIPE, text=True, check=True).stdout.strip())
    ensure(facets.bootstrap)
    with ControlPlane("routed") as plane:
        made = Cluster(plane, facets, crds)
        made.put(namespace(SHOP), namespace(OTHER))
        facets.start("watch", "watch", "--kubeconfig", str(plane.readonly), "--cluster", "east")
        facets.start("work", "work", "--http-port", free_port(), "--data-dir", str(facets.folder / "worker"))
        yield made


NONE = ("endpoint", "Default", "endpoint", "Default")
STICKY = ("endpoint", "SessionPersistence")


def test_a_right_that_is_missing_is_a_warning_and_no_stop(cluster: Cluster) -> None:
    """An account that may read what the other tables need, and nothing of what routing adds."""
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    read = {"verbs": ["get", "list", "watch"]}
    rules = [
        {"apiGroups": [""], "resources": ["services", "endpoints"], **read},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], **read},
    ]
    api = cluster.plane.api
    api.post(f"{rbac}/clusterroles", {"metadata": {"name": "few"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "few"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "norights"}
    api.post(f"{rbac}/clusterrolebindings", {"metadata": {"name": "few"}, "roleRef": role, "subjects": [user]})
    cluster.install("standard")
    cluster.put(namespace(SHOP, mesh="service"), service("cart"), gateway("edge", namespace=SHOP))
    cluster.put(route("shop", [to_gateway()], [rule("cart")], namespace=SHOP))
    running = cluster.running
    running.start("few", "watch", "--kubeconfig", str(cluster.plane.norights), "--cluster", "few")
    rows = cluster.wait(lambda rows: "cart" in rows, cluster="few")
    assert said(rows["cart"]) == NONE
    names = ["namespaces", *(f"{PLURALS[kind]}.{GROUP}" for kind in ("Gateway", "HTTPRoute", "ReferenceGrant"))]
    frontier = rows["cart"]["asOf"]["frontier"]
    assert {name: frontier[name] for name in names} == dict.fromkeys(names, "")
    log = (running.folder / "few.log").read_text()
    for name in names:
        assert f"does not let this account list {name}" in log or f"does not let this account watch {name}" in log
    assert running.running["few"].poll() is None
    # With the right to it, it is followed without a restart.
    api.patch(f"{rbac}/clusterroles/few", {"rules": [*rules, {"apiGroups": [""], "resources": ["namespaces"], **read}]})
    rows = cluster.wait(lambda rows: said(rows["cart"])[2:] == ("service", "NamespaceAnnotation"), cluster="few")


def test_routing_follows_the_gateway_api_from_its_installation_to_its_removal(cluster: Cluster) -> None:
    # Without Gateway API: what can't be, what is asked, what the operator sets.
    cluster.put(
        service("cart"),
        service("headless", clusterIP="None"),
        service("named", type="ExternalName", externalName="cart.example.com"),
        service("affine", sessionAffinity="ClientIP"),
        annotated(service("chosen"), gateway="service"),
    )
    cluster.until(
        {
            "cart": NONE,
            "headless": ("endpoint", "Headless", "endpoint", "Headless"),
            "named": ("dns", "ExternalName", "dns", "ExternalName"),
            "affine": ("endpoint", "SessionAffinity", "endpoint", "SessionAffinity"),
            "chosen": ("service", "ServiceAnnotation", "endpoint", "Default"),
        }
    )
    cluster.put(namespace(SHOP, gateway="service", mesh="service"))
    by_namespace = ("service", "NamespaceAnnotation", "service", "NamespaceAnnotation")
    rows = cluster.until({"cart": by_namespace, "chosen": ("service", "ServiceAnnotation", *by_namespace[2:])})
    assert rows["cart"]["mesh"]["because"] == [{"kind": "Namespace", "namespace": "", "name": SHOP}]

    # It is installed, while the watcher runs, in its standard channel.
    cluster.install("standard")
    cluster.put(gateway("edge", namespace=SHOP))
    ask = [rule("cart", "gone"), rule({"name": "far", "namespace": OTHER, "port": 80}, path="/far")]
    shop = route("shop", [to_gateway()], ask, namespace=SHOP)
    cluster.put(service("far", OTHER), shop)
    rows = cluster.wait(lambda rows: "gone" in rows and len(rows["cart"]["gateway"]["rules"]) == 1)
    assert said(rows["cart"]) == by_namespace
    assert said(rows["gone"])[:2] == ("none", "ServiceNotFound")
    assert rows["gone"]["gateway"]["because"] == [{"kind": "HTTPRoute", "namespace": SHOP, "name": "shop"}]
    elsewhere = cluster.wait(lambda rows: len(rows["far"]["routes"]) == 1, OTHER)
    assert [each["reason"] for each in elsewhere["far"]["gateway"]["rules"]] == ["RefNotPermitted"]

    # A grant, and the Gateway's listeners, change what a route comes to.
    allowed = grant("from-shop", [("HTTPRoute", SHOP)], ["far"], namespace=OTHER)
    cluster.put(allowed)
    cluster.wait(lambda rows: [each["reason"] for each in rows["far"]["gateway"]["rules"]] == ["Default"], OTHER)
    cluster.drop(allowed)
    cluster.wait(
        lambda rows: [each["reason"] for each in rows["far"]["gateway"]["rules"]] == ["RefNotPermitted"], OTHER
    )
    chosen_by_label = {"from": "Selector", "selector": {"matchLabels": {"routed": "no"}}}
    picky = {"name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": chosen_by_label}}
    cluster.put(gateway("edge", picky, namespace=SHOP))
    rows = cluster.wait(lambda rows: not rows["cart"]["gateway"]["rules"])
    assert rows["cart"]["routes"][0]["parents"][0]["reason"] == "NotAllowedByListeners"
    labelled = namespace(SHOP, gateway="service", mesh="service")
    labelled["metadata"]["labels"]["routed"] = "no"
    cluster.put(labelled)
    cluster.wait(lambda rows: len(rows["cart"]["gateway"]["rules"]) == 1)

    # The experimental channel, over it: session persistence, TCP routes, policies.
    cluster.install("experimental")
    cluster.put(
        route(
            "shop", [to_gateway()], [rule("cart", persistence=by_cookie("a")), rule("gone", path="/g")], namespace=SHOP
        )
    )
    rows = cluster.until({"cart": (*STICKY, "service", "NamespaceAnnotation")})
    assert rows["cart"]["gateway"]["sessionPersistence"]["sessionName"] == "a"
    cluster.put(
        policy("sticky", "chosen", persistence=by_cookie("p"), namespace=SHOP),
        route(
            "mesh",
            [to_service("cart")],
            [{"backendRefs": [{"name": "cart", "port": 80}], "sessionPersistence": by_cookie("m")}],
            "GRPCRoute",
            namespace=SHOP,
        ),
        route("tcp", [to_gateway()], [{"backendRefs": [{"name": "affine", "port": 80}]}], "TCPRoute", namespace=SHOP),
    )
    rows = cluster.until(
        {
            "cart": (*STICKY, *STICKY),
            "chosen": ("endpoint", "BackendTrafficPolicy", "endpoint", "BackendTrafficPolicy"),
        }
    )
    assert rows["cart"]["mesh"]["because"] == [{"kind": "GRPCRoute", "namespace": SHOP, "name": "mesh"}]
    cluster.wait(lambda rows: [each["kind"] for each in rows["affine"]["routes"]] == ["TCPRoute"])

    # A route that names a Service no longer is gone from its row; and so is one that is deleted.
    cluster.put(route("shop", [to_gateway()], [rule("headless", persistence=by_cookie("a"))], namespace=SHOP))
    rows = cluster.until({"cart": ("service", "NamespaceAnnotation", *STICKY)})
    assert "gone" not in rows
    assert [each["name"] for each in rows["headless"]["routes"]] == ["shop"]
    cluster.drop(shop)
    cluster.wait(lambda rows: rows["headless"]["routes"] == [])

    # All of it is removed: the rows are as they were without it.
    cluster.uninstall()
    rows = cluster.until({"cart": by_namespace, "chosen": ("service", "ServiceAnnotation", *by_namespace[2:])})
    assert all(row["routes"] == row["policies"] == [] for row in rows.values())
    cluster.install("experimental")
    cluster.put(route("mesh", [to_service("cart")], [rule("cart", persistence=by_cookie("m"))], namespace=SHOP))
    cluster.until({"cart": ("service", "NamespaceAnnotation", *STICKY)})
