"""What a user sees of a training in TensorBoard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from helpers.tensorboard_server import tensorboard_server
from helpers.two_tasks import POINTS, train_two_tasks

from mtask_sinks import SinkArguments

FETCH = "return fetch(arguments[0]).then(answer => answer.json())"


@pytest.fixture(scope="module")
def board(tmp_path_factory) -> Iterator[str]:
    """Start a server that shows one training in the flat layout and one in the overlay layout."""
    directory = tmp_path_factory.mktemp("board")
    for layout in ("flat", "overlay"):
        settings = SinkArguments(tensorboard_layout=layout)
        train_two_tasks(directory / layout, "tensorboard", settings)
    with tensorboard_server(directory, directory / "log") as url:
        yield url


def sections(text: str) -> dict[str, str]:
    """Return the sections of the tab Time Series: title → number of cards."""
    return dict(re.findall(r"^(\w+)\n(\d+) cards$", text, re.MULTILINE))


def curves(text: str) -> set[tuple[str, str, str, str]]:
    """Return layout, task, phase and name of each curve in the legends of Custom Scalars."""
    flat = re.findall(r"^(\w+)/(\w+)/(\w+) \(flat/", text, re.MULTILINE)
    overlay = re.findall(r"^(\w+)/(\w+) \(overlay/.*/(mlm|nsp)\)$", text, re.MULTILINE)
    return {("flat", *parts) for parts in flat} | {("overlay", task, phase, name) for phase, name, task in overlay}


def test_each_task_has_a_section_of_its_own(browser, board) -> None:
    browser.open(f"{board}/#timeseries")
    expected = {"mlm": "6", "nsp": "3"}
    browser.wait_for(lambda page: expected.items() <= sections(page.deep_text()).items())


def test_custom_scalars_lays_tasks_over_one_another_in_one_chart_a_metric(browser, board) -> None:
    expected = {
        (layout, task, phase, name)
        for layout in ("flat", "overlay")
        for (task, phase), names in POINTS.items()
        for name in names
    }
    browser.open("about:blank")
    browser.open(f"{board}/#custom_scalars")
    text = browser.wait_for(lambda page: text if curves(text := page.deep_text()) >= expected else "")
    assert curves(text) == expected
    sections = [line for line in text.splitlines() if line.startswith("tasks side by side")]
    assert sections == ["tasks side by side: train", "tasks side by side: eval"]


def test_the_charts_have_the_values_of_the_training(browser, board) -> None:
    browser.open(f"{board}/#custom_scalars")
    layout: Any = browser.evaluate(FETCH, "data/plugin/custom_scalars/layout")
    runs: Any = browser.evaluate(FETCH, "data/runs")
    (run,) = (run for run in runs if run.startswith("flat"))
    patterns: dict[tuple[str, str], list[str]] = {}
    for category in layout["category"]:
        for chart in category["chart"]:  # the curves of the flat run come first
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
