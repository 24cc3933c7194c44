"""`mtask-sinks watch --x`: the curves, and the places of the values, over a running total, epochs or time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from helpers.journals import losses, write
from helpers.terminal import Terminal
from typer.testing import CliRunner

from mtask_sinks import MetricRegistry, RunInfo, Snapshot
from mtask_sinks.cli import app

# Tokens and loss of five steps. In all, 100, 200, 300, 400 and 800 tokens.
STEPS = [(100, 8.0), (100, 4.0), (100, 2.0), (100, 1.0), (400, 0.0)]


def reported(steps=STEPS, evaluated: int = 3) -> list[Snapshot]:
    """What a registry makes of these steps, with an evaluation after one of them."""
    registry = MetricRegistry(reducers={"*/n_tokens": "total"})
    made = []
    for step, (tokens, loss) in enumerate(steps, 1):
        registry.report_metrics("mlm", loss=loss, n_tokens=tokens)
        made.append(registry.snapshot(step=step, epoch=step / 4))
        if step == evaluated:
            made.append(Snapshot(step, "eval", {"mlm/loss": 3.5}, epoch=step / 4))
    return made


@pytest.fixture
def out(tmp_path) -> str:
    write(tmp_path, (RunInfo(id="1", name="bert", params={"max_steps": 8}), reported(), "finished"))
    return str(tmp_path)


def run(*arguments: str):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


def words(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


def test_a_terminal_shows_curves_over_tokens_and_where_older_values_are(out) -> None:
    with Terminal("watch", out, "--x", "mlm/n_tokens") as terminal:
        lines = terminal.wait_for("quit").lines
    assert "step 5 of 8  62%  epoch 1.25  x: mlm/n_tokens 800" in terminal.text
    heading, loss, tokens = (line.split() for line in lines[lines.index("") + 1 :][:3])
    assert heading == ["task", "metric", "train", "change", "curve", "reports", "eval", "x", "reports"]
    # At 100, 275, 450, 625, 800 tokens: 8; 4 and 2; 1; none, as before; 0. The highest block is 8, the lowest 0.
    assert loss == ["mlm", "loss", "0", "-1", "█▄▂▂▁", "1", "3.5", "300", "-"]
    assert tokens[:5] == ["n_tokens", "800", "+400", "▁▃▄▄█", "1"]  # 100; 200 and 300; 400; as before; 800


def test_a_pipe_tells_where_every_last_value_is(out) -> None:
    lines = run("watch", out, "--x", "mlm/n_tokens").output.splitlines()
    assert lines[1].startswith("step 5 of 8  62%  epoch 1.25  x: mlm/n_tokens 800  ")
    columns = ["change", "curve", "x", "reports"]
    assert [line.split() for line in lines[3:5]] == [
        ["task", "metric", "train", *columns, "eval", *columns],
        ["mlm", "loss", "0", "-1", "█▄▂▂▁", "800", "1", "3.5", "▁", "300", "-"],
    ]


@pytest.mark.parametrize(
    ("x", "head", "train", "evaluation"),
    [
        ("step", "", 5, 3),
        ("epoch", "x: epoch 1.25", 1.25, 0.75),
        ("time", "x: time 0 s", None, None),
        ("mlm/n_tokens", "x: mlm/n_tokens 800", 800.0, 300.0),
    ],
)
def test_json_has_the_axis_and_the_places(out, x, head, train, evaluation) -> None:
    view = json.loads(run("watch", out, "--json", "--only", "*/loss", "--x", x).output)
    found = [row["x_value"] for row in view["rows"]]
    assert (view["x"], "x_error" in view, [row["step"] for row in view["rows"]]) == (x, False, [5, 3])
    if train is None:  # the seconds since the training began
        assert 0 <= found[1] <= found[0] == view["x_value"] < 60
    else:
        assert [view["x_value"], *found] == [train, train, evaluation]
    assert head in run("watch", out, "--x", x).output


def test_time_does_not_count_the_stop_before_a_resume(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), losses(1), None), (RunInfo(id="2", step=1), losses(2), "finished"))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for record, at in zip(records, (1000.0, 1060.0, 90_000.0, 90_064.0, 90_064.0), strict=True):
        record["time"] = at
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert "  x: time 2:04  " in run("watch", str(tmp_path), "--x", "time").output  # 60 s, then 64 s


@pytest.mark.parametrize("x", ["nsp/n_tokens", "mlm/loss", "steps"])
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_what_is_no_axis_is_the_usage_error_of_plot(out, x, as_json) -> None:
    watched, plotted = run("watch", out, "--x", x, *as_json), run("plot", out, "--x", x)
    assert watched.exit_code == plotted.exit_code == 2
    said, expected = (words(done.output).partition("Error")[2] for done in (watched, plotted))
    assert said == expected and "Invalid value for --x: x='" in said
    assert "one of: step, epoch, time, mlm/n_tokens." in said


def test_a_screen_tells_that_the_total_is_not_there_and_uses_it_as_soon_as_it_is(tmp_path) -> None:
    run_info, (first, *others) = RunInfo(id="1", name="bert"), reported(STEPS[:2], evaluated=0)
    before = Snapshot(0, metrics={"mlm/loss": 9.0})
    write(tmp_path, (run_info, [before], None))
    with Terminal("watch", str(tmp_path), "--x", "mlm/n_tokens", "--interval", "0.2") as terminal:
        terminal.wait_for("quit")
        note = (
            "x='mlm/n_tokens' is no metric of the training phase. Pass one of: step, epoch, time. Until that changes,"
        )
        assert f"{note} watch uses the step." in words(terminal.text) and "x: " not in terminal.text
        write(tmp_path, (run_info, [first], None))
        terminal.wait_for("x: mlm/n_tokens 100")
        assert "Until that changes" not in terminal.text
        write(tmp_path, (run_info, others, None))
        terminal.wait_for("x: mlm/n_tokens 200")
        assert "█▁" in terminal.text  # the losses 8 and 4; that of step 0 has no place


def test_a_typing_error_stays_on_the_screen_with_what_is_allowed(out) -> None:
    with Terminal("watch", out, "--x", "mlm/n_token") as terminal:
        terminal.wait_for("quit")
        assert "Pass one of: step, epoch, time, mlm/n_tokens. Until that" in words(terminal.text)
        assert "█▅▃▂▁" in terminal.text  # over steps


@pytest.mark.parametrize("as_json", [False, True])
def test_followed_into_a_pipe_lines_tell_the_total_once_there_is_one(tmp_path, as_json) -> None:
    run_info, (first, *others) = RunInfo(id="1", name="r"), reported(STEPS[:2])
    write(tmp_path, (run_info, [Snapshot(0, metrics={"mlm/loss": 9.0})], None))
    options = ["--follow", "--interval", "0.1", "--x", "mlm/n_tokens", *(["--json"] if as_json else [])]
    process = subprocess.Popen(
        [sys.executable, "-m", "mtask_sinks", "watch", str(tmp_path), *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        said = process.stderr.readline()  # then it waits for what is new
        write(tmp_path, (run_info, [Snapshot(0, "eval", {"mlm/loss": 9.5}), first, *others], "finished"))
        lines = [process.stdout.readline().rstrip() for _ in range(4)]
    finally:
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=120)
    assert said.startswith("x='mlm/n_tokens' is no metric of the training phase. ") and not rest
    if as_json:
        records = [json.loads(line) for line in lines]
        assert [record["event"] for record in records] == ["begin", "snapshot", "snapshot", "snapshot"]
        places = [(record["step"], record["x"], record["x_value"]) for record in records[1:]]
        assert places == [(0, "step", 0), (1, "mlm/n_tokens", 100.0), (2, "mlm/n_tokens", 200.0)]
    else:
        assert lines[1:3] == [
            "r  step 0  eval  mlm/loss 9.5",
            "r  mlm/n_tokens 100  train  mlm/loss 8  mlm/n_tokens 100",
        ]
