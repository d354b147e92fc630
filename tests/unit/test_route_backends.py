"""What routes and policies name, and ask for it: inputs after public bug reports about implementations of the
Gateway API (the sources are named with the cases), each with the right routing row."""

import pytest

from tests.support.routed_service import service
from tests.support.routes import (
    Object,
    backend_tls_policy,
    by_cookie,
    gateway,
    policy,
    route,
    rule,
    to_gateway,
    to_service,
)
from tests.support.routing_rows import DEFAULT, NEW, OLD, STICKY, asking, choice, fold, reasons

# ---- what is named otherwise (envoyproxy/gateway #5495, #5497, #8541; linkerd/website #1590) -----------


@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute"])
def test_a_mirror_is_named_with_its_role(kind: str) -> None:
    mirror = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "shadow", "port": 80}, "percent": 20}}
    asked = {"backendRefs": [{"name": "cart", "port": 80}], "filters": [mirror], "sessionPersistence": by_cookie("a")}
    rows = fold(service(), gateway(), route("r", [to_gateway()], [asked], kind))
    row = rows["shop/shadow"]
    assert (row["state"], choice(row["gateway"])) == ("empty", ("none", "ServiceNotFound"))
    assert row["gateway"]["because"] == [{"kind": kind, "namespace": "shop", "name": "r"}]
    rows = fold(service(), service("shadow"), gateway(), route("r", [to_gateway()], [asked], kind))
    (item,) = rows["shop/shadow"]["gateway"]["rules"]
    assert (item["role"], item["weight"], item["totalWeight"], item["decision"]) == ("mirror", 20, 100, "endpoint")
    # The copies' answers go nowhere: nobody sticks to a mirror.
    assert (choice(rows["shop/shadow"]["gateway"]), item["sessionPersistence"]) == (DEFAULT, None)
    assert choice(rows["shop/cart"]["gateway"]) == STICKY


def test_filters_of_backends_and_external_authorization_name_services_too() -> None:
    mirror = {
        "requestMirror": {"backendRef": {"name": "shadow", "port": 80}, "fraction": {"numerator": 1, "denominator": 3}}
    }
    backend = {"name": "cart", "port": 80, "filters": [mirror]}
    auth = {"externalAuth": {"protocol": "GRPC", "backendRef": {"name": "gate", "port": 80}}}
    asked = route("r", [to_gateway()], [{"backendRefs": [backend], "filters": [auth]}])
    rows = fold(service(), service("shadow"), service("gate"), gateway(), asked)
    roles = {
        name: [(item["role"], item["weight"], item["totalWeight"]) for item in rows[f"shop/{name}"]["gateway"]["rules"]]
        for name in ("cart", "shadow", "gate")
    }
    assert roles == {"cart": [("backend", 1, 1)], "shadow": [("mirror", 1, 3)], "gate": [("auth", 1, 1)]}


def test_a_share_is_of_all_that_the_rule_names() -> None:
    backends = [
        {"name": "cart", "port": 80, "weight": 3},
        {"name": "gone", "port": 80},
        {"group": "example.com", "kind": "Bucket", "name": "cart", "port": 80, "weight": 6},
    ]
    rows = fold(service(), gateway(), route("r", [to_gateway()], [{"backendRefs": backends}]))
    (item,) = rows["shop/cart"]["gateway"]["rules"]
    assert (item["weight"], item["totalWeight"]) == (3, 10)
    assert rows["shop/cart"]["routes"][0]["unresolved"] == [
        {
            "rule": 0,
            "group": "example.com",
            "kind": "Bucket",
            "namespace": "shop",
            "name": "cart",
            "reason": "InvalidKind",
        }
    ]


def test_an_unknown_group_is_listed_with_a_reason() -> None:
    """linkerd2 #10601: the core group is the empty string."""
    backend = {"group": "core", "kind": "Service", "name": "cart", "port": 80}
    asked = route("r", [{**to_service(), "group": "core"}], [{"backendRefs": [backend]}])
    row = fold(service(), asked)["shop/cart"]
    (parent,) = row["routes"][0]["parents"]
    assert (parent["attached"], parent["reason"], parent["group"]) == (False, "InvalidKind", "core")
    assert row["routes"][0]["backends"][0]["reason"] == "InvalidKind"
    row = fold(service(), gateway(), route("r", [to_gateway()], [{"backendRefs": [backend]}]))["shop/cart"]
    assert (choice(row["gateway"]), reasons(row["gateway"])) == (DEFAULT, [("r", "InvalidKind")])


def test_all_weights_zero_ask_for_nothing() -> None:
    asked = route("r", [to_gateway()], [rule({"name": "cart", "weight": 0}, persistence=by_cookie("a"))])
    assert choice(fold(service(), gateway(), asked)["shop/cart"]["gateway"]) == DEFAULT


def test_several_who_ask_for_other_session_persistence_are_shown() -> None:
    one = asking("one", [to_gateway()], created=OLD, matches=[{"path": {"value": "/pay"}}])
    two = asking("two", [to_gateway()], created=NEW, matches=[{"path": {"value": "/bill"}}])
    direction = fold(service(), gateway(), two, one)["shop/cart"]["gateway"]
    assert direction["sessionPersistence"]["sessionName"] == "one"
    assert direction["sessionConflicts"] == [{"kind": "HTTPRoute", "namespace": "shop", "name": "two"}]


# ---- BackendTLSPolicy ----------------------------------------------------------------------------------


def test_of_policies_for_the_same_the_oldest_counts() -> None:
    items = [
        service(),
        backend_tls_policy("young", "cart", creationTimestamp=NEW),
        backend_tls_policy("old", "cart", creationTimestamp=OLD),
        backend_tls_policy("port", "cart", section="http", creationTimestamp=NEW),
        backend_tls_policy("other", "till", creationTimestamp=OLD),
    ]
    entries = fold(*items)["shop/cart"]["backendTLS"]
    assert [(entry["sectionName"], entry["name"], entry["accepted"], entry["reason"]) for entry in entries] == [
        ("", "old", True, ""),
        ("", "young", False, "Conflicted"),
        ("http", "port", True, ""),
    ]
    assert entries[0]["validation"] == {
        "hostname": "cart.example.com",
        "subjectAltNames": [],
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}],
        "wellKnownCACertificates": None,
    }
    row = fold(*items, events=[{"type": "DELETED", "object": items[2]}])["shop/cart"]
    assert [(entry["name"], entry["accepted"]) for entry in row["backendTLS"] if not entry["sectionName"]] == [
        ("young", True)
    ]


def test_certificates_of_an_unknown_kind_are_none() -> None:
    odd = backend_tls_policy("p", "cart", certificates=[{"group": "", "kind": "Certificate", "name": "ca"}])
    (entry,) = fold(service(), odd)["shop/cart"]["backendTLS"]
    assert (entry["accepted"], entry["reason"]) == (False, "NoValidCACertificate")


def test_of_several_certificates_those_of_an_unknown_kind_are_named() -> None:
    kinds = ("ConfigMap", "Certificate", "Secret")
    refs = [{"group": "", "kind": kind, "name": "ca"} for kind in kinds]
    (entry,) = fold(service(), backend_tls_policy("p", "cart", certificates=refs))["shop/cart"]["backendTLS"]
    assert entry["accepted"]
    assert [ref.get("reason", "") for ref in entry["validation"]["caCertificateRefs"]] == ["", "InvalidKind", ""]


def test_a_policy_for_a_port_that_is_not_there_is_not_attached_until_it_is() -> None:
    items = [
        service(),
        backend_tls_policy("old", "cart", section="admin", creationTimestamp=OLD),
        backend_tls_policy("young", "cart", section="admin", creationTimestamp=NEW),
        backend_tls_policy("none", "ghost", section="admin"),
    ]

    def entries(events: list[Object]) -> list[tuple[str, str]]:
        rows = fold(*items, events=events)
        return [(entry["name"], entry["reason"]) for entry in rows["shop/cart"]["backendTLS"]]

    ports = [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]
    opened, closed = ({"type": "MODIFIED", "object": item} for item in (service(ports=ports), service()))
    assert entries([]) == [("old", "TargetNotFound"), ("young", "TargetNotFound")]
    assert entries([opened]) == [("old", ""), ("young", "Conflicted")]
    assert entries([opened, closed]) == [("old", "TargetNotFound"), ("young", "TargetNotFound")]
    # What a Service that is not there has is not known.
    (entry,) = fold(*items)["shop/ghost"]["backendTLS"]
    assert entry["accepted"]


def test_policies_that_target_the_core_group_by_another_name_are_listed() -> None:
    """linkerd2 #10601: the core group is the empty string."""
    tls, traffic = backend_tls_policy("p", "cart"), policy("q", "cart", persistence=by_cookie("c"))
    for item in (tls, traffic):
        item["spec"]["targetRefs"][0]["group"] = "core"
    row = fold(service(), tls, traffic, backend_tls_policy("r", "cart"))["shop/cart"]
    assert [(entry["name"], entry["accepted"], entry["reason"]) for entry in row["backendTLS"]] == [
        ("p", False, "InvalidKind"),
        ("r", True, ""),
    ]
    assert [(held["name"], held["reason"]) for held in row["policies"]] == [("q", "InvalidKind")]
    assert (choice(row["gateway"]), choice(row["mesh"])) == (DEFAULT, DEFAULT)
