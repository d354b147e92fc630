"""The demo's clusters: a shop, its payments and their platform, with Services of every kind, always changing.

Every step leaves things so that it can be taken again, so that a recording can be of any length.
"""

import time
from collections.abc import Callable
from typing import Any

from tests.support.controlplane.workload import Workload, port

HTTP = port("http", 80, "http")
GRPC = port("grpc", 9000, "grpc", appProtocol="kubernetes.io/h2c")
DATABASE = port("postgres", 5432)
PACE = 0.25  # seconds between two acts, so that the controllers' answers are seen one by one


def populate(work: Workload, *, dual_stack: bool) -> None:
    """Twelve Services and more, over three namespaces, with their endpoints; returns once they are all there."""
    for namespace in ("shop", "payments", "platform"):
        work.add_namespace(namespace)

    work.app("shop", "web", 4, ipv6=dual_stack)
    make_web = work.dual_stack if dual_stack else work.service
    make_web("shop", "web", [HTTP], trafficDistribution="PreferSameZone")
    work.app("shop", "cart", 3, ports=[("http", 8080), ("grpc", 9000)], ipv6=dual_stack)
    work.service("shop", "cart", [HTTP, GRPC], sessionAffinity="ClientIP")
    work.app("shop", "search", 3, ports=[("http", 8081)], ipv6=dual_stack)
    work.service("shop", "search", [HTTP])
    work.app("shop", "catalog", 0, ipv6=dual_stack)
    work.headless("shop", "catalog", [HTTP])
    for number in range(3):
        _member(work, number, ipv6=dual_stack)
    work.external_name("shop", "images", "images.cdn.example")

    work.app("payments", "api", 3, ipv6=dual_stack)
    work.service("payments", "api", [HTTP], type="NodePort")
    work.app("payments", "checkout", 2, ipv6=dual_stack)
    work.service("payments", "checkout", [HTTP], type="LoadBalancer", externalTrafficPolicy="Local")
    work.load_balancer_address("payments", "checkout", "203.0.113.10")
    work.app("payments", "ledger", 2, ports=[("postgres", 5432)], ready=False, ipv6=dual_stack)
    work.headless("payments", "ledger", [DATABASE], publishNotReadyAddresses=True)
    work.app("payments", "fraud", 3, ipv6=dual_stack)
    work.service("payments", "fraud", [HTTP])
    for name in ("bank", "bank-standby"):
        work.service("payments", name, [port("https", 443)], app=None)
    ends = [{"addresses": [f"198.51.100.{last}"], "conditions": {"ready": True}} for last in (10, 11)]
    work.slice("payments", "bank-primary", "bank", ends, [{"name": "https", "port": 8443, "protocol": "TCP"}])
    # No conditions at all: unknown, which means ready.
    unknown = [{"addresses": ["198.51.100.20"]}]
    work.slice("payments", "bank-other", "bank-standby", unknown, [{"name": "https", "port": 8443, "protocol": "TCP"}])

    work.app("platform", "dns", 2, ports=[("dns", 5353), ("dns-tcp", 5353)], ipv6=dual_stack)
    work.service("platform", "dns", [port("dns", 53, "dns", "UDP"), port("dns-tcp", 53, "dns-tcp")])
    work.service("platform", "warehouse", [DATABASE], app=None)
    work.endpoints("platform", "warehouse", _subsets(["192.0.2.50", "192.0.2.51"], []), mirrored=False)
    work.service("platform", "archive", [DATABASE], app=None)
    work.endpoints("platform", "archive", _subsets(["192.0.2.60"], []))

    families = 2 if dual_stack else 1
    work.await_ready("shop", "web", 4 * families)
    for namespace, name, ready in (("shop", "catalog", 3), ("payments", "fraud", 3), ("platform", "dns", 2)):
        work.await_ready(namespace, name, ready)
    work.await_ready("platform", "archive", 1)


def steps(work: Workload) -> list[Callable[[], None]]:
    """What happens, in order; each comes back when it is done."""
    return [
        lambda: work.roll("shop", "web", settle=PACE),
        lambda: fraud_to_zero_and_back(work),
        lambda: cart_made_again(work),
        lambda: search_moves_its_port(work),
        lambda: catalog_member_replaced(work),
        lambda: bank_fails_over(work),
        lambda: warehouse_changes(work),
        lambda: ledger_elects(work),
        lambda: checkout_flaps(work),
        lambda: images_move(work),
        lambda: sale(work),
        lambda: api_ports_change(work),
        lambda: work.roll("platform", "dns", settle=PACE),
    ]


def fraud_to_zero_and_back(work: Workload) -> None:
    work.scale("payments", "fraud", 0, settle=4 * PACE)
    work.await_ready("payments", "fraud", 0)
    time.sleep(4 * PACE)
    work.scale("payments", "fraud", 3)
    work.await_ready("payments", "fraud", 3)


def cart_made_again(work: Workload) -> None:
    """The same name, another uid and cluster IP, while its Pods stay."""
    work.delete_service("shop", "cart")
    time.sleep(2 * PACE)
    made = work.service("shop", "cart", [HTTP, GRPC], sessionAffinity="ClientIP")
    uid = made["metadata"]["uid"]
    work.await_slices(
        "shop",
        "cart",
        lambda found: bool(found) and all(each["metadata"]["ownerReferences"][0]["uid"] == uid for each in found),
    )
    work.await_ready("shop", "cart", 3)


def search_moves_its_port(work: Workload) -> None:
    """In the course of the update the named port is two different numbers, in two slices."""
    slices = work.slices_of("shop", "search")
    now = {each["ports"][0]["port"] for each in slices if each.get("endpoints")}
    work.roll("shop", "search", settle=PACE, ports=[("http", 8082 if now == {8081} else 8081)])


def catalog_member_replaced(work: Workload) -> None:
    """A member of a StatefulSet: the same name and host name, another address."""
    work.terminate("shop", "catalog-1")
    time.sleep(4 * PACE)
    work.remove("shop", "catalog-1")
    work.await_ready("shop", "catalog", 2)
    time.sleep(PACE)
    _member(work, 1)
    work.await_ready("shop", "catalog", 3)


def bank_fails_over(work: Workload) -> None:
    """A slice's label moves to another Service, and later back."""
    work.relabel_slice("payments", "bank-primary", "bank-standby")
    time.sleep(4 * PACE)
    work.patch_slice(
        "payments",
        "bank-primary",
        {"endpoints": [{"addresses": ["198.51.100.10"]}, {"addresses": ["198.51.100.12"], "hints": None}]},
    )
    time.sleep(2 * PACE)
    work.relabel_slice("payments", "bank-primary", "bank")


def warehouse_changes(work: Workload) -> None:
    """Legacy Endpoints without a slice beside them, then those that are mirrored."""
    work.endpoints("platform", "warehouse", _subsets(["192.0.2.50"], ["192.0.2.51"]), mirrored=False, replace=True)
    time.sleep(2 * PACE)
    work.endpoints("platform", "warehouse", _subsets(["192.0.2.50", "192.0.2.51"], []), mirrored=False, replace=True)
    work.endpoints("platform", "archive", _subsets(["192.0.2.60", "192.0.2.61"], []), replace=True)
    work.await_ready("platform", "archive", 2)
    work.endpoints("platform", "archive", _subsets(["192.0.2.60"], []), replace=True)
    work.await_ready("platform", "archive", 1)


def ledger_elects(work: Workload) -> None:
    """Members that are not ready are published all the same: they find each other before they are."""
    first, second = work.pods("payments", "ledger")
    work.pod_ready("payments", first)
    time.sleep(2 * PACE)
    work.pod_ready("payments", second)
    time.sleep(2 * PACE)
    work.roll("payments", "ledger", settle=PACE)
    for pod in work.pods("payments", "ledger"):
        work.pod_ready("payments", pod, False)


def checkout_flaps(work: Workload) -> None:
    pod = work.pods("payments", "checkout")[0]
    for ready in (False, True, False, True):
        work.pod_ready("payments", pod, ready)
        time.sleep(PACE)
    work.scale("payments", "checkout", 5)
    work.await_ready("payments", "checkout", 5)
    work.scale("payments", "checkout", 2, settle=2 * PACE)


def images_move(work: Workload) -> None:
    work.patch_service("shop", "images", {"spec": {"externalName": "images.backup.example"}})
    time.sleep(4 * PACE)
    work.delete_service("shop", "images")
    time.sleep(2 * PACE)
    work.external_name("shop", "images", "images.cdn.example")


def sale(work: Workload) -> None:
    """Many Pods for web, and a Service that is there for a while only, its slice before it."""
    ports = [{"name": "http", "port": 8080, "protocol": "TCP"}]
    work.slice("shop", "sale-by-hand", "sale", [{"addresses": ["198.51.100.40"]}], ports)
    time.sleep(2 * PACE)
    work.service("shop", "sale", [HTTP], app=None)
    work.scale("shop", "web", 9)
    time.sleep(6 * PACE)
    work.scale("shop", "web", 4, settle=2 * PACE)
    work.delete_service("shop", "sale")
    work.delete_slice("shop", "sale-by-hand")


def api_ports_change(work: Workload) -> None:
    with_admin: dict[str, Any] = {"spec": {"ports": [HTTP, port("admin", 8081)]}}
    work.patch_service("payments", "api", with_admin)
    time.sleep(4 * PACE)
    work.patch_service("payments", "api", {"spec": {"ports": [HTTP]}})
    work.patch_service("payments", "api", {"metadata": {"labels": {"release": "stable"}}})
    work.patch_service("shop", "web", {"spec": {"trafficDistribution": "PreferSameNode"}})
    time.sleep(2 * PACE)
    work.patch_service("shop", "web", {"spec": {"trafficDistribution": "PreferSameZone"}})


def _member(work: Workload, number: int, *, ipv6: bool = False) -> None:
    name = f"catalog-{number}"
    work.add_pod("shop", name, {"app": "catalog"}, hostname=name, subdomain="catalog", ipv6=ipv6)


def _subsets(ready: list[str], not_ready: list[str]) -> list[dict[str, Any]]:
    return [
        {
            "addresses": [{"ip": each} for each in ready],
            "notReadyAddresses": [{"ip": each} for each in not_ready],
            "ports": [{"name": "postgres", "port": 5432, "protocol": "TCP"}],
        }
    ]
