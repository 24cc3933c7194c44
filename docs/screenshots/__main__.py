"""Takes the pictures of this documentation again: ``python -m docs.screenshots [NAME ...] [--runs DIR]``.

Run it in the root of the repository. It trains the demo twice, unless the runs exist already, and opens the results in
a real browser. `PICTURES` holds one function per picture, which keeps the page open while the browser takes the
picture.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).absolute().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from helpers.browser import Browser, chromium  # noqa: E402
from helpers.command import command  # noqa: E402

from docs.screenshots import backends, pages, terminals  # noqa: E402

IMAGES = ROOT / "docs" / "img"
#: A picture may have at most this many bytes. `reduce` removes colours until the picture is small enough.
LIMIT = 250_000

PICTURES: dict[str, Callable[[Browser, Path, Path], AbstractContextManager[None]]] = {
    "tasks": backends.tasks,
    "plot": pages.plot,
    "report": pages.report,
    "task-health": pages.task_health,
    "tensorboard": backends.tensorboard,
    "tensorboard-custom": backends.tensorboard_custom,
    "mlflow": backends.mlflow,
}

#: The functions that write pictures of a terminal as SVG files.
TERMINALS: dict[str, Callable[[Path, Path], None]] = {"watch": terminals.watch}
KNOWN = (*PICTURES, *TERMINALS)


def train(runs: Path) -> None:
    """Train the demo twice, with different seeds."""
    for seed in ("42", "1"):
        command("demo", "--output_dir", str(runs), "--seed", seed, "--report_to", "tensorboard,mlflow")


def reduce(path: Path) -> None:
    """Write the picture with as many colours as fit into `LIMIT`."""
    picture = Image.open(path).convert("RGB")
    for colours in (256, 128, 64, 32):
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
        if path.stat().st_size < LIMIT:
            return
    raise ValueError(f"{path} has {path.stat().st_size:,} bytes, and {LIMIT:,} are allowed. Show less in the picture.")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.screenshots", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"names of pictures: {', '.join(KNOWN)}; by default all")
    parser.add_argument("--runs", type=Path, help="directory that keeps the runs of the demo")
    options = parser.parse_args()
    if unknown := set(options.names) - set(KNOWN):
        parser.error(f"no picture is called {', '.join(sorted(unknown))}; there are: {', '.join(KNOWN)}")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        runs: Path = (options.runs or work / "runs").absolute()
        own = {"tasks", "task-health"}  # these pictures need other scripts, not the demo
        if not (runs / "demo-2").exists() and not (options.names and {*options.names} <= own):
            train(runs)
        with chromium(work / "profile") as browser:
            for name in options.names or KNOWN:
                if name in TERMINALS:
                    TERMINALS[name](runs, IMAGES / f"{name}.svg")
                    continue
                with PICTURES[name](browser, runs, work):
                    browser.evaluate("document.documentElement.style.overflow = 'hidden'")  # no scroll bar
                    reduce(browser.screenshot(IMAGES / f"{name}.png"))


if __name__ == "__main__":
    main()
