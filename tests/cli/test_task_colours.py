"""A task has the colour of its curves in charts, in every command."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.journals import write
from helpers.terminal import Terminal

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.selection import open_runs
from mtask_sinks.charts.make import make_chart
from mtask_sinks.charts.style import ChartStyles

TASKS = ("ner", "sts", "qa")
BLUE, OCHRE, GREEN = "356aa1", "c9741a", "3fa673"


@pytest.fixture(autouse=True)
def _true_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")


def journal(directory: Path, *tasks: str) -> Path:
    metrics = {f"{task}/{name}": 2.0 for task in tasks for name in ("loss", "accuracy")}
    halves = {key: value / 2 for key, value in metrics.items()}
    snapshots = [Snapshot(1, metrics=metrics), Snapshot(2, metrics=halves)]
    return write(directory, (RunInfo(id=directory.name, name=directory.name), snapshots, "finished"))


def colours_in(*arguments: str) -> dict[str, set[str]]:
    """Return first word of a row → colours of its first letter and of the blocks of its curve."""
    found: dict[str, set[str]] = {}
    with Terminal(*arguments, columns=120, lines=30) as terminal:
        terminal.wait_for_end()
        task = ""
        for at, line in enumerate(terminal.lines):
            task = next((each for each in TASKS if line.startswith(each)), task if line.startswith("  ") else "")
            if task:
                cells = terminal.screen.buffer[at]
                coloured = [0] if line.startswith(task) else []
                coloured += [column for column, letter in enumerate(line) if letter in "▁▂▃▄▅▆▇█"]
                found.setdefault(task, set()).update(cells[column].fg for column in coloured)
    return found


def test_watch_and_diff_have_the_colours_of_the_chart(tmp_path) -> None:
    a, b = (str(journal(tmp_path / name, *TASKS).parent) for name in ("a", "b"))
    styles = ChartStyles(make_chart(open_runs([a, b])))
    in_chart = {row.name: row.style.colour.removeprefix("#") for row in styles.legend() if row.of == "task"}
    assert in_chart == {"ner": BLUE, "sts": OCHRE, "qa": GREEN}
    expected = {task: {colour} for task, colour in in_chart.items()}
    assert colours_in("watch", a, "--once") == expected
    assert colours_in("diff", a, b) == expected


def test_a_filter_does_not_change_the_colours(tmp_path) -> None:
    a, b = (str(journal(tmp_path / name, *TASKS).parent) for name in ("a", "b"))
    assert colours_in("watch", a, "--once", "--only", "qa/*") == {"qa": {GREEN}}
    assert colours_in("diff", a, b, "--only", "sts/*") == {"sts": {OCHRE}}


def test_a_task_that_only_the_second_training_has_comes_last(tmp_path) -> None:
    a = str(journal(tmp_path / "a", "sts", "qa").parent)
    b = str(journal(tmp_path / "b", "ner", "qa").parent)
    assert colours_in("diff", a, b) == {"sts": {BLUE}, "qa": {OCHRE}, "ner": {GREEN}}
