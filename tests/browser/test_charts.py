"""The pages of ``plot`` and ``report``, as a user sees and uses them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.journals import write
from selenium.webdriver.common.action_chains import ActionChains

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.report import make_report
from mtask_sinks.charts import LabelledTraining, make_chart, open_runs, write_chart
from mtask_sinks.charts.html.report import report_page

# A program that reads this as HTML shows a picture, or bold text.
ODD = "<b>one</b><img src=x onerror=alert(1)>"
STEPS = (10, 20, 30, 40)
# The first panel of a task.
FIRST = ".group:not([data-fixed]) .plot"
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


def show(browser, page: Path):
    """Open a page in a high window, and wait until the panels in view are drawn."""
    browser.driver.set_window_size(1400, 2400)
    browser.open(page)
    return settled(browser)


def settled(browser):
    browser.wait_for(lambda page: page.evaluate("return document.documentElement.dataset.charts === 'drawn'"))
    return browser


@pytest.fixture
def plot(browser, page):
    return show(browser, page)


def data(browser, what: str) -> object:
    """Evaluate ``what`` for each line ``c`` of each visible panel of a task."""
    panels = "[...document.querySelectorAll('.group:not([data-fixed]) .panel:not([hidden]) .plot')]"
    return browser.evaluate(f"return {panels}.map(p => p.data.filter(c => c.mode === 'lines').map(c => {what}))")


def tick(browser, of: str, name: str) -> None:
    browser.driver.find_element("css selector", f"fieldset[data-of={of}] input[value='{name}']").click()
    settled(browser)


def choose(browser, name: str, value: str) -> None:
    """Set a control as a user does."""
    field = browser.driver.find_element("css selector", f"#controls [name={name}]")
    event = "input" if name in ("find", "smoothing") else "change"
    browser.evaluate(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event(arguments[2]))", field, value, event
    )
    settled(browser)


def titles(browser) -> list[str]:
    panels = browser.driver.find_elements("css selector", ".group:not([data-fixed]) .panel figcaption")
    return [panel.text.splitlines()[0] for panel in panels if panel.is_displayed()]


def point_at(browser, x: float, y: float) -> None:
    """Move the pointer to a value of the first panel."""
    left, top = browser.evaluate(
        f"const p = document.querySelector('{FIRST}'), l = p._fullLayout, box = p.getBoundingClientRect();"
        "const [x, y] = [l.xaxis._offset + l.xaxis.d2p(arguments[0]), l.yaxis._offset + l.yaxis.d2p(arguments[1])];"
        "return [box.left + x, box.top + y]",
        x,
        y,
    )
    action = ActionChains(browser.driver)
    action.w3c_actions.pointer_action.move_to_location(int(left), int(top))
    action.perform()


def test_all_tasks_are_shown_together(browser, runs, tmp_path) -> None:
    for run, weights in zip(runs, ({"a/loss": 1.0, "b/acc": 10.0, "c/loss": 1.0}, {})):
        begin = run.training.begins[0]
        run.training.begins[0] = replace(begin, run=replace(begin.run, loss_weights=weights))
    write_chart(make_chart(runs), tmp_path / "p.html")
    show(browser, tmp_path / "p.html")
    assert browser.errors() == []
    found = browser.evaluate(
        "return [...document.querySelectorAll('.group[data-fixed] .panel')].map(p => [p.querySelector('figcaption')"
        ".innerText.split('\\n')[0].trim(), p.querySelector('.plot').data.map(c => [c.x, c.y])])"
    )
    panels = dict(found)
    progress = panels["Progress of the main metric, train relative to the first value"]
    assert progress[0] == [[10, 20, 30, 40], [1, None, 0.5, 0.25]]
    # 4 and 10 * 0.1; 2 and nothing at step 30, where b did not report; 1 and 10 * 0.4
    assert panels[f"Share of the loss, train: {ODD}"] == [[[10, 30, 40], [0.8, 1, 0.2]], [[10, 30, 40], [0.2, 0, 0.8]]]
    assert [x for x, _ in panels[f"Best values against {ODD}"]] == [[-0.25], [0]]
    timeline = panels["When each task reported: two"]
    reported = [[step for step, y in zip(*each) if y is not None] for each in timeline]
    # a in training and in its evaluation, and b; each as a line and as dots
    assert list(dict.fromkeys(map(tuple, reported))) == [(10, 20, 30, 40), (40,), (10, 20, 40)]


def test_the_names_of_many_tasks_do_not_overlap(browser, tmp_path) -> None:
    tasks = [f"language_{number}" for number in range(60)]
    snapshots = [Snapshot(step, metrics={f"{task}/loss": 1.0 / step for task in tasks}) for step in STEPS]
    write(tmp_path, (RunInfo(id="1", name="many"), snapshots, "finished"))
    write_chart(make_chart(open_runs([tmp_path])), tmp_path / "p.html")
    show(browser, tmp_path / "p.html")
    names = browser.evaluate(
        "const panel = [...document.querySelectorAll('.panel')].find(p => p.innerText.includes('When each task'));"
        "return [...panel.querySelectorAll('.ytick text')]"
        ".map(text => [text.textContent, text.getBoundingClientRect().toJSON()])"
    )
    places = sorted((box["top"], box["bottom"]) for _, box in names)
    assert sorted(name for name, _ in names) == sorted(tasks)
    assert all(bottom <= top for (_, bottom), (top, _) in itertools.pairwise(places))


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


def test_the_pointer_shows_the_values_of_all_runs_and_the_icons_of_the_panel(plot) -> None:
    bars = "[...document.querySelectorAll('.group:not([data-fixed]) .modebar')]"
    icons = f"return {bars}.map(each => getComputedStyle(each).opacity)"
    assert plot.evaluate(icons) == ["0", "0"]
    point_at(plot, 10, 4)
    text = plot.wait_for(lambda page: page.evaluate("return document.getElementById('tip').innerText"))
    lines = [line.split("\t") for line in text.splitlines() if line]
    assert lines[0] == ["step 10, epoch 1.25"]
    assert [[cell for cell in line if cell] for line in lines[1:5]] == [
        [ODD, "train", "4"],
        ["two", "train", "5"],
        [ODD, "eval", "2", "at 40"],
        ["two", "eval", "2.5", "at 40"],
    ]
    assert lines[5] == ["train value of 6 reports"]
    assert plot.evaluate("return document.querySelector('#tip .pointed').innerText").split("\t")[1] == ODD
    assert plot.evaluate(icons) == ["1", "0"]
    point_at(plot, 10, 4.9)
    assert plot.evaluate("return document.querySelector('#tip .pointed').innerText").split("\t")[1] == "two"


def test_tasks_runs_and_phases_are_hidden_and_shown_and_an_empty_choice_says_so(plot) -> None:
    everything = data(plot, "c.y")
    tick(plot, "task", "a")
    assert titles(plot) == ["b/acc"]
    tick(plot, "task", "b")
    assert (titles(plot), "No task is chosen. Tick one above." in plot.text()) == ([], True)
    tick(plot, "task", "a")
    tick(plot, "task", "b")
    assert data(plot, "c.y") == everything
    tick(plot, "run", "two")
    assert data(plot, "c.y[0]") == [[4, 2], [0.1]]
    tick(plot, "phase", "train")
    assert (titles(plot), data(plot, "c.y[0]")) == (["a/loss"], [[2]])
    assert "No task" not in plot.text()


def test_metrics_are_found_by_typing(plot) -> None:
    for words, found in (("LOSS", ["a/loss"]), ("a cc b/", ["b/acc"]), ("x", []), ("", ["a/loss", "b/acc"])):
        choose(plot, "find", words)
        assert titles(plot) == found
        assert ("No metric matches" in plot.text()) is not found


def test_found_panels_are_side_by_side_at_the_top_and_then_where_they_were(browser, tmp_path) -> None:
    metrics = ("a/x", "a/loss", "b/loss", "b/x")
    snapshots = [Snapshot(step, metrics={name: float(step) for name in metrics}) for step in STEPS]
    write(tmp_path, (RunInfo(id="1"), snapshots, None))
    write_chart(make_chart(open_runs([tmp_path])), tmp_path / "p.html")
    show(browser, tmp_path / "p.html")
    before = titles(browser)
    choose(browser, "find", "loss")
    tops = browser.evaluate("return [...document.querySelectorAll('.panel')].map(p => p.getBoundingClientRect().top)")
    assert titles(browser) == ["a/loss", "b/loss"]
    assert tops[0] == tops[1] == min(top for top in tops if top)
    widths = "return [...document.querySelectorAll('#found .plot')].map(p => p.clientWidth - p._fullLayout.width)"
    assert browser.evaluate(widths) == [0, 0]
    assert browser.evaluate("return document.querySelector('#found summary').innerText").split() == ["Found", "2"]
    choose(browser, "find", "")
    assert titles(browser) == before
    assert not browser.evaluate("return document.querySelectorAll('#found .panel').length")


@pytest.mark.parametrize("words", ["loss", "nothing has this name"])
def test_what_is_typed_far_below_is_answered_in_sight(browser, tmp_path, words) -> None:
    snapshots = [Snapshot(step, metrics={f"{task}/loss": 1.0 / step for task in "abcdefgh"}) for step in STEPS]
    runs = [tmp_path / str(number) for number in range(9)]  # the panels about all tasks stay, and fill several screens
    for run in runs:
        write(run, (RunInfo(id=run.name), snapshots, None))
    write_chart(make_chart(open_runs(runs)), tmp_path / "p.html")
    show(browser, tmp_path / "p.html")
    browser.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
    choose(browser, "find", words)
    answer = "#found .panel" if words == "loss" else "#nothing"
    top = f"document.querySelector('{answer}').getBoundingClientRect().top"
    bottom = "document.getElementById('controls').getBoundingClientRect().bottom"
    under, where, height = browser.evaluate(f"return [{bottom}, {top}, innerHeight]")
    assert under - 1 <= where < height / 2


def test_values_are_smoothed_made_relative_and_drawn_over_epochs(plot) -> None:
    choose(plot, "smoothing", "0.5")
    raw, smooth = data(plot, "[c.y, c.opacity]")[0][:2]
    assert raw == [[4, None, 2, 1], 0.25]
    # 4; (4 / 2 + 2) / 1.5; (4 / 4 + 2 / 2 + 1) / 1.75: the gap does not count
    assert smooth[0] == [4, None, pytest.approx(4 / 1.5), pytest.approx(3 / 1.75)]
    choose(plot, "smoothing", "0")
    choose(plot, "scale", "relative")
    assert data(plot, "c.y")[0][:2] == [[1, None, 0.5, 0.25], [1, 0.6, None, 0.5]]
    assert "relative to the first value" in plot.text()
    choose(plot, "scale", "linear")
    choose(plot, "x", "epoch")
    assert data(plot, "c.x")[0][0] == [step / 8 for step in STEPS]


def test_a_task_folds_and_the_controls_stay_in_sight(plot) -> None:
    plot.evaluate("document.body.style.paddingBottom = '4000px'; scrollTo(0, 900)")
    assert plot.evaluate("return document.getElementById('controls').getBoundingClientRect().top") == 0
    plot.evaluate("scrollTo(0, 0)")
    plot.driver.find_element("css selector", "details.group:not([data-fixed], [hidden]) summary").click()
    assert titles(plot) == ["b/acc"]


def test_panels_zoom_together_and_back(plot) -> None:
    ranges = f"return [...document.querySelectorAll('{FIRST}')].map(p => p.layout.xaxis.range)"
    before = plot.evaluate(ranges)
    assert before[0] == before[1] == pytest.approx([10 - 0.6, 40 + 0.6])
    zoom = "return Plotly.relayout(document.querySelectorAll(arguments[0])[arguments[1]], arguments[2]).then(() => 0)"
    plot.evaluate(zoom, FIRST, 0, {"xaxis.range[0]": 15, "xaxis.range[1]": 35})
    assert settled(plot).evaluate(ranges) == [[15, 35], [15, 35]]
    plot.evaluate(zoom, FIRST, 1, {"xaxis.autorange": True})
    assert settled(plot).evaluate(ranges) == before


def test_values_above_0_go_logarithmic(browser, tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), [Snapshot(step, metrics={"x": 10.0 - step}) for step in (1, 9, 10, 11)], None))
    write_chart(make_chart(open_runs([tmp_path]), scale="log"), tmp_path / "log.html")
    show(browser, tmp_path / "log.html")
    assert data(browser, "c.y") == [[[9, 1, None, None]]]
    choose(browser, "scale", "linear")
    assert data(browser, "c.y") == [[[9, 1, 0, -1]]]


def test_a_panel_counts_the_curves_that_its_scale_cannot_show(browser, tmp_path) -> None:
    rows = [(1, {"x": 0.0, "y": 2.0}), (2, {"x": -1.0, "y": 1.0})]
    write(tmp_path, (RunInfo(id="1"), [Snapshot(step, metrics=row) for step, row in rows], None))
    write_chart(make_chart(open_runs([tmp_path]), scale="relative"), tmp_path / "c.html")
    show(browser, tmp_path / "c.html")
    assert browser.text().count("relative to the first value; not drawn: 1 of 1 curves (first value 0)") == 1
    choose(browser, "scale", "log")
    assert browser.text().count("logarithmic; not drawn: 1 of 1 curves (no value above 0)") == 1
    choose(browser, "scale", "linear")
    assert "not drawn" not in browser.text()


def test_a_panel_counts_the_curves_that_have_no_place_on_its_axis(browser, tmp_path) -> None:
    for name, epoch in (("with", 0.1), ("without", None)):
        values = {"a/loss": 4.0, "b/loss": 2.0}
        snapshots = [Snapshot(step, metrics=values, epoch=epoch and epoch * step) for step in STEPS]
        write(tmp_path, (RunInfo(id=name, name=name), snapshots, None))
    write_chart(make_chart(open_runs([f"{tmp_path}:1", f"{tmp_path}:2"])), tmp_path / "c.html")
    show(browser, tmp_path / "c.html")
    assert "not drawn" not in browser.text()
    choose(browser, "x", "epoch")
    shown = "return [...document.querySelectorAll('figcaption')].map(e => e.innerText.trim())"
    assert browser.evaluate(shown) == [
        "Progress of the loss, train relative to the first value; not drawn: 2 of 4 curves (no epoch)",
        "Best values against with",
        "When each task reported: with",
        "When each task reported: without not drawn: 2 of 2 curves (no epoch)",
        "a/loss not drawn: 1 of 2 curves (no epoch)",
        "b/loss not drawn: 1 of 2 curves (no epoch)",
    ]
    choose(browser, "scale", "log")
    assert browser.evaluate(shown)[-1] == "b/loss logarithmic; not drawn: 1 of 2 curves (no epoch)"


def test_of_many_points_the_extremes_and_the_gaps_are_drawn_and_all_when_zoomed(browser, tmp_path) -> None:
    peaks = {7_001: 50.0, 12_345: -50.0, 15_010: math.nan}
    snapshots = [Snapshot(step, metrics={"a/x": peaks.get(step, step % 7)}) for step in range(20_000)]
    write(tmp_path, (RunInfo(id="1", name="r"), snapshots, None))
    write_chart(make_chart(open_runs([tmp_path])), tmp_path / "many.html")
    show(browser, tmp_path / "many.html")
    (((x, y),),) = data(browser, "[c.x, c.y]")
    assert len(x) < 2_000
    assert x == sorted(x)
    shown = dict(zip(x, y))
    assert (x[0], x[-1], shown[7_001], shown[12_345], shown[15_010]) == (0, 19_999, 50, -50, None)
    browser.evaluate(
        "const zoom = {'xaxis.range[0]': 7000, 'xaxis.range[1]': 7009};"
        "return Plotly.relayout(document.querySelector('.plot'), zoom).then(() => 0)"
    )
    (((x, y),),) = data(settled(browser), "[c.x, c.y]")
    assert (x, y) == (list(range(6_999, 7_011)), [peaks.get(step, step % 7) for step in range(6_999, 7_011)])


def test_panels_are_drawn_when_they_come_into_view(browser, tmp_path) -> None:
    metrics = {f"a/x{n}": 0.0 for n in range(60)}
    write(
        tmp_path,
        (RunInfo(id="1"), [Snapshot(s, metrics={key: s + n for n, key in enumerate(metrics)}) for s in (1, 2)], None),
    )
    write_chart(make_chart(open_runs([tmp_path])), tmp_path / "p.html")
    show(browser, tmp_path / "p.html")
    is_drawn = "return [...document.querySelectorAll('.plot')].map(plot => Boolean(plot.data))"
    before = browser.evaluate(is_drawn)
    assert (before[0], before[-1]) == (True, False)
    browser.evaluate("scrollTo(0, document.body.scrollHeight)")
    browser.wait_for(lambda page: page.evaluate(is_drawn)[-1])


def table(browser, heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    script = (
        "const isIt = section => section.querySelector('h2')?.textContent === arguments[0];"
        "const section = [...document.querySelectorAll('section')].find(isIt);"
        "return [...section.querySelectorAll('tbody tr')].map(r => [...r.cells].map(c => c.textContent.trim()))"
    )
    return browser.evaluate(script, heading)


@pytest.fixture(scope="module")
def report(runs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(report_page(make_report(runs), make_chart(runs)), encoding="utf-8")
    return path


def test_the_tables_of_a_report(browser, report) -> None:
    show(browser, report)
    assert browser.errors() == []
    assert browser.evaluate("return performance.getEntriesByType('resource').length") == 0
    assert [row[:4] for row in table(browser, "Runs")] == [[ODD, "failed", "40", "5"], ["two", "failed", "40", "5"]]
    assert table(browser, "Final and best values") == [
        ["loss", "train", "min", "1", "1", "40", "2.5", "2.5", "40"],
        ["loss", "eval", "min", "2", "2", "40", "2.5", "2.5", "40"],
        ["acc", "train", "max", "0.4", "0.4", "40", "0.4", "0.4", "40"],
    ]
    assert [[cell for cell in row if cell] for row in table(browser, "Tasks")] == [
        ["a", "loss", ODD, "4", "1", "1", "-", "2", "2", "2", "-"],
        ["two", "5", "2.5", "2.5", "-", "2.5", "2.5", "2.5", "-"],
        ["b", "acc", ODD, "0.1", "0.4", "0.4", "-", *"----"],
        ["two", "0.1", "0.4", "0.4", "-", *"----"],
    ]
    assert "Compared with " + ODD + ", two is worse in a (eval loss 2.5, was 2); the same in b" in browser.text()
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
    assert "No sink has delivered" not in browser.text()
    browser.driver.find_element("link text", "Delivery").click()  # unfolds that part
    browser.wait_for(lambda page: "No sink has delivered" in page.text())
    assert data(browser, "c.y.length") == [[4, 4, 1, 1], [3, 3]]
    # Every table and every chart has a label.
    assert browser.evaluate(
        "return [...document.querySelectorAll('table')].every(t => t.caption && t.querySelector('thead th[scope]'))"
    )
    label = browser.evaluate("return document.querySelector(arguments[0]).getAttribute('aria-label')", FIRST)
    assert "two, a/loss, train: from 5 at step 10 to 2.5 at step 40." in label


def test_a_report_fits_a_phone_follows_the_system_s_colours_and_prints_in_light_ones(browser, report) -> None:
    command = browser.driver.execute_cdp_cmd
    paper = "return getComputedStyle(document.documentElement).getPropertyValue('--paper').trim()"
    text = "return document.querySelector('.plot').layout.font.color"
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    command(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 3000, "deviceScaleFactor": 1, "mobile": True}
    )
    command("Emulation.setEmulatedMedia", dark)
    try:
        show(browser, report)
        assert browser.evaluate("return [document.documentElement.scrollWidth, innerWidth]") == [390, 390]
        assert (browser.evaluate(paper), browser.evaluate(text)) == ("#121212", "#e6e8ea")
        browser.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert (browser.evaluate(paper), browser.evaluate(text)) == ("#ffffff", "#000000")
        browser.evaluate("dispatchEvent(new Event('afterprint'))")
        assert browser.evaluate(text) == "#e6e8ea"
        command("Emulation.setEmulatedMedia", {"media": "print", **dark})
        assert browser.evaluate(paper) == "#ffffff"
    finally:
        command("Emulation.setEmulatedMedia", {"media": "", "features": []})
        command("Emulation.clearDeviceMetricsOverride", {})


def test_a_report_with_a_long_name_fits_a_phone(browser, tmp_path) -> None:
    long = f"task_{'x' * 60}"
    rows = [{f"{long}/loss": 4 / step, "b/loss": 2 / step, f"{long}/n_tokens": 512} for step in STEPS]
    values = [Snapshot(step, metrics=row) for step, row in zip(STEPS, rows)]
    write(tmp_path, (RunInfo(id="1", name="one"), values, None), (RunInfo(id="2", name="two"), values, None))
    runs = open_runs([f"{tmp_path}:1", f"{tmp_path}:2"])
    (tmp_path / "r.html").write_text(report_page(make_report(runs), make_chart(runs)), encoding="utf-8")
    command, screen = browser.driver.execute_cdp_cmd, {"width": 390, "height": 3000}
    command("Emulation.setDeviceMetricsOverride", {**screen, "deviceScaleFactor": 1, "mobile": True})
    try:
        show(browser, tmp_path / "r.html")
        assert browser.evaluate("return document.documentElement.scrollWidth") == 390
        browser.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
        assert browser.evaluate("return document.documentElement.scrollWidth") == 390
        widths = "return [...document.querySelectorAll('.table tbody th')].map(name => name.offsetWidth)"
        assert max(browser.evaluate(widths)) < 390 / 2  # the name stays in sight, and leaves room for the values
    finally:
        command("Emulation.clearDeviceMetricsOverride", {})


# Texts that reach beyond their chart, texts of bars that reach into the names of the rows, texts that cover another.
_TROUBLE = """
const found = [];
for (const plot of document.querySelectorAll(".panel:not([hidden]) .plot")) {
  const frame = plot.getBoundingClientRect(), texts = [...plot.querySelectorAll("text")];
  const boxes = texts.map(text => [text.textContent, text.getBoundingClientRect()]).filter(([, box]) => box.width);
  const left = frame.left + plot._fullLayout.xaxis._offset - 1;
  for (const text of plot.querySelectorAll(".bars text")) {
    if (text.getBoundingClientRect().left < left) found.push(text.textContent);
  }
  boxes.forEach(([text, box], i) => {
    if (box.left < frame.left - 1 || box.right > frame.right + 1) found.push(text);
    for (const [other, its] of boxes.slice(i + 1)) {
      const width = Math.min(box.right, its.right) - Math.max(box.left, its.left);
      const height = Math.min(box.bottom, its.bottom) - Math.max(box.top, its.top);
      if (width > 1 && height > 2) found.push(`${text} / ${other}`);
    }
  });
}
return found;
"""


@pytest.mark.parametrize("width", [390, 1440])
def test_the_values_at_the_pointer_are_in_their_box_beside_long_names(browser, tmp_path, width) -> None:
    names = ["bert_" + "x" * 75, "bert_" + "y" * 75]
    for name in names:
        snapshots = [
            Snapshot(s, phase, {"a/loss": 1.0 / s}) for s in STEPS for phase in ("train", "eval_second_dataset")
        ]
        write(tmp_path, (RunInfo(id=name, name=name), snapshots, None))
    chart = make_chart(open_runs([f"{tmp_path}:1", f"{tmp_path}:2"]), weight=0.5, scale="relative")
    write_chart(chart, tmp_path / "p.html")
    command = browser.driver.execute_cdp_cmd
    command(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 3000, "deviceScaleFactor": 1, "mobile": False}
    )
    try:
        browser.open(tmp_path / "p.html")
        settled(browser)
        point_at(browser, 20, 0.5)
        browser.wait_for(lambda page: page.evaluate("return document.getElementById('tip').innerText"))
        assert (
            browser.evaluate("return [...document.querySelectorAll('#tip td:nth-child(2)')].map(e => e.innerText)")
            == names * 2
        )
        ends = "return ['#tip', '#tip table'].map(e => document.querySelector(e).getBoundingClientRect().right)"
        box, table = browser.evaluate(ends)
        assert table < box < width
    finally:
        command("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("name", ["r", "bert-base-uncased-lr-2e-4-seed-42"])
@pytest.mark.parametrize("task", ["summarization", "summarization_" + "x" * 50])
def test_no_text_of_a_chart_is_cut_or_covers_another(browser, tmp_path, width, name, task) -> None:
    for run, factor in (("first", 1.0), (name, 1.9)):
        values = [{f"{task}/loss": factor * 4 / s, "b/loss": 2 / s / factor, "b/drift": -8e-5 * s} for s in STEPS]
        snapshots = [Snapshot(step, metrics=metrics) for step, metrics in zip(STEPS, values)]
        write(tmp_path, (RunInfo(id=run, name=run), snapshots, None))
    write_chart(make_chart(open_runs([f"{tmp_path}:1", f"{tmp_path}:2"])), tmp_path / "p.html")
    command = browser.driver.execute_cdp_cmd
    screen = {"width": width, "height": 3000, "deviceScaleFactor": 1, "mobile": width < 700}
    command("Emulation.setDeviceMetricsOverride", screen)
    try:
        browser.open(tmp_path / "p.html")
        settled(browser)
        assert browser.evaluate(_TROUBLE) == []
        assert name[-3:] in browser.text()
    finally:
        command("Emulation.clearDeviceMetricsOverride", {})


def test_no_text_of_a_chart_is_cut_after_the_phone_was_turned(browser, tmp_path) -> None:
    for run, factor in (("first", 1.0), ("bert-base-uncased-lr-2e-4-seed-42", 1.9)):
        snapshots = [Snapshot(s, metrics={"summarization/loss": factor / s, "b/loss": factor / s}) for s in STEPS]
        write(tmp_path, (RunInfo(id=run, name=run), snapshots, None))
    write_chart(make_chart(open_runs([f"{tmp_path}:1", f"{tmp_path}:2"])), tmp_path / "p.html")
    turn = {"height": 3000, "deviceScaleFactor": 1, "mobile": True}
    try:
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 740, **turn})
        browser.open(tmp_path / "p.html")
        settled(browser)
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, **turn})
        is_narrow = "return document.querySelector('.gains .plot')._fullLayout.width < 390"
        browser.wait_for(lambda page: page.evaluate(is_narrow))
        settled(browser)
        assert browser.evaluate(_TROUBLE) == []
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def colours(browser, css: str) -> list[str]:
    return browser.evaluate(
        "return [...document.querySelectorAll(arguments[0])].map(e => e.getAttribute('stroke'))", css
    )


def test_the_colour_shows_the_run_if_the_user_wants_it(plot) -> None:
    chips = "fieldset[data-of=run] line"
    by_task = data(plot, "c.line.color")
    assert by_task == [[by_task[0][0]] * 4, [by_task[1][0]] * 2]
    assert len(set(colours(plot, chips))) == 1
    choose(plot, "colour", "run")
    a, b = data(plot, "c.line.color")
    assert a == [*b, *b]  # both runs in training and in the evaluation
    assert colours(plot, chips) == b
    assert len(set(b)) == 2
    point_at(plot, 10, 4)
    plot.wait_for(lambda page: page.evaluate("return document.getElementById('tip').innerText"))
    assert colours(plot, "#tip line") == a
    choose(plot, "colour", "task")
    assert data(plot, "c.line.color") == by_task


def test_a_panel_of_several_tasks_keeps_their_colours(browser, runs, tmp_path) -> None:
    chart = make_chart(runs, overlay=True, only="*/*")
    write_chart(chart, tmp_path / "p.html")
    show(browser, tmp_path / "p.html")
    before = data(browser, "c.line.color")
    choose(browser, "colour", "run")
    several = [len({curve.task for curve in panel.curves}) > 1 for panel in chart.panels]
    assert [old == new for old, new in zip(before, data(browser, "c.line.color"))] == several


def test_paper_has_the_headings_of_a_report(browser, report) -> None:
    show(browser, report)
    command = browser.driver.execute_cdp_cmd
    command("Emulation.setEmulatedMedia", {"media": "print"})
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    try:
        headings = browser.evaluate(
            "return [...document.querySelectorAll('h2')].map(h => h.offsetHeight && h.innerText)"
        )
        assert headings == [
            *("Tasks", "Curves", "Runs", "Final and best values", "Best checkpoints"),
            *("Values that are not finite", "Missing values", "Delivery", "Settings"),
        ]
    finally:
        browser.evaluate("dispatchEvent(new Event('afterprint'))")
        command("Emulation.setEmulatedMedia", {"media": "", "features": []})


def test_on_a_phone_the_names_of_tasks_stay_while_their_table_scrolls(browser, report) -> None:
    command = browser.driver.execute_cdp_cmd
    screen = {"width": 390, "height": 3000, "deviceScaleFactor": 1, "mobile": True}
    command("Emulation.setDeviceMetricsOverride", screen)
    try:
        browser.open(report)
        scrolled = "const table = document.querySelector('.table'); table.scrollLeft = 200; return [table.scrollLeft, "
        left = "table.querySelector('tbody th').getBoundingClientRect().left - table.getBoundingClientRect().left]"
        assert browser.evaluate(scrolled + left) == [200, 0]
    finally:
        command("Emulation.clearDeviceMetricsOverride", {})


def test_a_panel_can_be_saved_as_a_picture(plot) -> None:
    script = "return Plotly.toImage(document.querySelector('.plot'), {format: 'png'})"
    assert plot.evaluate(script).startswith("data:image/png;base64,")
    assert plot.errors() == []


def test_small_gains_have_an_axis_on_which_no_two_labels_are_equal(browser, tmp_path) -> None:
    first, second = ([Snapshot(step, metrics={"a/loss": loss / step}) for step in (1, 2)] for loss in (1.0, 0.984))
    write(tmp_path, (RunInfo(id="1", name="one"), first, None), (RunInfo(id="2", name="two"), second, None))
    write_chart(make_chart(open_runs([f"{tmp_path}:1", f"{tmp_path}:2"])), tmp_path / "p.html")
    show(browser, tmp_path / "p.html")
    labels = browser.evaluate(
        "return [...document.querySelectorAll('.panel')].filter(p => p.innerText.startsWith('Best values'))"
        ".flatMap(p => [...p.querySelectorAll('.xtick')].map(t => t.textContent))"
    )
    assert len(labels) == len(set(labels)) > 2
    assert "+0.5%" in labels


def test_beside_a_bar_the_sign_stays_in_front_of_the_number_after_a_name_from_right_to_left(browser, tmp_path) -> None:
    first, second = ([Snapshot(step, metrics={"a/loss": loss / step}) for step in (1, 2)] for loss in (1.0, 1.5))
    write(tmp_path, (RunInfo(id="1", name="one"), first, None), (RunInfo(id="2", name="שתיים"), second, None))
    write_chart(make_chart(open_runs([f"{tmp_path}:1", f"{tmp_path}:2"])), tmp_path / "p.html")
    show(browser, tmp_path / "p.html")
    text, *places = browser.evaluate(
        "const label = document.querySelector('.gains .bartext'), text = label.textContent;"
        "return [text, ...'-50%'.split('').map(c => label.getStartPositionOfChar(text.indexOf(c)).x)]"
    )
    assert text.endswith("-50.0 %")
    sign, five, zero, percent = places
    assert sign < five < zero < percent
