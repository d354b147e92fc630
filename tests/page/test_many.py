"""Ten thousand Services: few elements, every row within reach, the filter right, and what it costs."""

import json
from typing import Any

from selenium.webdriver.common.keys import Keys

from tests.page.many_services import CLUSTERS, SERVICES, ManyServices, endpoints, name_of, namespace_of, service
from tests.support.browser import BUILD, NARROW, Browser

MOST_ELEMENTS = 1500
CHANGES = 3000
GROWTH = 30_000_000


def shown(browser: Browser) -> list[str]:
    return list(browser.run("return [...document.querySelectorAll('.sheet .row a')].map((each) => each.textContent)"))


def note(**figures: Any) -> None:
    """Write figures down, for people: nothing is asserted of times."""
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / "figures.json"
    held = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**held, **figures}, indent=2))


def test_ten_thousand_rows(browser: Browser, many: ManyServices) -> None:
    browser.open(many.url)
    browser.until("all are read", lambda: browser.text("#count") == "10,000 Services")
    paint = browser.run(
        "return Object.fromEntries(performance.getEntriesByType('paint').map((e) => [e.name, e.startTime]))"
    )
    note(paint_milliseconds=paint, heap_megabytes=browser.heap() / 1e6)
    assert browser.run("return document.querySelectorAll('*').length") < MOST_ELEMENTS
    browser.screenshot("many-light")
    # From the first to the last, with one key.
    browser.find("#list").send_keys(Keys.END)
    last = max(range(SERVICES), key=lambda number: f"{namespace_of(number)}/{name_of(number)}")
    browser.until("the last", lambda: shown(browser)[-1] == f"{namespace_of(last)}/{name_of(last)}")
    assert browser.run("return document.querySelectorAll('*').length") < MOST_ELEMENTS
    browser.find("#list").send_keys(Keys.HOME)
    browser.until("the first", lambda: shown(browser)[0] == f"{namespace_of(0)}/{name_of(0)}")
    assert browser.console() == []


def test_scrolling_and_typing_keep_up(browser: Browser, many: ManyServices) -> None:
    """Figures only: how long frames take while the list is scrolled through, and a filter is typed."""
    browser.open(many.url)
    scroll = """
        const list = document.getElementById('list');
        const frames = [];
        let last = performance.now();
        for (let i = 0; i < 200; i++) {
            list.scrollTop += 1700;
            await new Promise(requestAnimationFrame);
            const now = performance.now();
            frames.push(now - last);
            last = now;
        }
        frames.sort((one, other) => one - other);
        return { p50: frames[100], p95: frames[190], longest: frames.at(-1) };
    """
    typing = """
        const field = document.getElementById('filter');
        const times = [];
        for (const text of ['s', 'se', 'service-00', 'zone:zone-b', 'pod:service-0042-1', '10.10.', 'state:down', '']) {
            const begin = performance.now();
            field.value = text;
            field.dispatchEvent(new Event('input', { bubbles: true }));
            times.push([text, performance.now() - begin]);
        }
        return Object.fromEntries(times);
    """
    note(scroll_frame_milliseconds=browser.run(scroll), filter_milliseconds=browser.run(typing))
    assert browser.text("#count") == "10,000 Services"


def test_the_filter_finds_what_a_plain_search_finds(browser: Browser, many: ManyServices) -> None:
    browser.open(many.url)
    slices = {(c, n): endpoints(n, c)["endpoints"] for c in CLUSTERS for n in range(SERVICES)}
    node = "east-node-7"
    for text, expected in (
        (f"node:{node}", {key for key, found in slices.items() if any(node in e["nodeName"] for e in found)}),
        ("ns:team-07 cluster:west", {("west", n) for n in range(SERVICES) if namespace_of(n) == "team-07"}),
        ("state:empty", {key for key, found in slices.items() if not found}),
        ("reason:sessionaffinity cluster:east", {
            ("east", n) for n in range(SERVICES) if service(n)["spec"]["sessionAffinity"] == "ClientIP" and n % 11
        }),
        ("10.10.1.77", {key for key, found in slices.items() if any("10.10.1.77" in e["addresses"][0] for e in found)}),
        ("pod:service-0042-1", {(c, 42) for c in CLUSTERS}),
        ("service-0042 -cluster:east", {("west", 42)}),
    ):  # fmt: skip
        field = browser.find("#filter")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text)
        count = f"{len(expected):,} of 10,000"
        browser.until(f"{text}: {count}", lambda c=count: browser.text("#count") == c)
        if len(expected) < 20:
            assert sorted(shown(browser)) == sorted(f"{namespace_of(n)}/{name_of(n)}" for _, n in expected)


def test_memory_does_not_grow_with_changes(browser: Browser, many: ManyServices) -> None:
    browser.open(many.url)
    before = browser.heap()
    held = browser.run("return facets.store.entries.get('east/team-02/service-0002').backend.version")
    for turn in range(CHANGES // 100):
        many.tables.put(*(endpoints(number, "east", 1 + turn % 2) for number in range(2, 102)), cluster="east")
    version = "return facets.store.entries.get('east/team-02/service-0002').backend.version"
    browser.until("they have come", lambda: browser.run(version) > held)
    last = many.tables.version
    newest = """
        const rows = [...facets.store.entries.values()];
        return Math.max(...rows.map(({ backend }) => Number(backend?.cause[0]?.resourceVersion ?? 0)));
    """
    browser.until("all of them", lambda: browser.run(newest) == last)
    after = browser.heap()
    note(heap_megabytes_after_changes={"changes": CHANGES, "before": before / 1e6, "after": after / 1e6})
    assert after - before < GROWTH


def test_narrow_and_dark(browser: Browser, many: ManyServices) -> None:
    browser.colours("dark")
    browser.open(many.url)
    browser.screenshot("many-dark")
    browser.size(*NARROW)
    browser.until(
        "two lines a row", lambda: browser.run("return document.querySelector('.sheet .row').offsetHeight") == 60
    )
    assert browser.overflow() == 0
    browser.screenshot("many-narrow")
