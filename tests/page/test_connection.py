"""The page says when it is not live, and goes on where it was: over a restart of the server, and after a sleep."""

from tests.support.browser import Browser
from tests.support.demo import Demo

OUTAGE_EVERY = 90
"""Seconds between two outages of the demo's west."""

REQUESTS = """
    globalThis.asked = [];
    const before = globalThis.fetch;
    globalThis.fetch = (url, options) => {
        asked.push([String(url), options?.headers?.['Last-Event-ID'] ?? '']);
        return before(url, options);
    };
"""


def streams(browser: Browser) -> list[str]:
    """The cursors with which streams were asked for since REQUESTS."""
    return list(browser.run("return asked.filter(([url]) => url.startsWith('v1/changes')).map(([, cursor]) => cursor)"))


def test_over_a_restart_of_the_server_it_goes_on_where_it_was(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url, "#/services/shop/cart?cluster=east")
    browser.until("a cursor", lambda: browser.run("return facets.changes.cursor"))
    browser.run(REQUESTS)
    browser.run(
        "globalThis.resets = []; facets.store.addEventListener('reset', ({ detail }) => resets.push(detail.reason))"
    )
    cursor = browser.run("return facets.changes.cursor")
    demo.end_server()
    browser.until("it says so", lambda: browser.text("#connection") == "disconnected")
    browser.until("with the time", lambda: "What you see is as of" in browser.text("#notice"))
    browser.screenshot("disconnected")
    browser.until("it is back", lambda: browser.text("#connection") == "live")
    assert "Disconnected" not in browser.text("#notice")
    # With the last event's id, so that no snapshot is needed: nothing is missed, nothing is read again.
    assert streams(browser)
    assert all(streams(browser))
    assert streams(browser)[0] >= cursor[:1]
    version = browser.run("return facets.store.entries.get('east/shop/cart')?.routing?.version ?? -1")
    browser.until(
        "changes come",
        lambda: browser.run("return facets.store.entries.get('east/shop/cart')?.routing?.version ?? -1") > version,
    )
    assert [reason for reason in browser.run("return resets") if reason in {"expired", "lost", "gap", "start"}] == []


def test_after_a_sleep_it_connects_again_at_once(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url)
    browser.run(REQUESTS)
    # The machine's clock goes on for an hour while the page does not.
    browser.run("const now = Date.now; Date.now = () => now() + 3_600_000")
    browser.until("it asks anew, from where it was", lambda: any(streams(browser)))
    browser.until("it is live", lambda: browser.text("#connection") == "live")


def test_a_server_that_is_silent_is_left(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url)
    browser.run(REQUESTS)
    # Nothing comes any more, though the connection is open: as when a machine between is gone.
    browser.run("""
        const read = ReadableStreamDefaultReader.prototype.read;
        const gate = new Promise((resolve) => (globalThis.release = resolve));
        ReadableStreamDefaultReader.prototype.read = function () { return gate.then(() => read.call(this)) };
    """)
    browser.until("it says that it is late", lambda: browser.text("#connection") == "late")
    browser.until("and what that means", lambda: "what you see may be old" in browser.text("#notice"))
    browser.until("it gives it up", lambda: "silent" in browser.run("return facets.changes.interrupted"))
    browser.run("release()")
    browser.until("it asks anew", lambda: any(streams(browser)))
    browser.until("it is live", lambda: browser.text("#connection") == "live")


def test_a_cluster_that_is_out_of_reach_is_shown_so(browser: Browser, demo: Demo) -> None:
    """Every 90 seconds west's API server is gone for eleven: its rows are stale then, and ready again after."""
    browser.open(demo.url, "#/?q=state%3Astale")
    browser.until(
        "west is stale",
        lambda: browser.texts(".sheet .row .c2") and set(browser.texts(".sheet .row .c2")) == {"west"},
        seconds=2 * OUTAGE_EVERY,
    )
    browser.screenshot("stale")
    browser.until("and comes back", lambda: browser.texts(".sheet .row .c2") == [])


def test_a_damaged_cursor_leads_to_a_snapshot(browser: Browser, demo: Demo) -> None:
    browser.open(demo.url)
    browser.run(REQUESTS)
    browser.run("""
        const { Changes } = await import('./page/changes.js');
        globalThis.taken = [];
        const other = new Changes(() => 'v1/changes?table=frontend', (name) => taken.push(name), () => {});
        const asked = globalThis.fetch;
        let broken = true;
        globalThis.fetch = (url, options) => {
            const headers = broken ? { 'Last-Event-ID': 'damaged' } : options.headers;
            if (broken) globalThis.fetch = asked;
            broken = false;
            return asked(url, { ...options, headers });
        };
        other.start();
    """)
    browser.until("a snapshot", lambda: "snapshot" in browser.run("return taken"))
