"""The list of Services, on the demo: what it has, the filter, keys, and that it goes on with the clusters."""

import shlex
import subprocess
import sys
from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.browser import Browser
from tests.support.demo import Demo


def names(browser: Browser) -> list[str]:
    script = """return [...document.querySelectorAll('.sheet .row')]
        .map((row) => row.querySelector('.c2').textContent + '/' + row.querySelector('a').textContent)"""
    return list(browser.run(script))


def rows_of(demo: Demo, table: str) -> dict[str, dict[str, Any]]:
    return {
        f"{row['cluster']}/{row['namespace']}/{row['name']}": row for row in demo.get(f"/v1/facets/{table}")["items"]
    }


def type_filter(browser: Browser, text: str) -> None:
    field = browser.find("#filter")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(Keys.DELETE)
    if text:
        field.send_keys(text)


def test_every_service_of_every_cluster_is_there(browser: Browser, demo: Demo) -> None:
    browser.size(1440, 2200)
    browser.open(demo.url)
    # Of the demo some Services come and go: all are there at one moment.
    browser.until("the same as the tables", lambda: set(names(browser)) == set(rows_of(demo, "routing")))
    shown = names(browser)
    assert shown == sorted(shown, key=lambda each: (each.split("/", 1)[1], each.split("/")[0]))
    assert browser.text("#connection") == "live"
    assert browser.console() == []


def test_the_filter_finds_by_address_pod_node_zone_and_decision(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url)
    steady = "east/shop/search"

    def endpoint() -> dict[str, Any]:
        return next(each for each in rows_of(demo, "backend")[steady]["endpoints"] if each["zone"])

    for field, value in (
        ("", lambda: endpoint()["address"]),
        ("address:", lambda: endpoint()["address"]),
        ("pod:", lambda: endpoint()["target"]["name"]),
        ("node:", lambda: endpoint()["node"]),
        ("zone:", lambda: endpoint()["zone"]),
        ("name:", lambda: "search"),
        ("cluster:", lambda: "east"),
        ("decision:", lambda: "endpoint"),
        ("state:", lambda: rows_of(demo, "backend")[steady]["state"]),
    ):
        text = f"{field}{value()}"
        type_filter(browser, text)
        browser.until(f"{text} finds it", lambda: steady in names(browser))
        assert f"q={text.replace(':', '%3A')}" in browser.address()
    type_filter(browser, "cluster:west search")
    browser.until("only west's", lambda: names(browser) == ["west/shop/search"])
    type_filter(browser, "search -cluster:west")
    browser.until("only east's", lambda: names(browser) == [steady])
    type_filter(browser, "nothing-has-this")
    browser.until("it says so", lambda: "No Service has all of these words" in browser.text("#nothing"))
    browser.find("#nothing button").click()
    browser.until("all again", lambda: len(names(browser)) > 10)
    assert browser.console() == []


def test_an_address_that_is_sent_shows_the_same(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url, "#/?q=cluster%3Awest+cart&sort=changed")
    browser.until("west's cart alone", lambda: names(browser) == ["west/shop/cart"])
    assert browser.find("#filter").get_attribute("value") == "cluster:west cart"
    assert browser.find("#order").get_attribute("value") == "changed"


def test_keys_lead_to_a_service_and_back(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url, "#/routers")
    body = browser.driver.find_element(By.TAG_NAME, "body")
    body.send_keys("/")
    browser.until("the filter has the focus", lambda: browser.run("return document.activeElement.id") == "filter")
    browser.driver.switch_to.active_element.send_keys("cart cluster:east")
    browser.until("found", lambda: names(browser) == ["east/shop/cart"])
    browser.driver.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    assert browser.run("return document.activeElement.id") == "list"
    active = browser.run(
        "return document.getElementById(document.activeElement.getAttribute('aria-activedescendant')).textContent"
    )
    assert "cart" in active
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.until("its view", lambda: browser.text("h1") == "shop/cart")
    assert browser.address() == "#/services/shop/cart?cluster=east"
    browser.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    browser.until("the list again", lambda: browser.run("return location.hash") == "#/")
    browser.driver.back()
    browser.until("back to it", lambda: browser.text("h1") == "shop/cart")


def test_a_change_comes_by_itself(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url)
    script = "return facets.store.entries.get('east/shop/cart')?.routing?.version ?? -1"
    before = browser.run(script)
    browser.until("the demo changes it", lambda: browser.run(script) > before)
    browser.until("and it is shown", lambda: browser.run("return document.querySelector('.sheet .flash') !== null"))


def test_the_command_below_gives_what_is_shown(browser: Browser, demo: Demo) -> None:
    for address, expected in (
        ("#/?q=cluster%3Aeast+ns%3Ashop", "cart"),
        ("#/services/shop/cart?cluster=east", "cart"),
        ("#/routers", ""),
        ("#/clusters", "east"),
    ):
        browser.open(demo.url, address)
        command = shlex.split(browser.text("#command-text"))
        assert command[0] == "facets"
        done = subprocess.run(
            [sys.executable, "-m", "streams.cli", *command[1:]], env=demo.environment, capture_output=True, text=True,
            check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
