"""Routers and clusters, on the demo with clients of our own: who has what, who is late, who refuses."""

from collections.abc import Iterator

import pytest

from tests.support.ads_router import AdsRouter
from tests.support.browser import Browser
from tests.support.demo import Demo

CART = "cart.shop.svc.cluster.local:80"


@pytest.fixture
def routers(demo: Demo) -> Iterator[dict[str, AdsRouter]]:
    """One in each cluster; both follow the cart."""
    made = {cluster: AdsRouter(demo.xds, f"edge-{cluster}", cluster, CART) for cluster in ("east", "west")}
    yield made
    for each in made.values():
        each.close()


def line_of(browser: Browser, selector: str, node: str) -> str:
    return next((text for text in browser.texts(f"{selector} tbody tr") if text.startswith(node)), "")


def test_who_has_what_who_is_late_and_who_refuses(browser: Browser, demo: Demo, routers: dict[str, AdsRouter]) -> None:
    browser.open(demo.url, "#/routers")
    for cluster in routers:
        browser.until("it is there", lambda c=cluster: "up to date" in line_of(browser, "main", f"edge-{c}"))
        assert cluster in line_of(browser, "main", f"edge-{cluster}").split("\t")
    routers["west"].wait()
    browser.until("it falls behind", lambda: "behind" in line_of(browser, "main", "edge-west"))
    browser.until("by which Services", lambda: "edge-west has version" in browser.text("[aria-labelledby=late]"))
    browser.screenshot("routers-late")
    assert browser.violations() == []
    browser.open(demo.url, "#/services/shop/cart")
    browser.until("late here too", lambda: "behind" in line_of(browser, "[aria-labelledby=routers]", "edge-west"))
    routers["west"].go_on()
    browser.until("and again not", lambda: "up to date" in line_of(browser, "[aria-labelledby=routers]", "edge-west"))
    routers["east"].refuse("<b>not this</b>")
    browser.open(demo.url, "#/routers")
    browser.until("its words, as text", lambda: "<b>not this</b>" in line_of(browser, "main", "edge-east"))
    assert browser.console() == []


def test_clusters_are_as_the_server_has_them(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url, "#/clusters")
    for cluster in demo.get("/v1/clusters")["items"]:
        card = f"section[aria-label='Cluster {cluster['name']}']"
        browser.until("its epoch", lambda c=card, e=cluster["epoch"]: f"Epoch\n{e}" in browser.text(c))
        browser.find(f"{card} details summary").click()
        rows = browser.texts(f"{card} tbody tr")
        assert [row.split("\t")[0] for row in rows] == [str(each["partition"]) for each in cluster["partitions"]]
    assert browser.console() == []
