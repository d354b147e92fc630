"""Each view: nothing serious for axe-core in light and dark, nothing wider than a narrow window, a picture."""

import pytest

from tests.support.browser import NARROW, WIDE, Browser
from tests.support.demo import Demo

VIEWS = {
    "list": "#/",
    "list-filtered": "#/?q=cart",
    "service": "#/services/shop/cart",
    "service-of-a-cluster": "#/services/payments/ledger?cluster=east",
    "service-missing": "#/services/shop/cast",
    "timeline": "#/services/shop/cart/timeline",
    "compare": "#/services/shop/cart/compare",
    "routers": "#/routers",
    "clusters": "#/clusters",
}


@pytest.mark.parametrize("view", VIEWS)
def test_view(browser: Browser, demo: Demo, view: str) -> None:
    for scheme in ("light", "dark"):
        browser.size(*WIDE)
        browser.colours(scheme)
        browser.open(demo.url, VIEWS[view])
        browser.until("it has answered", lambda: not {"Asking", "Reading the past"} & set(browser.texts(".wait")))
        browser.screenshot(f"{view}-{scheme}")
        assert browser.violations() == [], scheme
    browser.size(*NARROW)
    browser.screenshot(f"{view}-narrow")
    assert browser.overflow() == 0
    assert browser.violations() == [], "narrow"
