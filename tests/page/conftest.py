"""What is looked at, and what it is looked at with. Without a browser the tests fail: a skipped test proves nothing."""

from collections.abc import Iterator

import pytest

from streams.local.kafka.broker import EmbeddedKafka
from tests.page.many_services import ManyServices
from tests.support.browser import Browser, MissingBrowser
from tests.support.demo import Demo


@pytest.fixture(scope="session")
def window() -> Iterator[Browser]:
    """The run's browser."""
    try:
        browser = Browser()
    except MissingBrowser as missing:
        pytest.fail(str(missing))
    yield browser
    browser.quit()


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    """The browser as it is at first; a test fails in which a script of the page fails, or breaks its policy."""
    window.size(1440, 900)
    window.colours("light")
    window.console()
    yield window
    window.driver.get("about:blank")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """Two recorded clusters."""
    running = Demo(tmp_path_factory.mktemp("demo"))
    yield running
    running.close()


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ManyServices]:
    """Ten thousand Services."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kafka")) as broker:
        running = ManyServices(broker.bootstrap_servers)
        yield running
        running.close()
