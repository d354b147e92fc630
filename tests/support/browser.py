"""Headless Chromium, driven as a person would: clicks, keys, and what can be seen."""

import shutil
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

DEADLINE = 60
BUILD = Path(__file__).parents[2] / "build" / "page"
WIDE, NARROW = (1440, 900), (360, 740)

MISSING = (
    "no Chromium with its driver was found, which the tests of the page need: on Debian or Ubuntu "
    "`apt-get install chromium chromium-driver`; or put `chromium` (or `google-chrome`) and `chromedriver` on the PATH"
)


class MissingBrowser(Exception):
    """There is no browser."""


def _found(*names: str) -> str:
    for name in names:
        if path := shutil.which(name):
            return path
    raise MissingBrowser(MISSING)


@cache
def _axe() -> str:
    return files("axe_core_python").joinpath("axe.min.js").read_text()


class Browser:
    """A window, and the page of a server in it."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = _found("chromium", "chromium-browser", "google-chrome")
        # Without a sandbox of its own: tests may run as root, in a container.
        for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--js-flags=--expose-gc"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(_found("chromedriver")))
        self.driver.set_script_timeout(DEADLINE)
        self.size(*WIDE)
        self.base = ""

    def quit(self) -> None:
        self.driver.quit()

    # ---- the window ------------------------------------------------------------------------------------

    def size(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def colours(self, scheme: str) -> None:
        """`light` or `dark`, as the system is set."""
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})

    def screenshot(self, name: str) -> Path:
        """What can be seen, as build/page/NAME.png."""
        BUILD.mkdir(parents=True, exist_ok=True)
        path = BUILD / f"{name}.png"
        assert self.driver.save_screenshot(str(path))
        return path

    # ---- the page --------------------------------------------------------------------------------------

    def open(self, base: str, address: str = "#/") -> None:
        """Load the page anew, and wait until it has read everything."""
        self.base = base
        self.console()
        self.driver.get("about:blank")
        self.driver.get(f"{base}/{address}")
        self.until("the page has read everything", lambda: self.run("return globalThis.facets?.store.complete"))

    def run(self, script: str, *arguments: Any) -> Any:
        """The result of a script, in which `await` may be used."""
        wrapped = (
            "const done = arguments[arguments.length - 1];"
            f"(async (...given) => {{ {script} }})(...[...arguments].slice(0, -1))"
            ".then((value) => done([value]), (error) => done(`${error.stack}`));"
        )
        answer = self.driver.execute_async_script(wrapped, *arguments)
        assert isinstance(answer, list), answer
        return answer[0]

    def until(self, what: str, condition: Callable[[], Any], seconds: float = DEADLINE) -> Any:
        """Wait until it is so; what is read anew while it is looked at counts as not yet."""
        wait = WebDriverWait(
            self.driver, seconds, poll_frequency=0.05, ignored_exceptions=(StaleElementReferenceException,)
        )
        return wait.until(lambda _: condition(), f"{what}: {self.text('main')[:2000]}")

    def find(self, selector: str) -> WebElement:
        """The first element that can be seen, once there is one."""
        found: WebElement = self.until(f"{selector} is there", lambda: self._visible(selector))
        return found

    def _visible(self, selector: str) -> WebElement | None:
        return next((each for each in self.all(selector) if each.is_displayed()), None)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def link(self, text: str) -> WebElement:
        found: WebElement = self.until(
            f"link {text}", lambda: next(iter(self.driver.find_elements(By.LINK_TEXT, text)), None)
        )
        return found

    def text(self, selector: str) -> str:
        """All that can be read there."""
        return str(self.run("return document.querySelector(given[0])?.innerText ?? ''", selector))

    def texts(self, selector: str) -> list[str]:
        script = "return [...document.querySelectorAll(given[0])].map((each) => each.innerText)"
        return list(self.run(script, selector))

    def address(self) -> str:
        return str(self.run("return location.hash"))

    def console(self) -> list[str]:
        """What the console has said since it was last asked: errors of scripts, and breaches of the policy."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    # ---- what it is judged by ----------------------------------------------------------------------------

    def violations(self) -> list[str]:
        """What axe-core finds that is serious or worse."""
        self.driver.execute_script(_axe())
        report = self.run("return await axe.run(document, { resultTypes: ['violations'] })")
        serious = [found for found in report["violations"] if found["impact"] in {"serious", "critical"}]
        return [f"{found['id']}: {found['help']}: {[n['html'][:200] for n in found['nodes'][:5]]}" for found in serious]

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def heap(self) -> int:
        """The bytes that its scripts hold, after garbage is collected."""
        self.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        return int(self.driver.execute_cdp_cmd("Runtime.getHeapUsage", {})["usedSize"])
