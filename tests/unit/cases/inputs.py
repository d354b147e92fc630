"""Objects in every form in which people have them, and what is no object."""

import gzip
import json
from typing import Any

import yaml

from streams.wire.records import FOLDED_TABLES
from tests.unit.cases.case import (
    CART,
    Fold,
    Object,
    endpoint,
    endpoint_slice,
    event,
    lines,
    meta,
    service,
    typed_list,
    without_type,
)

CART_SERVICE, TILL = service(), service("till", ip="10.96.40.9")
CART_SLICE = endpoint_slice(endpoint("10.7.1.4"))
BOTH = (CART, "shop/till")
READY = {"backend": {CART: {"state": "ready", "endpoints": [{"address": "10.7.1.4"}]}}}
EMPTY = {"backend": {CART: {"state": "empty", "reason": "NoEndpointSlices"}}}
NOTHING: dict[str, Any] = {table: {} for table in FOLDED_TABLES}
_INDENTED, _MARK = 4, "\ufeff".encode()


def _json(item: Any, indent: int | None = None) -> bytes:
    return json.dumps(item, indent=indent).encode()


def _yaml(item: Any) -> bytes:
    return yaml.safe_dump(item).encode()


def _v1beta1(**fields: Any) -> Object:
    topology = {"topology.kubernetes.io/zone": "z-a", "kubernetes.io/hostname": "blue"}
    item = endpoint_slice(endpoint("10.7.1.4", topology=topology), **fields)
    return {**item, "apiVersion": "discovery.k8s.io/v1beta1"}


_PLACED = {"backend": {CART: {"endpoints": [{"address": "10.7.1.4", "zone": "z-a", "node": "blue"}]}}}
_KNATIVE = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": meta("pi"), "spec": {"template": {}}}
_LINKERD = {
    "apiVersion": "policy.linkerd.io/v1beta3",
    "kind": "HTTPRoute",
    "metadata": meta("odd"),
    "spec": {
        "parentRefs": [{"group": "", "kind": "Service", "name": "cart"}],
        "rules": [{"backendRefs": [{"name": "cart", "port": 80}], "sessionPersistence": {"sessionName": "c"}}],
    },
}
_STATUS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
_WITHOUT_NAMESPACE: Object = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "cart"}, "spec": {"ports": [{"port": 80}]},
}  # fmt: skip

CASES = [
    Fold(
        "in-watch-json-stream",
        "kubernetes/kubectl#542: kubectl get -w -o json, indented objects one after another",
        _json(CART_SERVICE, _INDENTED) + b"\n" + _json(TILL, _INDENTED) + b"\n",
        EMPTY,
        BOTH,
    ),
    Fold(
        "in-output-watch-events",
        "kubernetes/kubernetes#72416: two streams of --output-watch-events, with a BOOKMARK and a DELETED",
        [
            event("ADDED", CART_SERVICE),
            event("ADDED", TILL),
            event("BOOKMARK", {"kind": "Service", "apiVersion": "v1", "metadata": {}, "spec": {}}, 1300),
            event("DELETED", TILL),
            event("ADDED", CART_SLICE),
        ],
        READY,
    ),
    Fold(
        "in-typed-lists",
        "kubernetes/kubernetes#98925, #63676: raw answers, items without kind and apiVersion",
        [
            typed_list("ServiceList", "v1", without_type(CART_SERVICE)),
            typed_list("EndpointSliceList", "discovery.k8s.io/v1", without_type(CART_SLICE)),
        ],
        READY,
    ),
    Fold(
        "in-foreign-typed-list",
        "kubernetes/client-go#1328, #861: only the list says that these are another group's Services",
        [typed_list("ServiceList", "serving.knative.dev/v1", without_type(_KNATIVE))],
        NOTHING,
        (),
        "Service of serving.knative.dev/v1 (1)",
    ),
    Fold(
        "in-v1beta1-topology",
        "cilium/cilium#11810: zone and node of a slice from before 1.22 are in `topology`",
        [CART_SERVICE, _v1beta1()],
        _PLACED,
    ),
    Fold(
        "in-utf16-powershell",
        "kubernetes/kubernetes#39007, kubernetes/kubectl#679: PowerShell 5 writes UTF-16 with a mark",
        json.dumps(typed_list("List", "v1", CART_SERVICE)).encode("utf-16"),
        NOTHING,
        (),
        "UTF-16",
        65,
    ),
    Fold("in-yaml", "cilium/cilium#11810: a dump as YAML", _yaml(CART_SERVICE), EMPTY),
    Fold(
        "in-crlf-lines",
        "RFC 8259: CR is white space; an empty line at the end",
        lines([CART_SERVICE, CART_SLICE]).replace(b"\n", b"\r\n") + b"\r\n\r\n",
        READY,
    ),
    Fold(
        "in-endpoints-null",
        "kubernetes/kubernetes#135970: a slice of a Service scaled to zero has null for lists",
        [CART_SERVICE, endpoint_slice(endpoints=None, ports=None)],
        {"backend": {CART: {"state": "empty", "reason": "NoEndpoints"}}},
    ),
    Fold(
        "in-foreign-kinds",
        "linkerd/website#1667, velero-io/velero#2547: namesakes of other groups",
        [typed_list("List", "v1", CART_SERVICE, CART_SLICE, _KNATIVE, _LINKERD)],
        {**READY, "routing": {CART: {"routes": []}}},
        message="HTTPRoute of policy.linkerd.io/v1beta3 (1), Service of serving.knative.dev/v1 (1)",
    ),
    # ---- siblings of these -----------------------------------------------------------------------------
    Fold("in-nothing", "kubectl prints nothing where there is nothing", b"", NOTHING, ()),
    Fold(
        "in-null-items",
        "Go writes an empty list of objects as null",
        [typed_list("ServiceList", "v1") | {"items": None}, CART_SERVICE, {"kind": "List", "items": None}],
        EMPTY,
    ),
    Fold("in-array", "jq '.items' and jq -s", _json([CART_SERVICE, CART_SLICE]), READY),
    Fold(
        "in-list-of-lists",
        "kubectl flattens lists in lists",
        [
            typed_list(
                "List",
                "v1",
                typed_list("ServiceList", "v1", without_type(CART_SERVICE)),
                typed_list("EndpointSliceList", "discovery.k8s.io/v1", without_type(CART_SLICE)),
            )
        ],
        READY,
    ),
    Fold(
        "in-typed-list-v1beta1",
        "as in-v1beta1-topology, and only the list has the version",
        [
            CART_SERVICE,
            typed_list("EndpointSliceList", "discovery.k8s.io/v1beta1", without_type(_v1beta1())),
        ],
        _PLACED,
    ),
    Fold(
        "in-v1alpha1",
        "discovery.k8s.io/v1alpha1 was another schema",
        [CART_SERVICE, {**CART_SLICE, "apiVersion": "discovery.k8s.io/v1alpha1"}],
        EMPTY,
        message="EndpointSlice of discovery.k8s.io/v1alpha1 (1)",
    ),
    Fold(
        "in-manifest-without-namespace",
        "what kubectl apply takes; kubectl's namespace is default where none is set",
        _yaml(_WITHOUT_NAMESPACE),
        {"backend": {"default/cart": {"state": "empty"}}},
        ("default/cart",),
    ),
    Fold(
        "in-watch-ends-with-error",
        "410 Gone is an event of the watch (kubernetes API concepts, 410 Gone responses)",
        [
            event("ADDED", CART_SERVICE),
            {"type": "ERROR", "object": {**_STATUS, "message": "too old resource version", "code": 410}},
        ],
        EMPTY,
        message="too old resource version",
        exit_code=65,
    ),
    Fold(
        "in-answer-is-an-error",
        "kubectl get --raw prints the API server's metav1.Status",
        [{**_STATUS, "message": "Unauthorized", "code": 401}],
        NOTHING,
        (),
        "Unauthorized",
        65,
    ),
    Fold("in-mark", "UTF-8 with a byte order mark", _MARK + lines([CART_SERVICE, CART_SLICE]), READY),
    Fold(
        "in-mark-in-the-middle",
        "two files with marks, one after the other",
        _MARK + _json(CART_SERVICE) + b"\n" + _MARK + _json(CART_SLICE),
        READY,
    ),
    Fold(
        "in-mark-in-a-line",
        "the same, where the first ends without a line end",
        _MARK + _json(CART_SERVICE) + _MARK + _json(CART_SLICE),
        READY,
    ),
    Fold("in-gzip", "a compressed dump", gzip.compress(_json(CART_SERVICE)), NOTHING, (), "gzip", 65),
    Fold(
        "in-utf16-without-mark",
        "as in-utf16-powershell, as iconv writes it",
        _yaml(CART_SERVICE).decode().encode("utf-16-le"),
        NOTHING,
        (),
        "UTF-16",
        65,
    ),
    Fold(
        "in-yaml-list",
        "kubectl get -o yaml of several kinds",
        _yaml(typed_list("List", "v1", CART_SERVICE, CART_SLICE)),
        READY,
    ),
    Fold(
        "in-yaml-documents-crlf",
        "manifests from Windows",
        (b"---\n" + _yaml(CART_SERVICE) + b"---\n" + _yaml(CART_SLICE)).replace(b"\n", b"\r\n"),
        READY,
    ),
    Fold(
        "in-yaml-directive",
        "YAML 1.2, chapter 6.8: directives stand before the document",
        b"%YAML 1.2\n---\n" + _yaml(CART_SERVICE) + b"...\n%YAML 1.2\n---\n" + _yaml(CART_SLICE),
        READY,
    ),
    Fold(
        "in-yaml-address-of-decimals",
        "YAML 1.1 has numbers of base 60, Kubernetes' YAML has not",
        _yaml(CART_SERVICE)
        + b"---\n"
        + _yaml(endpoint_slice(endpoint("ADDRESS"), addressType="IPv6")).replace(b"ADDRESS", b"1:2:3:4:5:6:7:8"),
        {"backend": {CART: {"state": "ready", "endpoints": [{"address": "1:2:3:4:5:6:7:8"}]}}},
    ),
    Fold(
        "in-json-between-markers",
        "JSON is YAML: documents of JSON with markers between them",
        _json(CART_SERVICE, _INDENTED) + b"\n---\n" + _json(CART_SLICE, _INDENTED) + b"\n",
        READY,
    ),
    Fold("in-json-then-yaml", "cat a.json b.yaml", _json(CART_SERVICE) + b"\n---\n" + _yaml(CART_SLICE), READY),
    Fold("in-yaml-then-json", "cat a.yaml b.json", _yaml(CART_SERVICE) + _json(CART_SLICE, _INDENTED), READY),
    Fold(
        "in-warning-before-json",
        "2>&1 with kubectl get endpoints, which 1.33 warns of (KEP-4974)",
        b"Warning: v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\n"
        + _json(typed_list("List", "v1", CART_SERVICE, CART_SLICE), _INDENTED),
        READY,
        message="line 1",
        exit_code=65,
    ),
    Fold(
        "in-no-resources",
        "2>&1 with kubectl get of nothing",
        b"No resources found in shop namespace.\n",
        NOTHING,
        (),
        "No resources found",
        65,
    ),
]
