"""What a field means that is absent, null or empty: the defaults that the API documents, one row each.

Sources: the types of k8s.io/api (core/v1 ServiceSpec, ServicePort, Endpoints; discovery/v1 EndpointSlice), which
`kubectl explain` prints too. The API server fills most of these in itself; a recording, another writer or an older
server does not.
"""

import copy
from typing import Any

import msgspec
import orjson
import pytest

from streams.objects.normalize import normalize
from streams.wire.records import SliceEndpoint

ABSENT = object()
"""The field is not there at all."""

UNSET = (ABSENT, None)
EMPTY_TEXT = (*UNSET, "")
EMPTY_LIST = (*UNSET, [])
EMPTY_MAP = (*UNSET, {})

METADATA = {"namespace": "shop", "name": "cart", "uid": "1-2", "resourceVersion": "7"}

SERVICE: dict[str, Any] = {
    "metadata": METADATA,
    "spec": {
        "type": "NodePort",
        "clusterIP": "10.0.0.9",
        "clusterIPs": ["10.0.0.9", "fd00::9"],
        "ipFamilies": ["IPv4", "IPv6"],
        "externalName": "shop.example",
        "selector": {"app": "cart"},
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        "trafficDistribution": "PreferClose",
        "internalTrafficPolicy": "Local",
        "externalTrafficPolicy": "Local",
        "publishNotReadyAddresses": True,
        "ports": [
            {"name": "http", "port": 80, "protocol": "UDP", "appProtocol": "kubernetes.io/h2c", "targetPort": 8080}
        ],
    },
}

SLICE: dict[str, Any] = {
    "metadata": {**METADATA, "name": "cart-x1", "labels": {"kubernetes.io/service-name": "cart"}},
    "addressType": "IPv4",
    "ports": [{"name": "http", "port": 8080, "protocol": "UDP", "appProtocol": "kubernetes.io/h2c"}],
    "endpoints": [
        {
            "addresses": ["10.1.0.1"],
            "conditions": {"ready": False, "serving": True, "terminating": True},
            "zone": "a",
            "nodeName": "node-1",
            "hints": {"forZones": [{"name": "a"}], "forNodes": [{"name": "node-1"}]},
            "targetRef": {"kind": "Pod", "namespace": "other", "name": "cart-0", "uid": "3-4"},
            "hostname": "cart-0",
        }
    ],
}

ENDPOINTS: dict[str, Any] = {
    "metadata": METADATA,
    "subsets": [
        {
            "addresses": [
                {
                    "ip": "10.1.0.1",
                    "nodeName": "node-1",
                    "targetRef": {"kind": "Pod", "namespace": "other"},
                    "hostname": "cart-0",
                }
            ],
            "notReadyAddresses": [{"ip": "10.1.0.2"}],
            "ports": [{"name": "http", "port": 8080, "protocol": "UDP", "appProtocol": "kubernetes.io/h2c"}],
        }
    ],
}

OBJECTS = {"Service": SERVICE, "EndpointSlice": SLICE, "Endpoints": ENDPOINTS}

IN_A_PORT = "ports.0."
IN_AN_ENDPOINT = "endpoints.0."
IN_A_SUBSET = "subsets.0."
ENDPOINT = "groups.0.endpoints.0."

# The kind, the field, what may stand there, and what it then means: of which field of the result.
DEFAULTS: list[tuple[str, str, tuple[Any, ...], str, Any]] = [
    # Of the metadata only the name is needed.
    ("Service", "metadata.uid", EMPTY_TEXT, "uid", ""),
    # "Defaults to ClusterIP."
    ("Service", "spec.type", EMPTY_TEXT, "type", "ClusterIP"),
    # clusterIPs is newer than clusterIP: its first element is the same.
    ("Service", "spec.clusterIPs", EMPTY_LIST, "clusterIPs", ["10.0.0.9"]),
    ("Service", "spec.clusterIP", EMPTY_TEXT, "clusterIPs", ["10.0.0.9", "fd00::9"]),
    # "This field is usually assigned automatically based on cluster configuration": from the addresses.
    ("Service", "spec.ipFamilies", EMPTY_LIST, "ipFamilies", ["IPv4", "IPv6"]),
    ("Service", "spec.externalName", EMPTY_TEXT, "externalName", None),
    # "If empty or not present, the service is assumed to have an external process managing its endpoints."
    ("Service", "spec.selector", EMPTY_MAP, "selector", None),
    # "Must be ClientIP or None. Defaults to None": then there is no timeout either.
    ("Service", "spec.sessionAffinity", EMPTY_TEXT, "sessionAffinity", "None"),
    ("Service", "spec.sessionAffinity", EMPTY_TEXT, "sessionAffinityTimeoutSeconds", None),
    # "Default value is 10800 (for 3 hours)."
    ("Service", "spec.sessionAffinityConfig", EMPTY_MAP, "sessionAffinityTimeoutSeconds", 10800),
    ("Service", "spec.sessionAffinityConfig.clientIP", EMPTY_MAP, "sessionAffinityTimeoutSeconds", 10800),
    ("Service", "spec.sessionAffinityConfig.clientIP.timeoutSeconds", UNSET, "sessionAffinityTimeoutSeconds", 10800),
    # No preference; both policies are then Cluster, which a row says as null.
    ("Service", "spec.trafficDistribution", EMPTY_TEXT, "trafficDistribution", None),
    ("Service", "spec.internalTrafficPolicy", EMPTY_TEXT, "internalTrafficPolicy", None),
    ("Service", "spec.externalTrafficPolicy", EMPTY_TEXT, "externalTrafficPolicy", None),
    # "The primary use case for setting this field" is the exception: false.
    ("Service", "spec.publishNotReadyAddresses", UNSET, "publishNotReadyAddresses", False),
    # A headless Service with no port is legal.
    ("Service", "spec.ports", EMPTY_LIST, "ports", []),
    # "This is optional if only one ServicePort is defined": one port's name is "".
    ("Service", f"spec.{IN_A_PORT}name", EMPTY_TEXT, "ports.0.name", ""),
    # 'Default is TCP.'
    ("Service", f"spec.{IN_A_PORT}protocol", EMPTY_TEXT, "ports.0.protocol", "TCP"),
    ("Service", f"spec.{IN_A_PORT}appProtocol", EMPTY_TEXT, "ports.0.appProtocol", None),
    # "If this is not specified, the value of the 'port' field is used (an identity map)."
    ("Service", f"spec.{IN_A_PORT}targetPort", (*EMPTY_TEXT, 0), "ports.0.targetPort", 80),
    # A slice may be empty.
    ("EndpointSlice", "endpoints", EMPTY_LIST, "groups.0.endpoints", []),
    # "When ports is empty, it indicates that there are no defined ports."
    ("EndpointSlice", "ports", EMPTY_LIST, "groups.0.ports", []),
    # "When a port is defined with a nil port value, it indicates 'all ports'."
    ("EndpointSlice", f"{IN_A_PORT}port", UNSET, "groups.0.ports.0.port", None),
    # "If the EndpointSlice is derived from a Kubernetes service, this corresponds to Service.ports[].name", "" too.
    ("EndpointSlice", f"{IN_A_PORT}name", EMPTY_TEXT, "groups.0.ports.0.name", ""),
    ("EndpointSlice", f"{IN_A_PORT}protocol", EMPTY_TEXT, "groups.0.ports.0.protocol", "TCP"),
    ("EndpointSlice", f"{IN_A_PORT}appProtocol", EMPTY_TEXT, "groups.0.ports.0.appProtocol", None),
    # "A nil value should be interpreted as 'true'" (ready), as ready ("defer to the ready condition", serving), as
    # "false" (terminating).
    ("EndpointSlice", f"{IN_AN_ENDPOINT}conditions", EMPTY_MAP, f"{ENDPOINT}ready", True),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}conditions", EMPTY_MAP, f"{ENDPOINT}serving", True),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}conditions", EMPTY_MAP, f"{ENDPOINT}terminating", False),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}conditions.ready", UNSET, f"{ENDPOINT}ready", True),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}conditions.serving", UNSET, f"{ENDPOINT}serving", False),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}conditions.terminating", UNSET, f"{ENDPOINT}terminating", False),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}zone", EMPTY_TEXT, f"{ENDPOINT}zone", None),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}nodeName", EMPTY_TEXT, f"{ENDPOINT}node", None),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}hints", EMPTY_MAP, f"{ENDPOINT}hints", None),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}hints.forZones", EMPTY_LIST, f"{ENDPOINT}hints.zones", []),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}hints.forNodes", EMPTY_LIST, f"{ENDPOINT}hints.nodes", []),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}targetRef", UNSET, f"{ENDPOINT}target", None),
    # A Pod is in the namespace of its slice.
    ("EndpointSlice", f"{IN_AN_ENDPOINT}targetRef.namespace", EMPTY_TEXT, f"{ENDPOINT}target.namespace", "shop"),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}targetRef.kind", EMPTY_TEXT, f"{ENDPOINT}target.kind", ""),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}targetRef.name", EMPTY_TEXT, f"{ENDPOINT}target.name", ""),
    ("EndpointSlice", f"{IN_AN_ENDPOINT}targetRef.uid", EMPTY_TEXT, f"{ENDPOINT}target.uid", ""),
    # "This field may be used by consumers of endpoints to distinguish endpoints from each other": without it, by none.
    ("EndpointSlice", f"{IN_AN_ENDPOINT}hostname", EMPTY_TEXT, f"{ENDPOINT}hostname", None),
    # "The set of all endpoints is the union of all subsets": of none, nothing.
    ("Endpoints", "subsets", EMPTY_LIST, "groups", []),
    ("Endpoints", f"{IN_A_SUBSET}notReadyAddresses", EMPTY_LIST, "groups.0.endpoints.*.address", ["10.1.0.1"]),
    ("Endpoints", f"{IN_A_SUBSET}notReadyAddresses", EMPTY_LIST, "groups.0.endpoints.*.ready", [True]),
    ("Endpoints", f"{IN_A_SUBSET}addresses", EMPTY_LIST, "groups.0.endpoints.*.address", ["10.1.0.2"]),
    # "IP addresses which offer the related ports but are not currently marked as ready": not serving either.
    ("Endpoints", f"{IN_A_SUBSET}addresses", EMPTY_LIST, "groups.0.endpoints.*.ready", [False]),
    ("Endpoints", f"{IN_A_SUBSET}addresses", EMPTY_LIST, "groups.0.endpoints.*.serving", [False]),
    ("Endpoints", f"{IN_A_SUBSET}addresses", EMPTY_LIST, "groups.0.endpoints.*.terminating", [False]),
    ("Endpoints", f"{IN_A_SUBSET}ports", EMPTY_LIST, "groups.0.ports", []),
    ("Endpoints", f"{IN_A_SUBSET}{IN_A_PORT}name", EMPTY_TEXT, "groups.0.ports.0.name", ""),
    ("Endpoints", f"{IN_A_SUBSET}{IN_A_PORT}protocol", EMPTY_TEXT, "groups.0.ports.0.protocol", "TCP"),
    ("Endpoints", f"{IN_A_SUBSET}{IN_A_PORT}appProtocol", EMPTY_TEXT, "groups.0.ports.0.appProtocol", None),
    ("Endpoints", f"{IN_A_SUBSET}addresses.0.nodeName", EMPTY_TEXT, f"{ENDPOINT}node", None),
    ("Endpoints", f"{IN_A_SUBSET}addresses.0.hostname", EMPTY_TEXT, f"{ENDPOINT}hostname", None),
    ("Endpoints", f"{IN_A_SUBSET}addresses.0.targetRef", UNSET, f"{ENDPOINT}target", None),
    ("Endpoints", f"{IN_A_SUBSET}addresses.0.targetRef.namespace", EMPTY_TEXT, f"{ENDPOINT}target.namespace", "shop"),
]

CASES = [
    pytest.param(
        kind, field, value, where, meaning, id=f"{kind}-{field}-{'absent' if value is ABSENT else repr(value)}"
    )
    for kind, field, values, where, meaning in DEFAULTS
    for value in values
]


def with_value(item: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """The object with another value in a field, or without the field."""
    changed = copy.deepcopy(item)
    *holders, last = field.split(".")
    holder: Any = changed
    for name in holders:
        holder = holder[int(name) if isinstance(holder, list) else name]
    assert last in holder, f"{field} is not in the example: its absence would change nothing"
    if value is ABSENT:
        del holder[last]
    else:
        holder[last] = value
    return changed


def at(value: Any, where: str) -> Any:
    """What stands there in the result; with `*`, in each element of a list."""
    name, _, rest = where.partition(".")
    if name == "*":
        return [at(element, rest) for element in value]
    if isinstance(value, msgspec.Struct):
        inner = getattr(value, name)
    else:
        inner = value[int(name) if isinstance(value, list) else name]
    return at(inner, rest) if rest else inner


def body(kind: str, item: dict[str, Any]) -> Any:
    """The result; an endpoint is decoded, as the journal leaves its defaults out."""
    result = normalize(kind, item, "cluster.local")
    assert result is not None
    decoded = orjson.loads(result.body)
    for group in decoded.get("groups", ()):
        group["endpoints"] = msgspec.convert(group["endpoints"], list[SliceEndpoint])
    return decoded


@pytest.mark.parametrize(("kind", "field", "value", "where", "meaning"), CASES)
def test_what_a_field_means_that_is_absent_null_or_empty(
    kind: str, field: str, value: Any, where: str, meaning: Any
) -> None:
    assert at(body(kind, with_value(OBJECTS[kind], field, value)), where) == meaning


@pytest.mark.parametrize(
    ("ready", "serving", "expected"),
    [
        (True, ABSENT, (True, True)),
        (False, ABSENT, (False, False)),
        (ABSENT, False, (True, False)),
        (False, True, (False, True)),
        (None, None, (True, True)),
    ],
)
def test_serving_defers_to_ready(ready: Any, serving: Any, expected: tuple[bool, bool]) -> None:
    item = with_value(SLICE, "endpoints.0.conditions.ready", ready)
    endpoint = at(body("EndpointSlice", with_value(item, "endpoints.0.conditions.serving", serving)), ENDPOINT[:-1])
    assert (endpoint.ready, endpoint.serving) == expected


@pytest.mark.parametrize("hostname", ["cart-0", "0", "w" * 63])
def test_a_hostname_is_carried(hostname: str) -> None:
    for kind, field in (("EndpointSlice", "endpoints.0.hostname"), ("Endpoints", "subsets.0.addresses.0.hostname")):
        assert at(body(kind, with_value(OBJECTS[kind], field, hostname)), f"{ENDPOINT}hostname") == hostname


@pytest.mark.parametrize("spec", [{}, None, {"clusterIP": ""}, {"clusterIPs": [""]}, {"type": "ExternalName"}])
def test_a_service_without_an_address_has_none(spec: dict[str, Any] | None) -> None:
    row = body("Service", {"metadata": METADATA, "spec": spec})
    assert (row["clusterIPs"], row["ipFamilies"], row["headless"]) == ([], [], False)


@pytest.mark.parametrize("spec", [{"clusterIP": "None"}, {"clusterIPs": ["None"]}])
def test_the_word_none_makes_a_service_headless(spec: dict[str, Any]) -> None:
    row = body("Service", {"metadata": METADATA, "spec": spec})
    assert (row["clusterIPs"], row["headless"]) == ([], True)


@pytest.mark.parametrize("labels", [ABSENT, None, {}, {"kubernetes.io/service-name": ""}])
def test_a_slice_without_the_label_is_no_services(labels: Any) -> None:
    assert normalize("EndpointSlice", with_value(SLICE, "metadata.labels", labels), "cluster.local") is None
