"""Opens the pages on which the backends show the demo. Each backend has its own server."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helpers.browser import Browser
from helpers.documents import python_of
from helpers.mlflow_server import mlflow_server
from helpers.tensorboard_server import tensorboard_server

#: Seconds for a page to draw its curves after it has loaded the data.
SECONDS = 4.0

_HIDE = """
function walk(node) {
  if (node.id === arguments_[0]) node.style.display = "none";
  if (node.shadowRoot) walk(node.shadowRoot);
  node.childNodes.forEach(walk);
}
const arguments_ = arguments;
walk(document.body);
"""

# The cross that closes the assistant is in the corner of the window.
_CLOSE_ASSISTANT = "document.elementFromPoint(innerWidth - 37, 36).closest('button').click()"

_UNCHECK = """
[...document.querySelectorAll("mat-checkbox")].find(box => box.innerText.startsWith(arguments[0]))
  .querySelector("input").click()
"""

# Makes room for four charts side by side.
_WITHOUT_SIDEBAR = """
document.querySelectorAll(".sidebar, .resizer").forEach(part => part.style.display = "none");
document.body.style.zoom = 0.75;
"""


@contextmanager
def tasks(browser: Browser, runs: Path, work: Path) -> Iterator[None]:
    """Open the tab Time Series for the README's script: one section per task."""
    (script,) = python_of("README.md")
    (work / "train.py").write_text(script)
    subprocess.run([sys.executable, "train.py"], cwd=work, check=True)
    with tensorboard_server(work / "out", work / "tasks.log") as url:
        browser.driver.set_window_size(1100, 1250)
        browser.open(f"{url}/?smoothing=0#timeseries")
        browser.wait_for(lambda page: "sold" in page.text())
        for title in ("Enable step selection", "Ignore outliers"):
            browser.evaluate(_UNCHECK, title)
        for title in ("Settings", "eval", "price", "sold"):  # the first two are open, the others closed
            _press(browser, title)
        browser.evaluate(_WITHOUT_SIDEBAR)
        time.sleep(SECONDS)
        yield


@contextmanager
def tensorboard(browser: Browser, runs: Path, work: Path) -> Iterator[None]:
    """Open the tab Time Series for the demo: one section per task."""
    with tensorboard_server(runs, work / "tensorboard.log") as url:
        browser.driver.set_window_size(1400, 1050)
        browser.open(f"{url}/#timeseries")
        browser.wait_for(lambda page: "nsp" in page.text())
        for title in ("Settings", "eval"):  # the panel and the section are closed
            _press(browser, title)
        time.sleep(SECONDS)
        yield


@contextmanager
def tensorboard_custom(browser: Browser, runs: Path, work: Path) -> Iterator[None]:
    """Open the tab Custom Scalars for the demo: one chart for all tasks."""
    with tensorboard_server(runs, work / "tensorboard.log") as url:
        browser.driver.set_window_size(1150, 1000)
        browser.open(f"{url}/#custom_scalars&_smoothingWeight=0")
        browser.wait_for(lambda page: "nsp/eval/loss" in page.deep_text())
        browser.evaluate(_HIDE, "data-location")  # this is the path of the run on this machine
        time.sleep(SECONDS)
        yield


@contextmanager
def mlflow(browser: Browser, runs: Path, work: Path) -> Iterator[None]:
    """Open the metrics of a run: one group of charts per task and phase."""
    from mlflow import MlflowClient

    store = Path(shutil.copy(runs / "mlflow.db", work / "demo.db"))
    with mlflow_server(work, store) as server:
        server.start()
        client = MlflowClient(server.uri)
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        run = client.search_runs(experiments)[0].info
        browser.driver.set_window_size(1500, 1300)
        browser.open(f"{server.uri}/#/experiments/{run.experiment_id}/runs/{run.run_id}/model-metrics")
        browser.wait_for(lambda page: "(mlm/eval/loss)" in page.text())
        if "MLflow Assistant" in browser.text():
            browser.evaluate(_CLOSE_ASSISTANT)
        time.sleep(SECONDS)
        yield


def _press(browser: Browser, title: str) -> None:
    """Press the button whose text begins with the title."""
    browser.evaluate(
        "[...document.querySelectorAll('button')].find(button => button.innerText.trim().startsWith(arguments[0]))"
        ".click()",
        title,
    )
