"""The pages of ``plot`` and ``report``, as a user sees and uses them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from helpers.journals import write
from selenium.webdriver.common.action_chains import ActionChains

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.report import make_report
from mtask_sinks.charts import LabelledTraining, make_chart, open_runs, write_chart
from mtask_sinks.charts.html.report import write_report

# A program that reads this as HTML shows a picture, or bold text.
ODD = "<b>one</b><img src=x onerror=alert(1)>"
STEPS = (10, 20, 30, 40)
LOSSES = {"one": (4.0, math.nan, 2.0, 1.0), "two": (5.0, 3.0, math.inf, 2.5)}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[LabelledTraining]:
    """Two runs with the tasks a and b and an evaluation of a. Each loss is not finite once, and b is missing once."""
    directory = tmp_path_factory.mktemp("runs")
    written = []
    for name, losses in LOSSES.items():
        snapshots = [
            Snapshot(step, "train", {"a/loss": loss} | ({} if step == 30 else {"b/acc": step / 100}), epoch=step / 8,
                     counts={"a/loss": 6}, time=1000.0)
            for step, loss in zip(STEPS, losses)
        ]  # fmt: skip
        snapshots.append(Snapshot(40, "eval", {"a/loss": losses[0] / 2}))
        written.append(
            (RunInfo(id=name, name=ODD if name == "one" else name, params={"seed": name}), snapshots, "failed")
        )
    write(directory, *written)
    return open_runs([f"{directory}:1", f"{directory}:2"])


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plot") / "plot.html"
    write_chart(make_chart(runs), path)
    return path


@pytest.fixture
def plot(browser, page):
    browser.open(page)
    return browser


def data(browser, what: str) -> object:
    """Evaluate ``what`` for each curve ``c`` of each visible panel."""
    panels = "[...document.querySelectorAll('.panel:not([hidden]) .plot')]"
    return browser.evaluate(f"return {panels}.map(p => p.data.map(c => {what}))")


def tick(browser, of: str, name: str) -> None:
    browser.driver.find_element("css selector", f"fieldset[data-of={of}] input[value='{name}']").click()


def titles(browser) -> list[str]:
    panels = browser.driver.find_elements("css selector", ".panel figcaption")
    return [panel.text.splitlines()[0] for panel in panels if panel.is_displayed()]


def test_values_are_in_the_page_which_loads_nothing_and_complains_of_nothing(plot) -> None:
    assert titles(plot) == ["a/loss", "b/acc"]
    a, b = data(plot, "[c.x, c.y]")
    assert a == [
        [[10, 20, 30, 40], [4, None, 2, 1]],
        [[10, 20, 30, 40], [5, 3, None, 2.5]],
        [[40], [2]],
        [[40], [2.5]],
    ]
    assert b == [[[10, 20, 40], [0.1, 0.2, 0.4]]] * 2
    assert plot.errors() == []
    assert plot.evaluate("return performance.getEntriesByType('resource').map(each => each.name)") == []
    assert plot.evaluate("return document.images.length") == 0
    assert f"{ODD} a/loss train: 1 not finite, first at step 20" in plot.text()


def test_a_curve_says_what_is_under_the_pointer(plot) -> None:
    # The position on the page of the first point of the first run: step 10, value 4.
    x, y = plot.evaluate(
        "const p = document.querySelector('.plot'), l = p._fullLayout, box = p.getBoundingClientRect();"
        "return [box.left + l.xaxis._offset + l.xaxis.d2p(10), box.top + l.yaxis._offset + l.yaxis.d2p(4)]"
    )
    ActionChains(plot.driver).move_by_offset(int(x), int(y)).perform()
    text = plot.wait_for(lambda page: page.evaluate("return document.querySelector('.hoverlayer').textContent"))
    assert text == f"{ODD}a/loss, trainstep 10, epoch 1.25value 4reports 6"
    ActionChains(plot.driver).move_by_offset(-int(x), -int(y)).perform()


def test_tasks_runs_and_phases_are_hidden_and_shown(plot) -> None:
    everything = data(plot, "c.name")
    tick(plot, "task", "a")
    assert titles(plot) == ["b/acc"]
    tick(plot, "task", "a")
    assert data(plot, "c.name") == everything
    tick(plot, "run", "two")
    assert data(plot, "c.y[0]") == [[4, 2], [0.1]]
    tick(plot, "phase", "train")
    assert (titles(plot), data(plot, "c.y[0]")) == (["a/loss"], [[2]])


def test_panels_zoom_together_and_back(plot) -> None:
    ranges = "return [...document.querySelectorAll('.plot')].map(p => p.layout.xaxis.range)"
    before = plot.evaluate(ranges)
    assert before[0] != [15, 35]
    plot.evaluate("Plotly.relayout(document.querySelector('.plot'), {'xaxis.range[0]': 15, 'xaxis.range[1]': 35})")
    assert plot.evaluate(ranges) == [[15, 35], [15, 35]]
    plot.evaluate("Plotly.relayout(document.querySelectorAll('.plot')[1], {'xaxis.autorange': true})")
    assert plot.evaluate(ranges) == before


def test_values_above_0_go_logarithmic(browser, tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), [Snapshot(step, metrics={"x": 10.0 - step}) for step in (1, 9, 10, 11)], None))
    write_chart(make_chart(open_runs([tmp_path]), log=True), tmp_path / "log.html")
    browser.open(tmp_path / "log.html")
    assert data(browser, "c.y") == [[[9, 1, None, None]]]
    browser.driver.find_element("id", "log").click()
    assert data(browser, "c.y") == [[[9, 1, 0, -1]]]


def test_of_many_points_the_extremes_and_the_gaps_are_drawn_and_all_when_zoomed(browser, tmp_path) -> None:
    peaks = {7_001: 50.0, 12_345: -50.0, 15_010: math.nan}
    snapshots = [Snapshot(step, metrics={"a/x": peaks.get(step, step % 7)}) for step in range(20_000)]
    write(tmp_path, (RunInfo(id="1", name="r"), snapshots, None))
    write_chart(make_chart(open_runs([tmp_path])), tmp_path / "many.html")
    browser.open(tmp_path / "many.html")
    (((x, y),),) = data(browser, "[c.x, c.y]")
    assert len(x) < 5_000
    assert x == sorted(x)
    drawn = dict(zip(x, y))
    assert (x[0], x[-1], drawn[7_001], drawn[12_345], drawn[15_010]) == (0, 19_999, 50, -50, None)
    browser.evaluate(
        "Plotly.relayout(document.querySelector('.plot'), {'xaxis.range[0]': 7000, 'xaxis.range[1]': 7009})"
    )
    (((x, y),),) = data(browser, "[c.x, c.y]")
    assert (x, y) == (list(range(6_999, 7_011)), [peaks.get(step, step % 7) for step in range(6_999, 7_011)])


def table(browser, heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    script = (
        "const isIt = section => section.querySelector('h2').innerText === arguments[0];"
        "const section = [...document.querySelectorAll('section')].find(isIt);"
        "return [...section.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.innerText.trim()))"
    )
    return browser.evaluate(script, heading)


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(make_report(runs), make_chart(runs), path)
    return path


def test_the_tables_of_a_report(browser, report) -> None:
    browser.open(report)
    assert browser.errors() == []
    assert browser.evaluate("return performance.getEntriesByType('resource').length") == 0
    assert [row[:4] for row in table(browser, "Runs")] == [[ODD, "failed", "40", "5"], ["two", "failed", "40", "5"]]
    assert table(browser, "Final and best values") == [
        ["a", "loss", "train", "min", "1", "1", "40", "2.5", "2.5", "40"],
        ["a", "loss", "eval", "min", "2", "2", "40", "2.5", "2.5", "40"],
        ["b", "acc", "train", "max", "0.4", "0.4", "40", "0.4", "0.4", "40"],
    ]
    assert table(browser, "Values that are not finite") == [
        [ODD, "a", "loss", "train", "1", "-", "20", "20"],
        ["two", "a", "loss", "train", "1", "-", "30", "30"],
    ]
    assert table(browser, "Missing values") == [
        [ODD, "b", "acc", "train", "1 of 4", "25.0%", "30", "30"],
        ["two", "b", "acc", "train", "1 of 4", "25.0%", "30", "30"],
    ]
    assert [row[0] for row in table(browser, "Best checkpoints")] == [ODD, "two"]
    assert table(browser, "Settings") == [["seed", "one", "two"]]
    assert "No sink has delivered" in browser.text()
    assert data(browser, "c.y.length") == [[4, 4, 1, 1], [3, 3]]
    # Every table and every chart has a label.
    assert browser.evaluate(
        "return [...document.querySelectorAll('table')].every(t => t.caption && t.querySelector('thead th[scope]'))"
    )
    label = browser.evaluate("return document.querySelector('.plot').getAttribute('aria-label')")
    assert "two, a/loss, train: from 5 at step 10 to 2.5 at step 40." in label


def test_a_report_fits_a_phone_follows_the_system_s_colours_and_prints_in_light_ones(browser, report) -> None:
    command = browser.driver.execute_cdp_cmd
    paper = "return getComputedStyle(document.documentElement).getPropertyValue('--paper').trim()"
    text = "return document.querySelector('.plot').layout.font.color"
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    command("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True})
    command("Emulation.setEmulatedMedia", dark)
    try:
        browser.open(report)
        assert browser.evaluate("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
        assert (browser.evaluate(paper), browser.evaluate(text)) == ("#15181c", "#e6e8ea")
        browser.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert (browser.evaluate(paper), browser.evaluate(text)) == ("#ffffff", "#000000")
        browser.evaluate("dispatchEvent(new Event('afterprint'))")
        assert browser.evaluate(text) == "#e6e8ea"
        command("Emulation.setEmulatedMedia", {"media": "print", **dark})
        assert browser.evaluate(paper) == "#ffffff"
    finally:
        command("Emulation.setEmulatedMedia", {"media": "", "features": []})
        command("Emulation.clearDeviceMetricsOverride", {})


def test_a_panel_can_be_saved_as_a_picture(plot) -> None:
    script = "return Plotly.toImage(document.querySelector('.plot'), {format: 'png'})"
    assert plot.evaluate(script).startswith("data:image/png;base64,")
    assert plot.errors() == []
