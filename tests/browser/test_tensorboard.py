"""What a person sees in TensorBoard of a training."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.browser import Browser
from helpers.tensorboard_server import tensorboard_server
from helpers.two_tasks import POINTS, train_two_tasks

from mtask_sinks import SinkArguments

FETCH = "return fetch(arguments[0]).then(answer => answer.json())"


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Iterator[str]:
    """A server that shows a flat training and one in overlay."""
    directory = tmp_path_factory.mktemp("board")
    for layout in ("flat", "overlay"):
        settings = SinkArguments(tensorboard_layout=layout)
        train_two_tasks(directory / layout, "tensorboard", settings)
    with tensorboard_server(directory, directory / "log") as url:
        yield url


def custom_scalars(browser: Browser, board: str) -> str:
    """The text of the tab, once its open charts, two of each phase and layout, have found their curves."""
    browser.open("about:blank")
    browser.open(f"{board}/#custom_scalars")

    def loaded(page: Browser) -> str:
        text = page.deep_text()
        return text if len(re.findall(r"^Matches \([1-9]\d*\)$", text, re.MULTILINE)) == 8 else ""

    return browser.wait_for(loaded)


def test_each_task_has_a_section_of_its_own(browser, board) -> None:
    browser.open(f"{board}/#timeseries")
    titles = browser.wait_for(lambda page: re.findall(r"^(\w+)\n(\d+) cards$", page.deep_text(), re.MULTILINE))
    assert {"mlm": "4", "nsp": "2"}.items() <= dict(titles).items()


def test_custom_scalars_lays_tasks_over_one_another_in_one_chart_a_metric(browser, board) -> None:
    text = custom_scalars(browser, board)
    sections = [line for line in text.splitlines() if line.startswith("tasks side by side")]
    assert sections == ["tasks side by side: train", "tasks side by side: eval"]
    for phase in ("train", "eval"):
        for name, tasks in (("loss", {"mlm", "nsp"}), ("size", {"mlm"})):
            in_flat = re.findall(rf"(\w+)/{phase}/{name} \(flat/", text)
            in_overlay = re.findall(rf"^{phase}/{name} \(overlay/.*/(mlm|nsp)\)$", text, re.MULTILINE)
            assert (set(in_flat), set(in_overlay)) == (tasks, tasks)


def test_the_charts_have_the_values_of_the_training(browser, board) -> None:
    browser.open(f"{board}/#custom_scalars")
    layout: Any = browser.evaluate(FETCH, "data/plugin/custom_scalars/layout")
    runs: Any = browser.evaluate(FETCH, "data/runs")
    (run,) = (run for run in runs if run.startswith("flat"))
    patterns: dict[tuple[str, str], list[str]] = {}
    for category in layout["category"]:
        for chart in category["chart"]:  # those of the flat run come first
            patterns.setdefault((category["title"], chart["title"]), chart["multiline"]["tag"])

    def points(category: str, chart: str) -> dict[str, list[tuple[int, float]]]:
        (pattern,) = patterns[category, chart]
        address = f"data/plugin/custom_scalars/scalars?run={run}&tag={pattern.replace('+', '%2B')}"
        answer: Any = browser.evaluate(FETCH, address)
        return {tag: [(step, value) for _, step, value in rows] for tag, rows in answer["tag_to_events"].items()}

    for phase in ("train", "eval"):
        assert points(f"tasks side by side: {phase}", "loss") == {
            f"{task}/{phase}/loss": POINTS[task, phase]["loss"] for task in ("mlm", "nsp")
        }
    for task in ("mlm", "nsp"):
        assert points(task, f"{task} loss") == {
            f"{task}/{phase}/loss": POINTS[task, phase]["loss"] for phase in ("train", "eval")
        }
