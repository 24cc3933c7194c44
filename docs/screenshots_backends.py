"""Takes the pictures of the backends anew: ``python docs/screenshots_backends.py [NAME ...] [--runs DIR]``.

Trains the demonstration for a few minutes, unless its run is there already, starts each backend's own server on what
was written, and looks at its page in a real browser.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).absolute().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from helpers.browser import Browser, chromium  # noqa: E402
from helpers.mlflow_server import mlflow_server  # noqa: E402
from helpers.tensorboard_server import tensorboard_server  # noqa: E402

IMAGES = ROOT / "docs" / "img"
#: A picture may have so many bytes; its colours are reduced for that.
LIMIT = 250_000
#: For curves to be drawn, once they are there.
SECONDS = 4.0


def tensorboard(browser: Browser, runs: Path, work: Path) -> None:
    """Time Series: a section a task."""
    with tensorboard_server(runs / "board", work / "tensorboard.log") as url:
        browser.driver.set_window_size(1400, 1050)
        browser.open(f"{url}/#timeseries")
        browser.wait_for(lambda page: "nsp" in page.text())
        for title in ("Settings", "eval"):  # the panel and the section are closed
            _press(browser, title)
        time.sleep(SECONDS)
        _take(browser, "tensorboard")


def tensorboard_custom(browser: Browser, runs: Path, work: Path) -> None:
    """Custom Scalars: tasks over one another."""
    with tensorboard_server(runs / "board", work / "tensorboard.log") as url:
        browser.driver.set_window_size(1150, 1000)
        browser.open(f"{url}/#custom_scalars&_smoothingWeight=0")
        browser.wait_for(lambda page: "nsp/eval/loss" in page.deep_text())
        browser.evaluate(_HIDE, "data-location")  # where the run lies on this machine
        time.sleep(SECONDS)
        _take(browser, "tensorboard-custom")


def mlflow(browser: Browser, runs: Path, work: Path) -> None:
    """The metrics of a run, a group of charts a task and phase."""
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
        _take(browser, "mlflow")


PICTURES: dict[str, Callable[[Browser, Path, Path], None]] = {
    "tensorboard": tensorboard,
    "tensorboard-custom": tensorboard_custom,
    "mlflow": mlflow,
}


_HIDE = """
function walk(node) {
  if (node.id === arguments_[0]) node.style.display = "none";
  if (node.shadowRoot) walk(node.shadowRoot);
  node.childNodes.forEach(walk);
}
const arguments_ = arguments;
walk(document.body);
"""

# Its cross is in the corner of the window.
_CLOSE_ASSISTANT = "document.elementFromPoint(innerWidth - 37, 36).closest('button').click()"


def _press(browser: Browser, title: str) -> None:
    """The button whose text begins so."""
    browser.evaluate(
        "[...document.querySelectorAll('button')].find(button => button.innerText.trim().startsWith(arguments[0]))"
        ".click()",
        title,
    )


def _take(browser: Browser, name: str) -> None:
    """Save what is seen, in as many colours as fit into the limit."""
    path = browser.screenshot(IMAGES / f"{name}.png")
    picture = Image.open(path).convert("RGB")
    for colours in (256, 128, 64, 32):
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < LIMIT:
            return
    raise ValueError(f"{path} has {path.stat().st_size:,} bytes, {LIMIT:,} are allowed: show less.")


def train(runs: Path) -> None:
    """The demonstration, into TensorBoard and MLflow."""
    environment = {**os.environ, "TENSORBOARD_LOGGING_DIR": str(runs / "board" / "demo-1")}
    options = ["--output_dir", str(runs), "--report_to", "tensorboard,mlflow"]
    subprocess.run([sys.executable, "-m", "mtask_sinks", "demo", *options], cwd=ROOT, env=environment, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"pictures, of {', '.join(PICTURES)}; by default all")
    parser.add_argument("--runs", type=Path, help="where the demonstration's run is kept")
    options = parser.parse_args()
    if unknown := set(options.names) - set(PICTURES):
        parser.error(f"no picture is called {', '.join(sorted(unknown))}; there are: {', '.join(PICTURES)}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        runs: Path = (options.runs or work / "runs").absolute()
        if not (runs / "mlflow.db").exists():
            train(runs)
        with chromium(work / "profile") as browser:
            for name in options.names or PICTURES:
                PICTURES[name](browser, runs, work)


if __name__ == "__main__":
    main()
