"""Opens the pages that ``mtask-sinks plot`` and ``mtask-sinks report`` write."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.browser import Browser
from helpers.command import command
from helpers.documents import code_of

# Moves the mouse to the middle of a panel.
_POINT = """
const titled = (panel) => panel.querySelector("figcaption").innerText.startsWith(arguments[0]);
const plot = [...document.querySelectorAll(".panel")].find(titled).querySelector(".plot");
const box = plot.getBoundingClientRect();
const place = { clientX: box.left + box.width * 0.55, clientY: box.top + box.height * 0.5, bubbles: true };
plot.dispatchEvent(new MouseEvent("mousemove", place));
"""


@contextmanager
def plot(browser: Browser, runs: Path, work: Path) -> Iterator[None]:
    """Open the curves of two runs, with the values of one point."""
    page = work / "plot.html"
    command("plot", str(runs / "demo-1"), str(runs / "demo-2"), "-o", str(page))
    browser.driver.set_window_size(1300, 1340)
    browser.open(page)
    _wait(browser)
    browser.evaluate(_POINT, "mlm/loss")
    yield


@contextmanager
def report(browser: Browser, runs: Path, work: Path) -> Iterator[None]:
    """Open the beginning of a report about two runs."""
    page = work / "report.html"
    command("report", "demo-1", "demo-2", "-o", str(page), cwd=runs)
    browser.driver.set_window_size(1300, 1340)
    browser.open(page)
    _wait(browser)
    yield


def _wait(browser: Browser) -> None:
    """Wait until the panels in view are drawn."""
    browser.wait_for(lambda page: page.evaluate("return document.documentElement.dataset.charts === 'drawn'"))


@contextmanager
def task_health(browser: Browser, runs: Path, work: Path) -> Iterator[None]:
    """Open the gradients of the example in docs/task-health.md, with more text and steps than the page uses."""
    (script,) = code_of("docs/task-health.md", "python")
    more = {"[:60]": "[:400]", "max_steps=40": "max_steps=300", "logging_steps=20": "logging_steps=15"}
    for old, new in {**more, "every=2": "every=5"}.items():
        assert old in script, old
        script = script.replace(old, new)
    (work / "conflict.py").write_text(script)
    subprocess.run([sys.executable, "conflict.py"], cwd=work, check=True)
    command("report", "out/conflict", "-o", "health.html", cwd=work)
    browser.driver.set_window_size(900, 700)
    browser.open(work / "health.html")
    browser.evaluate("document.getElementById('gradients').closest('section').scrollIntoView()")
    yield
