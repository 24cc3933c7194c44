from __future__ import annotations

import io
import re
from dataclasses import replace
from itertools import combinations

import pytest
from helpers.journals import write
from rich.console import Console

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.alerts import AlertRow
from mtask_sinks.analysis.progress import MetricProgress, TrainingProgress, Watch
from mtask_sinks.analysis.task_health import GradientSummary
from mtask_sinks.cli.watch_choice import ViewChoice, phases_of, watched_metrics
from mtask_sinks.cli.watch_view import make_frame, make_screen, summary_line
from mtask_sinks.delivery.status import SinkStatus


def shown(progress: TrainingProgress, **options) -> list[str]:
    console = Console(file=io.StringIO(), width=100, **options)
    console.print(make_frame(progress, console), soft_wrap=not console.is_terminal)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("height", [8, 24, 60])
def test_a_screen_is_as_high_as_the_terminal_and_tells_how_many_rows_do_not_fit(tmp_path, height: int) -> None:
    metrics = {f"task{i}/loss": 1.0 for i in range(40)}
    write(tmp_path, (RunInfo(id="1"), [Snapshot(1, metrics=metrics)], "finished"))
    console = Console(file=io.StringIO(), width=100, height=height, force_terminal=True, color_system=None)
    screen = make_screen(Watch(tmp_path).progress(), console, ViewChoice(), "", "")
    console.print(screen.renderable)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == height
    rows = sum(line.startswith("task") for line in lines) - 1
    assert rows == min(screen.height, 40)
    assert (f"↓ {40 - rows} more" in lines[-1]) == (rows < 40)


@pytest.mark.parametrize(
    ("height", "left_out", "rows"),
    [(13, "", 1), (12, "task health", 1), (11, "task health, sinks", 2), (9, "task health, sinks, alerts", 3)],
)
def test_on_a_low_terminal_the_heading_gives_way_to_the_table(tmp_path, height: int, left_out: str, rows: int) -> None:
    write(tmp_path, (RunInfo(id="1"), [Snapshot(1, metrics={f"{task}/loss": 1.0 for task in "abcdefgh"})], "finished"))
    progress = replace(
        Watch(tmp_path).progress(),
        journal="metrics.jsonl",
        sinks=(SinkStatus("wandb", "down", 0, 1, 0, "no answer"), SinkStatus("mlflow", "up", 1, 0, 0, None)),
        health=GradientSummary((), (), None, None, off="no parameter is shared"),
        alerts=tuple(
            AlertRow(f"{task}/loss", "train", "nonfinite", f"{task}/loss is NaN", 1, 1, None, False) for task in "abc"
        ),
    )
    console = Console(file=io.StringIO(), width=60, height=height, force_terminal=True, color_system=None)
    screen = make_screen(progress, console, ViewChoice(), "", "")
    console.print(screen.renderable)
    lines = [line.rstrip() for line in console.file.getvalue().splitlines()]
    assert len(lines) == height
    assert lines[-2] == (f"no room for: {left_out}" if left_out else "")
    assert [line[0] for line in lines if re.match("[a-h] +loss", line)] == list("abcdefgh")[:rows]
    assert screen.height == rows


def test_wide_names_of_tasks_leave_every_cosine_whole(tmp_path) -> None:
    tasks = ["情感分析", "机器翻译", "问答系统", "摘要生成"]
    pairs = {f"health/grad_cosine.{a}.{b}": 0.5 for a, b in combinations(tasks, 2)}
    metrics = {f"{task}/grad_norm": 1.0 for task in tasks} | pairs
    write(tmp_path, (RunInfo(id="1"), [Snapshot(1, metrics=metrics, counts=dict.fromkeys(metrics, 1))], None))
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    console.print(make_screen(Watch(tmp_path).progress(), console, ViewChoice(), "", "").renderable)
    assert re.findall("(\\w+)·(\\w+) [+]0.50", console.file.getvalue()) == [*combinations(tasks, 2)]


def test_a_screen_without_any_metric_is_as_high_as_the_terminal(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), [Snapshot(1, logs={"loss": 1.0})], "finished"))
    console = Console(file=io.StringIO(), width=100, height=12, force_terminal=True, color_system=None)
    console.print(make_screen(Watch(tmp_path).progress(), console, ViewChoice(), "", "").renderable)
    lines = console.file.getvalue().splitlines()
    assert (len(lines), "quit" in lines[-1]) == (12, True)


def test_a_screen_says_that_no_metric_matches_the_pattern_of_the_command(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), [Snapshot(1, metrics={"a/loss": 1.0})], "finished"))
    console = Console(file=io.StringIO(), width=100, height=12, force_terminal=True, color_system=None)
    console.print(make_screen(Watch(tmp_path, "nix").progress(), console, ViewChoice(), "", "").renderable)
    text = console.file.getvalue()
    assert "no metric matches" in text
    assert len(text.splitlines()) == 12


def test_what_the_user_types_stays_whole_on_a_narrow_terminal(tmp_path) -> None:
    metrics = {f"task{i}/loss": 1.0 for i in range(40)}
    write(tmp_path, (RunInfo(id="1"), [Snapshot(1, metrics=metrics)], "finished"))
    console = Console(file=io.StringIO(), width=30, height=24, force_terminal=True, color_system=None)
    choice = ViewChoice("task1 loss", is_typing=True)
    console.print(make_screen(Watch(tmp_path).progress(), console, choice, "", "").renderable)
    line = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue().splitlines()[-1])
    assert line == "/task1 loss▏  0 of 40 rows  e…"


def test_a_key_without_a_character_types_nothing() -> None:
    choice = ViewChoice("loss", is_typing=True)
    assert (choice.after("down", [], 0).pattern, choice.after("a", [], 0).pattern) == ("loss", "lossa")


def test_a_summary_has_what_is_known() -> None:
    assert summary_line(TrainingProgress("j", step=1200)) == "step 1,200"
    everything = TrainingProgress(
        "j", step=50, max_steps=200, epoch=0.5, steps_per_second=2.0, seconds_left=75.0, resumed_at=(20, 1000)
    )
    assert summary_line(everything) == "step 50 of 200  25%  epoch 0.50  2 steps/s  1:15 left  resumed at 20, 1,000"


def test_a_training_that_runs_is_not_at_100_per_cent() -> None:
    shown = [summary_line(TrainingProgress("j", step=step, max_steps=2000)) for step in (3, 1992, 1999, 2000, 2001)]
    assert [line.split("  ")[1] for line in shown] == ["0%", "99%", "99%", "100%", "100%"]


def test_one_line_that_cannot_be_read_is_one_line() -> None:
    assert summary_line(TrainingProgress("j", step=2, left_out=1)).endswith("1 line of the journal cannot be read")
    assert summary_line(TrainingProgress("j", step=2, left_out=2)).endswith("2 lines of the journal cannot be read")


def test_a_training_that_has_not_begun_is_waited_for() -> None:
    assert shown(TrainingProgress("out/metrics.jsonl"))[0].startswith("out/metrics.jsonl has no rows yet: ")


def test_an_error_of_a_sink_is_cut_to_its_first_line() -> None:
    sink = SinkStatus("mlflow", "down", 3, 1, 2, "gone " * 30 + "\nsecond line")
    lines = shown(TrainingProgress("j", 1, "r", status="running", sinks=(sink,)))
    head, row = (line.split() for line in lines[3:5])
    assert head == ["sink", "state", "delivered", "pending", "rejected", "error"]
    assert row[:5] == ["mlflow", "down", "3", "2", "1"]
    assert "second" not in " ".join(lines) and lines[4].endswith("…")


def test_a_terminal_names_a_task_once_and_a_pipe_in_every_line(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), [Snapshot(1, metrics={"a/loss": 1.0, "a/acc": 0.5})], "finished"))
    rows = [
        line
        for line in shown(Watch(tmp_path).progress(), force_terminal=True, color_system=None)
        if " 0.5 " in line or " 1 " in line
    ]
    assert [row.split()[0] for row in rows] == ["a", "acc"]
    assert [line.split()[:2] for line in shown(Watch(tmp_path).progress())[-2:]] == [["a", "loss"], ["a", "acc"]]


def test_a_value_that_is_older_than_the_others_of_its_phase_is_dim(tmp_path) -> None:
    snapshots = [Snapshot(1, metrics={"a/loss": 1.5, "b/loss": 2.5}), Snapshot(2, metrics={"b/loss": 3.5})]
    write(tmp_path, (RunInfo(id="1", name="r"), snapshots, "finished"))
    text = "".join(shown(Watch(tmp_path).progress(), force_terminal=True))
    assert re.search(r"\x1b\[2m *1\.5", text) and re.search(r"\x1b\[1m *3\.5", text)


def test_sinks_are_words_on_a_terminal_and_their_errors_have_a_line() -> None:
    sinks = (SinkStatus("mlflow", "down", 1200, 1, 2, "gone"), SinkStatus("wandb", "up", 3, 0, 0, None))
    lines = shown(TrainingProgress("j", 1, "r", status="running", sinks=sinks), force_terminal=True, color_system=None)
    assert lines[2].strip() == "mlflow down: 1,200 delivered, 2 pending, 1 rejected  wandb up: 3 delivered"
    assert lines[3].strip() == "mlflow: gone"


def test_a_change_for_the_better_is_green_and_one_for_the_worse_is_yellow() -> None:
    def colours(better: str | None, change: float | None) -> set[str]:
        row = MetricProgress("a", "x", "train", 2, 1.0, change, 1, (1.0, 2.0), better)
        text = "".join(shown(TrainingProgress("j", 1, "r", rows=(row,)), force_terminal=True))
        return {colour for code, colour in {"\x1b[32m": "green", "\x1b[33m": "yellow"}.items() if code in text}

    assert colours("min", -0.5) == colours("max", 0.5) == {"green"}
    assert colours("min", 0.5) == colours("max", -0.5) == {"yellow"}
    assert colours(None, 0.5) == colours(None, -0.5) == colours("min", None) == colours("min", 0.0) == set()


def test_a_rule_of_the_training_colours_a_change(tmp_path) -> None:
    rows = [Snapshot(1, metrics={"a/bias": 2.0}), Snapshot(2, metrics={"a/bias": 1.0})]
    for number, (rules, is_green) in enumerate((({}, False), ({"*/bias": "min"}, True), ({"*/bias": "max"}, False))):
        write(tmp_path, (RunInfo(id=str(number), directions=rules), rows, "finished"))
        text = "".join(shown(Watch(tmp_path).progress(), force_terminal=True))
        assert ("\x1b[32m" in text, "\x1b[33m" in text) == (is_green, rules == {"*/bias": "max"})


def test_steps_are_shown_where_they_are_not_the_last_one_and_always_in_a_pipe(tmp_path) -> None:
    snapshots = [Snapshot(1000, metrics={"a/x": 1.5}), Snapshot(1000, "eval", {"a/x": 2.5})]
    snapshots.append(Snapshot(2000, metrics={"a/x": 3.5}))
    write(tmp_path, (RunInfo(id="1", name="r"), snapshots, "finished"))
    head, row = shown(Watch(tmp_path).progress(), force_terminal=True, color_system=None)[-2:]
    assert head.split() == ["task", "metric", "train", "change", "curve", "reports", "eval", "step", "reports"]
    assert row.split() == ["a", "x", "3.5", "+2", "▁█", "-", "2.5", "1,000", "-"]
    head, row = shown(Watch(tmp_path).progress())[-2:]
    columns = ["change", "curve", "step", "reports"]
    assert head.split() == ["task", "metric", "train", *columns, "eval", *columns]
    assert row.split() == ["a", "x", "3.5", "+2", "▁█", "2,000", "-", "2.5", "▁", "1,000", "-"]


def test_the_phases_of_the_rows_begin_with_the_training_and_end_with_the_whole_of_it() -> None:
    progress = [MetricProgress("a", "loss", phase, 1, 1.0, None, 1, (1.0,)) for phase in ("overall", "eval", "train")]
    assert phases_of(watched_metrics(progress)) == ["train", "eval", "overall"]


def test_a_metric_that_stays_at_zero_has_not_become_worse() -> None:
    changes = {"zero": (0.0, 0.0), "worse": (2.0, 1.0), "better": (1.0, -1.0)}
    progress = [
        MetricProgress("a", name, "train", 2, last, change, 2, (last - change, last), "min")
        for name, (last, change) in changes.items()
    ]
    rows = ViewChoice(order="worse first").chosen(watched_metrics(progress))
    assert [row.name for row in rows] == ["worse", "zero", "better"]


def test_the_oldest_metric_is_the_one_whose_newest_value_in_any_phase_is_oldest() -> None:
    steps = [("a", "train", 10), ("a", "eval", 2), ("b", "train", 5)]
    rows = watched_metrics([MetricProgress(task, "Loss", phase, at, 1.0, None, 1, (1.0,)) for task, phase, at in steps])
    assert [row.task for row in ViewChoice(order="oldest first").chosen(rows)] == ["b", "a"]
    assert [row.task for row in ViewChoice(pattern="A/LOSS").chosen(rows)] == ["a"]
    assert ViewChoice(pattern="l?ss").chosen(rows) == ViewChoice(pattern="[ab]/").chosen(rows) == []


def test_a_character_that_cannot_be_seen_is_not_typed() -> None:
    choice = ViewChoice(is_typing=True, pattern="a")
    assert [choice.after(key, [], 1).pattern for key in ("\x01", "\x7f", "b")] == ["a", "a", "ab"]
