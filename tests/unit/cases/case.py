"""A case: input as people have it, given to a command, and what it must print."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner, Result

from streams.cli.past.fold import fold_command
from streams.cli.past.translate import translate_command
from streams.wire.records import FOLDED_TABLES

Object = dict[str, Any]
CART = "shop/cart"
NAME = "cart.shop.svc.cluster.local:80"


class Fold(NamedTuple):
    """`facets fold` of objects, or of text. `rows` is what must be in the rows, by table and Service; `services` are
    all that have a frontend row; `message` is a part of what is printed on standard error, or of the error ("": there
    is nothing)."""

    id: str
    source: str
    given: list[Object] | bytes
    rows: Mapping[str, Mapping[str, Any]]
    services: tuple[str, ...] = (CART,)
    message: str = ""
    exit_code: int = 0

    def run(self) -> Any:
        text = self.given if isinstance(self.given, bytes) else lines(self.given)
        result = CliRunner().invoke(fold_command, input=text)
        self._check_messages(result)
        tables = json.loads(result.stdout or "null") or {table: {} for table in FOLDED_TABLES}
        assert sorted(tables["frontend"]) == sorted(self.services)
        return tables

    @property
    def expected(self) -> Any:
        return self.rows

    def _check_messages(self, result: Result) -> None:
        assert (result.exit_code != 0) == (self.exit_code != 0), result.output
        printed = f"{result.stderr}{result.exception or ''}"
        assert self.message in printed if self.message else not printed


class Translate(NamedTuple):
    """`facets translate` of one cluster's objects, or of several clusters', for a client. `resources` are what must be
    printed by type and name: of an endpoint set each `ADDRESS:PORT HEALTH`, of other types a part of the resource."""

    id: str
    source: str
    given: list[Object] | dict[str, list[Object]]
    resources: Mapping[str, Mapping[str, Any]]
    options: tuple[str, ...] = ()

    def run(self, folder: Path) -> Any:
        clusters = {"east": self.given} if isinstance(self.given, list) else self.given
        arguments = [*self.options, "--only", ",".join(self.resources)]
        for cluster, objects in clusters.items():
            (folder / cluster).write_bytes(lines(objects))
            arguments += ["--cluster", f"{cluster}={folder / cluster}"]
        result = CliRunner().invoke(translate_command, arguments)
        assert result.exit_code == 0, result.output
        printed = json.loads(result.stdout)
        named = {kind: {_name(message): message for message in messages} for kind, messages in printed.items()}
        if "eds" in named:
            named["eds"] = {name: endpoints(message) for name, message in named["eds"].items()}
        for kind, messages in named.items():
            assert sorted(messages) == sorted(self.resources[kind])
        return named

    @property
    def expected(self) -> Any:
        return self.resources


Case = Fold | Translate


def holds(expected: Any, actual: Any) -> bool:
    """Whether all that is expected is there; of a list, all elements and no more."""
    if isinstance(expected, Mapping):
        return isinstance(actual, Mapping) and all(
            name in actual and holds(value, actual[name]) for name, value in expected.items()
        )
    if isinstance(expected, list):
        return isinstance(actual, list) and len(actual) == len(expected) and all(map(holds, expected, actual))
    return bool(expected == actual)


def endpoints(assignment: Object) -> list[str]:
    """The endpoints of a ClusterLoadAssignment: `ADDRESS:PORT HEALTH`, those of the first priority first."""
    localities = sorted(assignment.get("endpoints", ()), key=lambda locality: locality.get("priority", 0))
    return [
        f"{_address(entry['endpoint'])} {entry['health_status']}"
        for locality in localities
        for entry in locality["lb_endpoints"]
    ]


def _address(endpoint: Object) -> str:
    addresses = [endpoint["address"], *(other["address"] for other in endpoint.get("additional_addresses", ()))]
    sockets = [address["socket_address"] for address in addresses]
    return "+".join(
        f"{'udp/' if socket.get('protocol') == 'UDP' else ''}{socket['address']}:{socket['port_value']}"
        for socket in sockets
    )


def _name(message: Object) -> str:
    return str(message.get("cluster_name") or message["name"])


def lines(objects: Iterable[Object]) -> bytes:
    """One JSON document a line."""
    return "\n".join(map(json.dumps, objects)).encode()


# ---- objects --------------------------------------------------------------------------------------------


def service(name: str = "cart", *, namespace: str = "shop", **spec: Any) -> Object:
    """A Service with port 80 (web). A field that is `...` is left out."""
    ip = spec.pop("ip", "10.96.40.7")
    base = {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ports": [port("web", 80)], **spec}
    kept = {field: value for field, value in base.items() if value is not ...}
    return {"apiVersion": "v1", "kind": "Service", "metadata": meta(name, namespace), "spec": kept}


def endpoint_slice(*of: Object, name: str = "cart-a", owner: str = "cart", **fields: Any) -> Object:
    """A slice of the Service, on port 8080 (web); `version` is its resourceVersion."""
    namespace, version = fields.pop("namespace", "shop"), fields.pop("version", 1000)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**meta(name, namespace, version), "labels": {"kubernetes.io/service-name": owner}},
        "addressType": "IPv4",
        "ports": [port("web", 8080)],
        "endpoints": list(of),
        **fields,
    }


def legacy(*subsets: Object, name: str = "cart", namespace: str = "shop") -> Object:
    """Legacy Endpoints."""
    return {"apiVersion": "v1", "kind": "Endpoints", "metadata": meta(name, namespace), "subsets": list(subsets)}


def endpoint(address: str, **fields: Any) -> Object:
    """A ready endpoint of an EndpointSlice, of the Pod `pod` if one is named."""
    pod = fields.pop("pod", None)
    target = {"targetRef": {"kind": "Pod", "namespace": "shop", "name": pod, "uid": f"uid-{pod}"}} if pod else {}
    return {"addresses": [address], "conditions": {"ready": True}, **target, **fields}


DRAINING = {"ready": False, "serving": True, "terminating": True}


def port(name: str, number: int | None, protocol: str | None = "TCP", **more: Any) -> Object:
    """A port of a Service or a slice."""
    return {"name": name, "port": number, "protocol": protocol, **more}


def meta(name: str, namespace: str = "shop", version: int = 1000) -> Object:
    """An object's metadata."""
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{namespace}-{name}",
        "resourceVersion": str(version),
        "creationTimestamp": "2026-03-01T08:00:00Z",
    }


def event(kind: str, item: Object, version: int = 0) -> Object:
    """A watch event."""
    versioned = {"resourceVersion": str(version)} if version else {}
    return {"type": kind, "object": {**item, "metadata": {**item["metadata"], **versioned}}}


def without_type(item: Object) -> Object:
    """The object as in a typed list, which alone has the kind and the apiVersion."""
    return {field: value for field, value in item.items() if field not in {"kind", "apiVersion"}}


def typed_list(kind: str, version: str, *items: Object) -> Object:
    """A list as an API server answers it."""
    return {"kind": kind, "apiVersion": version, "metadata": {"resourceVersion": "1200"}, "items": list(items)}
