from __future__ import annotations

import io

from helpers.journals import losses, write
from rich.console import Console

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.progress import MetricProgress, TrainingProgress, Watch
from mtask_sinks.cli.watch_view import make_frame, summary_line
from mtask_sinks.delivery.status import SinkStatus


def shown(progress: TrainingProgress, **options) -> list[str]:
    console = Console(file=io.StringIO(), width=100, **options)
    console.print(make_frame(progress, console), soft_wrap=not console.is_terminal)
    return console.file.getvalue().splitlines()


def test_a_picture_is_no_higher_than_the_terminal_and_says_what_is_left_out(tmp_path) -> None:
    metrics = {f"task{i}/loss": 1.0 for i in range(40)}
    write(tmp_path, (RunInfo(id="1"), [Snapshot(1, metrics=metrics)], "finished"))
    console = Console(file=io.StringIO(), width=100, height=24, force_terminal=True)
    console.print(make_frame(Watch(tmp_path).progress(), console, height=24))
    text = console.file.getvalue()
    assert len(text.splitlines()) == 24
    assert "more rows: choose some with --only" in text


def test_a_summary_has_what_is_known() -> None:
    assert summary_line(TrainingProgress("j", step=1200)) == "step 1,200"
    everything = TrainingProgress(
        "j", step=50, max_steps=200, epoch=0.5, steps_per_second=2.0, seconds_left=75.0, resumed_at=(20, 1000)
    )
    assert summary_line(everything) == "step 50 of 200  25%  epoch 0.50  2 steps/s  1:15 left  resumed at 20, 1,000"


def test_a_training_that_has_not_begun_is_waited_for() -> None:
    assert shown(TrainingProgress("out/metrics.jsonl"))[0].startswith("out/metrics.jsonl does not exist yet: ")


def test_an_error_of_a_sink_is_cut_to_its_first_line() -> None:
    sink = SinkStatus("mlflow", "down", 3, 1, 2, "gone " * 30 + "\nsecond line")
    lines = shown(TrainingProgress("j", 1, "r", status="running", sinks=(sink,)))
    head, row = (line.split() for line in lines[3:5])
    assert head == ["sink", "state", "delivered", "pending", "rejected", "error"]
    assert row[:5] == ["mlflow", "down", "3", "2", "1"]
    assert "second" not in " ".join(lines) and lines[4].endswith("…")


def test_a_terminal_names_a_task_and_a_metric_once(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), [*losses(2), *losses(2, phase="eval")], "finished"))
    text = "\n".join(shown(Watch(tmp_path).progress(), force_terminal=True, color_system=None))
    assert text.count(" loss ") == 1
    in_pipe = "\n".join(shown(Watch(tmp_path).progress()))
    assert in_pipe.count(" loss ") == 2


def test_a_change_for_the_better_is_green_and_one_for_the_worse_is_yellow() -> None:
    def colours(better: str | None, change: float | None) -> set[str]:
        row = MetricProgress("a", "x", "train", 2, 1.0, change, 1, (1.0,), better)
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
