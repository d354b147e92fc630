"""Conformance tests about routes in the mesh."""

from tests.conformance.about_gateways import MATCHING
from tests.conformance.checks import CONSUMER, MESH, Expectation, attached, calls, expect

E1, E2 = "echo-v1", "echo-v2"
_ROUTE = {"namespace": MESH}
_QUERIES = [
    ("/?animal=whale", {}, E1), ("/?animal=dolphin", {}, E2), ("/?animal=whale&otherparam=irrelevant", {}, E1),
    ("/?animal=dolphin&color=yellow", {}, E2), ("/?color=blue", {}, None), ("/?animal=dog", {}, None),
    ("/?animal=whaledolphin", {}, None), ("/", {}, None), ("/path1?animal=whale", {}, E1),
    ("/?animal=whale", {"version": "one"}, E2), ("/path3?animal=shark", {}, E1),
    ("/path4?animal=kraken", {"version": "three"}, E1), ("/?animal=shark", {}, None),
    ("/path4?animal=kraken", {}, None),
    ("/path5?animal=hydra", {}, E1),
]  # fmt: skip

MESH_ROUTES: dict[str, Expectation] = {
    "MeshConsumerRoute": expect(
        "mesh/mesh-consumer-route",
        attached("mesh-echo-add-header", namespace=CONSUMER),
        calls(E1, E1, client=CONSUMER),
        calls(E1, None, client=MESH),
    ),
    "MeshFrontend": expect("mesh/mesh-frontend", calls(E2, E2), calls(E1, None)),
    "MeshFrontendHostname": expect(
        "mesh/mesh-frontend", calls(E2, E2, host="echo-v1"), calls(E1, None, host="echo-v2")
    ),
    "MeshGRPCRouteWeight": expect("mesh/grpcroute-weight", calls("echo", {E1: 0.7, E2: 0.3}, port=7070)),
    "MeshHTTPRouteMatching": expect(
        "mesh/httproute-matching",
        *(calls("echo", [E1, E2][number - 1], path=path, headers=headers) for path, headers, number in MATCHING),
        calls("echo", None, port=8080),
    ),
    "MeshHTTPRouteNamedRule": expect(
        "mesh/httproute-named-rule", calls("echo", E1, path="/named"), calls("echo", E2, path="/unnamed")
    ),
    "MeshHTTPRouteQueryParamMatching": expect(
        "mesh/httproute-query-param-matching",
        *(calls("echo", backend, path=path, headers=headers) for path, headers, backend in _QUERIES),
    ),
    "MeshHTTPRouteSimpleSameNamespace": expect("mesh/httproute-simple-same-namespace", calls("echo", E1)),
    "MeshHTTPRouteWeight": expect("mesh/httproute-weight", calls("echo", {E1: 0.7, E2: 0.3})),
    "MeshPorts": expect(
        "mesh/mesh-ports",
        calls(E1, E1, port=80),
        calls(E1, None, port=8080),
        calls(E2, E2, port=80),
        calls(E2, E2, port=8080),
    ),
    "MeshTrafficSplit": expect("mesh/mesh-split", calls("echo", E1, path="/v1"), calls("echo", E2, path="/v2")),
}
