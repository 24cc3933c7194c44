from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from helpers.journals import losses, write
from helpers.large_journal import METRICS, PHASES, TASKS, value, write_large
from helpers.terminal import Terminal
from typer.testing import CliRunner

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks._util.formatting import number
from mtask_sinks.cli import app
from mtask_sinks.journal.writer import Journal


def diff(*arguments: str):
    return CliRunner().invoke(app, ["diff", *arguments], env={"COLUMNS": "200"})


@pytest.fixture
def two(tmp_path) -> str:
    first = [*losses(2, 4), Snapshot(4, "eval", {"a/acc": 0.5})]
    second = [*losses(2, 4, factor=5.0), Snapshot(4, "eval", {"a/acc": 0.4}), Snapshot(4, metrics={"lr": 1.0})]
    write(tmp_path, (RunInfo(id="1", name="one"), first, "finished"), (RunInfo(id="2", name="two"), second, "failed"))
    return str(tmp_path)


def test_columns_say_final_best_and_change(two) -> None:
    done = diff(f"{two}:one", two)
    assert done.exit_code == 0
    a, b, _, head, *rows = done.output.splitlines()
    assert a == f"A  one  finished at step 4  {two}/metrics.jsonl"
    assert b == f"B  two  failed at step 4  {two}/metrics.jsonl"
    assert head.split("  ")[0] == "task"
    assert [row.split() for row in rows] == [
        ["a", "loss", "train", "40", "20", "-20", "min", "20", "@2", "10", "@2", "-10", "better"],
        ["a", "acc", "eval", "0.5", "0.4", "-0.1", "max", "0.5", "@4", "0.4", "@4", "-0.1", "worse"],
        ["-", "lr", "train", "-", "1", "-", "-", "-", "-", "-"],
    ]


def test_values_that_differ_look_different(tmp_path) -> None:
    first, second = ([Snapshot(2, metrics={"a/loss": loss, "a/x": 5.0})] for loss in (3.0, 2.9999))
    write(tmp_path, (RunInfo(id="1"), first, "finished"), (RunInfo(id="2"), second, "finished"))
    rows = [row.split() for row in diff(f"{tmp_path}:1", f"{tmp_path}:2").output.splitlines()[4:]]
    assert rows == [
        ["a", "loss", "train", "3", "2.9999", "-0.0001", "min", "3", "@2", "2.9999", "@2", "-0.0001", "better"],
        ["a", "x", "train", "5", "5", "0", "-", "-", "-", "-"],
    ]


def test_json_has_the_numbers(two) -> None:
    found = json.loads(diff(f"{two}:1", f"{two}:2", "--only", "a/loss", "--json").output)
    assert (found["a"]["name"], found["b"]["name"], found["b"]["status"]) == ("one", "two", "failed")
    (row,) = found["metrics"]
    assert row["a"] == {"final": 40.0, "final_step": 4, "best": 20.0, "best_step": 2, "partial": False}
    assert (row["better"], row["final_change"], row["best_change"], row["verdict"]) == ("min", -20.0, -10.0, "better")


def test_a_rule_of_the_training_says_which_is_better_and_without_one_nothing_does(tmp_path) -> None:
    first = [Snapshot(2, metrics={"a/bias": 0.5, "a/n": 2.0}), Snapshot(4, metrics={"a/bias": 0.75, "a/n": 1.0})]
    second = [Snapshot(2, metrics={"a/bias": 0.25, "a/n": 3.0})]
    rules = {"*/bias": "min"}
    with_rules = RunInfo(id="2", name="two", directions=rules)
    write(tmp_path, (RunInfo(id="1", name="one"), first, "finished"), (with_rules, second, "finished"))
    write(tmp_path, (RunInfo(id="3", name="three"), second, "finished"))
    count = ["a", "n", "train", "1", "3", "+2", "-", "2", "@2", "3", "@2", "+1"]
    names = ["a", "bias", "train", "0.75", "0.25", "-0.5"]
    for other, cells in (("two", ["min", "0.5", "@2", "0.25", "@2", "-0.25", "better"]), ("three", ["-"] * 4)):
        done = diff(f"{tmp_path}:one", f"{tmp_path}:{other}")
        assert [row.split() for row in done.output.splitlines()[4:]] == [[*names, *cells], count]
    found = json.loads(diff(f"{tmp_path}:one", f"{tmp_path}:three", "--only", "a/bias", "--json").output)["metrics"][0]
    assert found["a"] == {"final": 0.75, "final_step": 4, "best": None, "best_step": None, "partial": False}
    assert (found["better"], found["final_change"], found["best_change"], found["verdict"]) == (None, -0.5, None, None)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ("{}:3", "there is no training '3'. The trainings are: 1 (one), 2 (two)."),
        ("nowhere", "there is no nowhere. Pass a journal"),
    ],
)
def test_a_run_that_is_not_there_is_a_usage_error(two, run, said) -> None:
    done = diff(two, run.format(two))
    assert done.exit_code == 2
    text = " ".join(done.output.replace("│", " ").split())
    assert "RUN_B" in text
    assert said in text


@pytest.mark.parametrize(
    ("run", "argument", "said"),
    [
        ("nowhere:2", "RUN_A", "there is no nowhere. Pass a journal"),
        ("{}:9", "RUN_A", "{}: there is no training '9'. The trainings are: 1 (one), 2 (two)."),
        ("begun", "RUN_A", "begun holds no training yet."),
        ("{}:2", "RUN_B", "{}:2 is one training. Pass the training to compare it with: mtask-sinks diff {}:2 DIR"),
        ("one", "RUN_B", "one holds only one training. Pass the training to compare it with: mtask-sinks diff one DIR"),
    ],
)
def test_one_argument_that_does_not_lead_to_two_trainings_is_a_usage_error(two, run, argument, said) -> None:
    for name in ("begun", "one"):
        Path(name).mkdir()
    Path("begun", "metrics.jsonl").touch()
    write(Path("one"), (RunInfo(id="3"), losses(2), "finished"))
    done = diff(run.format(two))
    assert done.exit_code == 2
    text = "".join(done.output.replace("│", " ").split())  # a path may be broken where it has a hyphen
    assert argument in text
    assert "".join(said.replace("{}", two).split()) in text


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_pattern_that_matches_no_metric_is_a_usage_error(two, form) -> None:
    done = diff(f"{two}:1", f"{two}:2", "--only", "nix", *form)
    assert done.exit_code == 2
    assert "--only: no metric matches 'nix'. The metrics are: a/loss, a/acc, lr." in done.output


def test_no_torch(two, without_torch) -> None:
    assert "better" in without_torch("diff", f"{two}:1", two)


def test_no_number_breaks_on_80_columns_and_what_is_left_out_is_named(tmp_path) -> None:
    for name in ("a", "b"):
        write_large(tmp_path / name, name)
    with Terminal("diff", str(tmp_path / "a"), str(tmp_path / "b"), "--only", "summarization/*", lines=45) as terminal:
        assert terminal.wait_for_end() == 0
    rows = [line.split() for line in terminal.lines if re.match(r"summarization ", line)]
    assert len(rows) == len(METRICS) * len(PHASES)
    for _, metric, phase, first, second, *_ in rows:
        assert first == second == number(value("summarization", metric, phase, 2000))
    assert "no room for: change of the best value, which value is best" in terminal.text


@pytest.mark.parametrize("columns", range(40, 130, 6))
def test_a_change_of_the_final_value_never_stands_beside_a_verdict_without_the_best_values(
    tmp_path, monkeypatch, columns: int
) -> None:
    better = [Snapshot(step, metrics={"a/loss": loss}) for step, loss in ((10, 2.0), (20, 2.0))]
    worse_end = [Snapshot(step, metrics={"a/loss": loss}) for step, loss in ((10, 1.5), (20, 2.25))]
    write(tmp_path, (RunInfo(id="1"), better, "finished"), (RunInfo(id="2"), worse_end, "finished"))
    for name, text in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", str(columns))):
        monkeypatch.setenv(name, text)
    done = CliRunner().invoke(app, ["diff", str(tmp_path)])
    lines = re.sub(r"\x1b\[[0-9;]*m", "", done.output).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("task "))
    assert lines[at].rstrip().endswith("best B is") and lines[at + 1].rstrip().endswith("better")
    assert ("+0.25" in lines[at + 1]) <= ("2 @10" in lines[at + 1] and "1.5 @10" in lines[at + 1])


def test_on_40_columns_no_number_breaks_and_the_heading_tells_what_is_better(tmp_path) -> None:
    for name in ("a", "b"):
        write_large(tmp_path / name, name)
    with Terminal("diff", str(tmp_path / "a"), str(tmp_path / "b"), columns=40, lines=800) as terminal:
        assert terminal.wait_for_end() == 0
    (head,) = (line for line in terminal.lines if line.startswith("task "))
    assert re.fullmatch(r"task +\S+ +\S+ +final B  best B is", head)
    values = {number(value(task, metric, phase, 2000)) for task in TASKS for metric in METRICS for phase in PHASES}
    start = terminal.lines.index(head) + 1
    rows = [line.split() for line in terminal.lines[start : start + len(TASKS) * len(METRICS) * len(PHASES)]]
    assert {row[3] for row in rows} == values
    assert "best B" in terminal.text


def compared(output: str) -> list[str]:
    """The names of the two trainings in the first lines."""
    return [re.split(r"  +", line)[1] for line in output.splitlines()[:2]]


def begun(path: Path, name: str, at: float, *, is_training: bool = True) -> None:
    journal = Journal(path, eager=True)
    journal.begin(RunInfo(id=f"{name} {at}", name=name, is_training=is_training), at)
    journal.append(losses(2, at=at)[0])
    journal.end(f"{name} {at}", "finished")
    journal.close()


def test_trainings_whose_names_are_numbers_are_found_by_their_place(tmp_path) -> None:
    for at, name in enumerate(["0", "1", "2", "2"]):
        begun(tmp_path / "metrics.jsonl", name, 1000.0 + at)
    assert compared(diff(str(tmp_path)).output) == ["2", "2"]
    found = json.loads(diff(str(tmp_path), "--json").output)
    assert (found["a"]["number"], found["b"]["number"]) == (3, 4)
    found = json.loads(diff(f"{tmp_path}:1", f"{tmp_path}:2", "--json").output)
    assert (found["a"]["name"], found["b"]["name"]) == ("0", "1")


def test_the_two_newest_are_trainings_wherever_they_are(tmp_path) -> None:
    for directory in ("a", "b"):
        (tmp_path / directory).mkdir()
    begun(tmp_path / "b" / "metrics.jsonl", "old", 1000.0)
    begun(tmp_path / "a" / "metrics.jsonl", "new 1", 2000.0)
    begun(tmp_path / "a" / "metrics.jsonl", "new 2", 3000.0)
    begun(tmp_path / "b" / "metrics.jsonl", "evaluation", 4000.0, is_training=False)
    assert compared(diff(str(tmp_path)).output) == ["new 1", "new 2"]
