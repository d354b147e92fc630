"""One Service, on the demo: both facets side by side, its decision, its endpoints by zone, its routers."""

from typing import Any

from tests.support.browser import Browser
from tests.support.demo import Demo


def row_of(demo: Demo, table: str, cluster: str, service: str = "shop/search") -> dict[str, Any]:
    return next(row for row in demo.get(f"/v1/facets/{table}/{service}")["items"] if row["cluster"] == cluster)


def addresses(browser: Browser) -> set[str]:
    return set(browser.texts("table.endpoints tbody td:nth-child(2)"))


def test_frontend_backend_and_decision_of_each_cluster(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url, "#/services/shop/search")
    for cluster in ("east", "west"):
        frontend = row_of(demo, "frontend", cluster)
        browser.until(f"{cluster}'s address", lambda f=frontend: f["clusterIPs"][0] in browser.text(".frontend"))
        assert frontend["dnsName"] in browser.text(".frontend")
        decision = row_of(demo, "routing", cluster)["gateway"]
        assert decision["reason"] in browser.text("[aria-labelledby=routing]")

    def whole() -> bool:
        expected = {each["address"] for c in ("east", "west") for each in row_of(demo, "backend", c)["endpoints"]}
        return addresses(browser) == expected

    browser.until("the endpoints of both", whole)
    browser.link("west").click()
    browser.until(
        "those of one",
        lambda: addresses(browser) == {e["address"] for e in row_of(demo, "backend", "west")["endpoints"]},
    )
    assert browser.address() == "#/services/shop/search?cluster=west"
    zones = {endpoint["zone"] for endpoint in row_of(demo, "backend", "west")["endpoints"]}
    browser.until("its zones", lambda: {text.split("\n")[0] for text in browser.texts(".zone h5")} == zones)
    assert browser.console() == []


def test_the_objects_behind_a_decision(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url, "#/services/shop/cart?cluster=east")
    text = browser.until(
        "the decision", lambda: "SessionAffinity" in (text := browser.text("[aria-labelledby=routing]")) and text
    )
    assert "Because of Service shop/cart" in text
    assert "the Service has session affinity ClientIP" in text


def test_what_clusters_export_together(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url, "#/services/shop/cart")
    browser.until("the set's name", lambda: "cart.shop.svc.clusterset.local" in browser.text(".set"))
    assert "east: its endpoints count" in browser.text(".set")


def test_a_service_that_is_not_there_has_near_ones(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url, "#/services/shop/cast")
    browser.until("it says so", lambda: "No cluster has a Service shop/cast." in browser.text("main"))
    browser.link("shop/cart").click()
    browser.until("the near one", lambda: browser.text("h1") == "shop/cart")


def test_an_unknown_view_says_so(browser: Browser, demo: Demo) -> None:
    for address in ("#/nowhere", "#/services/shop", "#/services/%E0%A4%A/x/y"):
        browser.open(demo.url, address)
        browser.until("it says so", lambda: browser.text("h1") == "There is no such view")
    assert browser.console() == []
