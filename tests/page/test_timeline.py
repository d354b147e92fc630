"""A Service's timeline and two moments of it, on the demo: against what `/v1/history` and `?at=` say themselves."""

import re
import subprocess
import sys
from typing import Any
from urllib.parse import quote

from selenium.webdriver.common.keys import Keys

from tests.support.browser import Browser
from tests.support.demo import Demo

CART = "#/services/shop/cart"


def addresses(browser: Browser) -> set[str]:
    return set(browser.texts("table.endpoints tbody td:nth-child(2)"))


def moments(demo: Demo, cluster: str = "") -> list[dict[str, Any]]:
    """The Service's rows in the journal so far, oldest first."""
    query = f"&cluster={cluster}" if cluster else ""
    return list(demo.get(f"/v1/history/shop/cart?limit=1000{query}")["items"])


def endpoints_at(demo: Demo, at: str, cluster: str = "") -> set[str]:
    """What the server says was in the set then: folded anew, not by what the page does."""
    query = f"&cluster={cluster}" if cluster else ""
    items = demo.get(f"/v1/facets/backend?namespace=shop&service=cart&at={quote(at)}{query}")["items"]
    return {endpoint["address"] for row in items for endpoint in row["endpoints"]}


def wait_for_changes(browser: Browser, demo: Demo) -> list[dict[str, Any]]:
    """The demo deletes and makes the Service again every few seconds: until there is something to look back at."""
    return list(browser.until("changes", lambda: len(found := moments(demo, "east")) > 8 and found))


def test_each_moment_is_as_the_server_says_it_was(browser: Browser, demo: Demo) -> None:
    rows = wait_for_changes(browser, demo)
    for row in rows[1:8:3]:
        at = row["asOf"]["at"]
        browser.open(demo.url, f"{CART}/timeline?cluster=east&at={quote(at)}")
        browser.until("the moment", lambda a=at: a[11:23] in browser.text("#changed"))
        expected = endpoints_at(demo, at, "east")
        browser.until(f"the set at {at}", lambda e=expected: addresses(browser) == e)
        for cause in row["cause"]:
            assert f"{cause['kind']} {cause['name']}@{cause['resourceVersion']}" in browser.text(".came")
    assert browser.console() == []


def test_the_timeline_is_scrubbed_by_keys_and_clicks(browser: Browser, demo: Demo) -> None:
    rows = wait_for_changes(browser, demo)
    first = rows[0]["asOf"]["at"]
    browser.open(demo.url, f"{CART}/timeline?cluster=east")
    scrub = browser.find("#scrub")
    scrub.send_keys(Keys.HOME)
    browser.until("the first change", lambda: first[11:23] in browser.text("#changed"))
    assert f"at={quote(first)}" in browser.address()
    second = next(row["asOf"]["at"] for row in rows if row["asOf"]["at"] > first)
    browser.find("#scrub").send_keys(Keys.ARROW_RIGHT)
    browser.until("the next", lambda: second[11:23] in browser.text("#changed"))
    browser.find("button[aria-label='First change']").click()
    browser.until("the first again", lambda: first[11:23] in browser.text("#changed"))
    browser.find("svg.marks").click()
    browser.until("one in the middle", lambda: first[11:23] not in browser.text("#changed"))
    field = browser.find("#at")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys(second[11:23] + "Z", Keys.ENTER)
    browser.until("the moment that is typed", lambda: second[11:23] in browser.text("#changed"))
    field = browser.find("#at")
    field.send_keys(Keys.CONTROL, "a")
    field.send_keys("whenever", Keys.ENTER)
    browser.until("what is wrong with it", lambda: browser.run("return !document.getElementById('at').checkValidity()"))
    assert browser.console() == []


def test_the_newest_is_followed(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url, f"{CART}/timeline")
    browser.find("#scrub")
    count = "return Number(document.getElementById('scrub').max)"
    before = browser.run(count)
    browser.until("the next change is there by itself", lambda: browser.run(count) > before)


def test_two_moments_compared(browser: Browser, demo: Demo) -> None:
    rows = [row for row in wait_for_changes(browser, demo) if row["table"] == "backend"]
    # From a moment with endpoints to one without, or the other way.
    times = sorted({row["asOf"]["at"] for row in rows})
    sets = {at: endpoints_at(demo, at, "east") for at in times[-6:]}
    early, late = next((a, b) for a in sets for b in sets if a < b and sets[a] != sets[b])
    browser.open(demo.url, f"{CART}/compare?cluster=east&from={quote(early)}&to={quote(late)}")

    def signs(word: str) -> set[str]:
        found = browser.texts(f".differences li.{word} .mono")
        return {re.sub(r":[\d,]+$", "", text) for text in found}

    expected = (sets[late] - sets[early], sets[early] - sets[late])
    browser.until("what differs", lambda: (signs("added"), signs("removed")) == expected)
    browser.find("button[aria-label='to: change before']")
    command = browser.text("#command-text").split()
    done = subprocess.run(
        [sys.executable, "-m", "streams.cli", *command[1:]], env=demo.environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr  # As of diff: they differ.
    for address in sets[late] - sets[early]:
        assert re.search(rf"^\+ east +backend +{re.escape(address)}:", done.stdout, re.MULTILINE), done.stdout
    assert browser.console() == []


def test_the_past_of_nothing_says_so(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url, "#/services/shop/serch/timeline")
    browser.until("not known", lambda: "The past is not known" in browser.text("main"))
    assert "search" in browser.text("main")  # A near name.
    browser.open(demo.url, f"{CART}/timeline?at=2020-01-01T00:00:00Z")
    browser.until("before everything", lambda: "Before the first change" in browser.text("#changed"))
    browser.open(demo.url, f"{CART}/timeline?at=nonsense")
    browser.until("the newest", lambda: browser.text("#changed"))
