"""Measures how long Chromium takes to draw a page of `mtask-sinks plot`.

    python benchmarks/page_times.py [--times 5]

The page has 48 panels, with 5 runs of 2,000 points each and with 3 evaluation sets. The script measures the time from
opening the page until all panels in view are drawn, the time from a click that hides or shows a run until they are
drawn again, and the time from a jump to the end of the page until the panels there are drawn. It prints the median and
the largest value of each, and the processor time of the page's main thread, which other programs do not change.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).absolute().parents[1] / "tests"))

from helpers.browser import Browser, chromium

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.charts import make_chart, open_runs, write_chart
from mtask_sinks.journal.writer import Journal

RUNS, TASKS, METRICS, POINTS = 5, 6, 8, 2_000
PHASES = ("eval_clean", "eval_noisy", "eval_far")

_IN_VIEW = """
const seen = [...document.querySelectorAll(".panel")].filter((panel) => {
  const box = panel.getBoundingClientRect();
  return box.height > 0 && box.top < innerHeight && box.bottom > 0;
});
return seen.length > 0 && seen.every((panel) => panel.querySelector(".trace, .bars"));
"""
_TOGGLE = """
const done = arguments[arguments.length - 1], begin = performance.now(), root = document.documentElement;
document.querySelector("fieldset[data-of=run] input").click();
const isDrawn = () => root.dataset.charts === "drawn";
const wait = () => (isDrawn() ? setTimeout(() => done(performance.now() - begin)) : requestAnimationFrame(wait));
requestAnimationFrame(wait);
"""
_JUMP = """
const done = arguments[arguments.length - 1], begin = performance.now();
scrollTo(0, document.body.scrollHeight);
const isDrawn = () => { IN_VIEW };
const wait = () => (isDrawn() ? setTimeout(() => done(performance.now() - begin)) : requestAnimationFrame(wait));
requestAnimationFrame(wait);
""".replace("IN_VIEW", _IN_VIEW)


def snapshots(seed: int) -> Iterator[Snapshot]:
    """Yield snapshots whose values fall with noise. Every task has values of another size."""
    chance = random.Random(seed)
    for at in range(1, POINTS + 1):
        for phase in ("train", *(PHASES if at % (POINTS // 20) == 0 else ())):
            level = math.exp(-3 * at / POINTS) + 0.3
            metrics = {
                f"task{t}/loss{m}": 10.0 ** (t - 3) * level * chance.gauss(1, 0.05)
                for t in range(TASKS)
                for m in range(METRICS)
            }
            yield Snapshot(at * 10, phase, metrics, epoch=at / 500, counts=dict.fromkeys(metrics, 8))


def write_page(folder: Path) -> Path:
    """Write journals of several runs, and the page that shows them; return the path of the page."""
    for run in range(RUNS):
        journal = Journal(folder / f"run{run}" / "metrics.jsonl")
        journal.begin(RunInfo(id=str(run), name=f"run {run}"))
        for snapshot in snapshots(run):
            journal.append(snapshot)
        journal.end(str(run), "finished")
        journal.close()
    begin = time.perf_counter()
    chart = make_chart(open_runs([folder / f"run{run}" for run in range(RUNS)]))
    write_chart(chart, folder / "plot.html")
    size, took = (folder / "plot.html").stat().st_size, time.perf_counter() - begin
    print(f"{len(chart.panels)} panels, {chart.values:,} values, {size / 1e6:.1f} MB in {took:.1f} s")
    return folder / "plot.html"


def load(browser: Browser, page: Path) -> float:
    """Return the seconds until every panel in view is drawn."""
    begin = time.perf_counter()
    browser.open(page)
    while not browser.evaluate(_IN_VIEW):
        time.sleep(0.005)
    return time.perf_counter() - begin


def run_script(browser: Browser, script: str) -> float:
    """Run a script that returns how many milliseconds it took; return them as seconds."""
    return float(browser.driver.execute_async_script(script)) / 1000


def busy(browser: Browser) -> float:
    """Return the processor time of the page's main thread so far, in seconds."""
    metrics = browser.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return float(next(each["value"] for each in metrics if each["name"] == "TaskDuration"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    times = parser.parse_args().times
    found: dict[str, list[tuple[float, float]]] = {}

    def measure(what: str, action: Callable[[], float]) -> None:
        before = busy(browser)
        seconds = action()
        now = busy(browser)
        found.setdefault(what, []).append((seconds, now - before if now >= before else now))
        time.sleep(1)

    with tempfile.TemporaryDirectory() as name, chromium(Path(name) / "profile", 1440, 900) as browser:
        page = write_page(Path(name))
        browser.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        load(browser, page)  # starts the browser's own processes
        for _ in range(times):
            browser.open("about:blank")
            measure("panels in view", partial(load, browser, page))
            for what, script in (("a run hidden", _TOGGLE), ("a run shown", _TOGGLE), ("jump to the end", _JUMP)):
                measure(what, partial(run_script, browser, script))
    for what, measured in found.items():
        walls, busies = zip(*measured, strict=True)
        thread = f"main thread {statistics.median(busies):.2f} s"
        print(f"{what}: median {statistics.median(walls):.2f} s, largest {max(walls):.2f} s, {thread}")
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
