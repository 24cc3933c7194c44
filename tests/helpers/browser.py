"""Headless Chromium, driven by selenium: shows what a user would see on a page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.support.ui import WebDriverWait

#: Seconds that a page may take. On an idle machine the slowest takes 5.
LIMIT = 120.0

#: Why a test is skipped if Chromium is not installed.
HOW_TO_GET_IT = "no Chromium: apt-get install chromium chromium-driver"

T = TypeVar("T")

_DEEP_TEXT = """
const lines = [];
function walk(node) {
  if (["STYLE", "SCRIPT", "NOSCRIPT"].includes(node.nodeName)) return;
  if (node.nodeType === Node.TEXT_NODE && node.textContent.trim()) lines.push(node.textContent.trim());
  if (node.shadowRoot) walk(node.shadowRoot);
  node.childNodes.forEach(walk);
}
walk(document.body);
return lines.join("\\n");
"""


class Browser:
    """A window of Chromium, with the few methods that the tests need.

    Attributes:
        driver: selenium's driver, for everything else.
    """

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, address: str | Path) -> None:
        """Go to an address, or to a file."""
        self.driver.get(address.absolute().as_uri() if isinstance(address, Path) else address)

    def wait_for(self, what: Callable[[Browser], T]) -> T:
        """Wait for a result of ``what`` that is not empty. Retries if an element disappears meanwhile."""
        waiting = WebDriverWait(self, LIMIT, poll_frequency=0.1, ignored_exceptions=(WebDriverException,))
        return waiting.until(what)  # type: ignore[arg-type, return-value]

    def evaluate(self, script: str, *args: object) -> object:
        """Run JavaScript, and return what its ``return`` gives."""
        return self.driver.execute_script(script, *args)

    def text(self) -> str:
        """Return all visible text."""
        return str(self.evaluate("return document.body.innerText"))

    def deep_text(self) -> str:
        """Return all text of the page, visible or not, also in shadow trees, with one line per node."""
        return str(self.evaluate(_DEEP_TEXT))

    def errors(self) -> list[str]:
        """Return the errors in the browser's console since the last call."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]

    def screenshot(self, path: Path) -> Path:
        """Save the visible part as a PNG file."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self.driver.save_screenshot(str(path)):
            raise OSError(f"no screenshot in {path}")
        return path


def is_installed() -> bool:
    return None not in (shutil.which("chromium"), shutil.which("chromedriver"))


@contextmanager
def chromium(profile: Path, width: int = 1400, height: int = 1000) -> Iterator[Browser]:
    """Open a window of this size in pixels, with its own profile. Closes it in any case."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(shutil.which("chromium"))
    for option in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "disable-dev-shm-usage",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        f"user-data-dir={profile}",
        f"window-size={width},{height}",
    ):
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        driver.set_page_load_timeout(LIMIT)
        yield Browser(driver)
    finally:
        driver.quit()
