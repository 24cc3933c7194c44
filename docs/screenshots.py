"""Takes the pictures of this documentation anew: ``python -m docs.screenshots [NAME ...] [--runs DIR]``, from its root.

Trains the demonstration twice for a few steps, unless the runs are there already, and looks at what comes of it in a
real browser. Each picture is a function here, in `PICTURES` by the name of its file.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.helpers.browser import Browser, chromium

IMAGES = Path(__file__).parent / "img"
STEPS = 280
#: A picture may have so many bytes; its colours are reduced for that.
LIMIT = 250_000


def plot(browser: Browser, runs: Path, work: Path) -> None:
    """Curves of two runs, with what one point says."""
    page = work / "plot.html"
    _command("plot", str(runs / "demo-1"), str(runs / "demo-2"), "--smooth", "0.6", "-o", str(page))
    browser.driver.set_window_size(1300, 960)
    browser.open(page)
    browser.evaluate("Plotly.Fx.hover(document.querySelector('.plot'), [{curveNumber: 1, pointNumber: 12}])")


def report(browser: Browser, runs: Path, work: Path) -> None:
    """The beginning of a report about two runs."""
    page = work / "report.html"
    command = ("report", "demo-1", "demo-2", "--smooth", "0.6", "-o", str(page))
    _command(*command, folder=runs)
    browser.driver.set_window_size(1300, 1900)
    browser.open(page)


PICTURES: dict[str, Callable[[Browser, Path, Path], None]] = {"plot": plot, "report": report}


def train(runs: Path) -> None:
    """The demonstration, twice."""
    for seed in ("42", "1"):
        options = ("--max_steps", str(STEPS), "--seed", seed, "--report_to", "tensorboard,mlflow")
        _command("demo", "--output_dir", str(runs), *options)


def _command(*arguments: str, folder: Path | None = None) -> None:
    subprocess.run([sys.executable, "-m", "mtask_sinks", *arguments], cwd=folder, check=True)


def _reduce(path: Path) -> None:
    """As many colours as fit into the limit."""
    picture = Image.open(path).convert("RGB")
    for colours in (256, 128, 64, 32):
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < LIMIT:
            return
    raise ValueError(f"{path} has {path.stat().st_size:,} bytes, {LIMIT:,} are allowed: show less.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.screenshots", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"pictures, of {', '.join(PICTURES)}; by default all")
    parser.add_argument("--runs", type=Path, help="where the demonstration's runs are kept")
    options = parser.parse_args()
    if unknown := set(options.names) - set(PICTURES):
        parser.error(f"no picture is called {', '.join(sorted(unknown))}; there are: {', '.join(PICTURES)}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        runs: Path = options.runs or work / "runs"
        if not (runs / "demo-2").exists():
            train(runs)
        with chromium(work / "profile") as browser:
            for name in options.names or PICTURES:
                PICTURES[name](browser, runs.absolute(), work)
                browser.evaluate("document.documentElement.style.overflow = 'hidden'")  # no scroll bar
                _reduce(browser.screenshot(IMAGES / f"{name}.png"))


if __name__ == "__main__":
    main()
