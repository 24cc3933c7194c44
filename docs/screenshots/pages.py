"""Pictures of the pages that ``mtask-sinks plot`` and ``mtask-sinks report`` write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.browser import Browser
from helpers.command import command


@contextmanager
def plot(browser: Browser, runs: Path, work: Path) -> Iterator[None]:
    """Curves of two runs, with what one point says."""
    page = work / "plot.html"
    command("plot", str(runs / "demo-1"), str(runs / "demo-2"), "--smooth", "0.6", "-o", str(page))
    browser.driver.set_window_size(1300, 960)
    browser.open(page)
    browser.evaluate("Plotly.Fx.hover(document.querySelector('.plot'), [{curveNumber: 1, pointNumber: 12}])")
    yield


@contextmanager
def report(browser: Browser, runs: Path, work: Path) -> Iterator[None]:
    """The beginning of a report about two runs."""
    page = work / "report.html"
    command("report", "demo-1", "demo-2", "--smooth", "0.6", "-o", str(page), cwd=runs)
    browser.driver.set_window_size(1300, 1900)
    browser.open(page)
    yield
