from __future__ import annotations

import json
import math

import pytest
from helpers.doctor_journals import evaluated, journal, train
from helpers.doctor_scripts import reporting
from typer.testing import CliRunner

from mtask_sinks.cli import app
from mtask_sinks.doctor.listing import SCRIPT_CHECKS, finding_kinds


def doctor(*arguments: object, columns: int = 200):
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)], env={"COLUMNS": str(columns)})


def text_of(done) -> str:
    return " ".join(done.output.replace("│", " ").split())


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(reporting("loss=x", more=", sinks=[]") + "TrainingArguments(out, logging_strategy='no')\n")
    return path


@pytest.fixture
def sound(tmp_path):
    path = tmp_path / "sound.py"
    path.write_text(reporting())
    return path


def test_a_finding_has_two_lines_and_the_end_counts_them(script) -> None:
    done = doctor(script)
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert lines[0].startswith("train.py:7:38: reserved-key error: 'loss' is a name that the Trainer logs itself")
    assert lines[1].startswith("    → Report it in a task: report_metrics('my_task', loss=...)")
    assert lines[2].startswith("train.py:9:41: never-logs warning: ")
    assert lines[4:] == [f"{script}: 1 error, 1 warning"]


def test_lines_in_a_pipe_are_whole(tmp_path) -> None:
    path = journal(tmp_path, train(2, a_loss=math.nan), delivered=False)
    done = doctor(path, columns=40)
    command = f"mtask-sinks replay {path} --to tensorboard (or mlflow, or wandb)."
    assert f"    → To deliver all of them: {command}" in done.output


def test_nothing_found_is_one_line_and_exits_with_0(sound) -> None:
    done = doctor(sound)
    assert done.exit_code == 0
    assert done.output == f"{sound}: nothing found in {1 + len(SCRIPT_CHECKS)} checks\n"


def test_hints_alone_exit_with_0(tmp_path) -> None:
    journal(tmp_path, [*train(2, a_loss=1.0, b_loss=1.0), *evaluated(2, a_loss=1.0)])
    done = doctor(tmp_path)
    assert done.exit_code == 0
    assert done.output.startswith(f"{tmp_path}: task-in-one-phase hint: bert, step 2: ")


def test_several_paths_are_examined_and_one_problem_counts(script, sound, tmp_path) -> None:
    journal(tmp_path, train(2, a_loss=1.0))
    done = doctor(sound, script, tmp_path)
    assert done.exit_code == 1
    assert [line for line in done.output.splitlines() if line.startswith((f"{sound}:", f"{script}:", f"{tmp_path}:"))]


def test_json_has_findings_and_what_was_checked(script, sound) -> None:
    done = doctor(script, sound, "--json")
    assert done.exit_code == 1
    first, second = json.loads(done.output)
    assert [(each["check"], each["severity"], each["where"]) for each in first["findings"]] == [
        ("reserved-key", "error", "train.py:7:38"),
        ("never-logs", "warning", "train.py:9:41"),
    ]
    assert (second["of"], second["findings"], "no-flag" in second["checks"]) == (str(sound), [], True)


def test_the_list_has_every_finding() -> None:
    done = doctor("--list")
    assert done.exit_code == 0
    assert [line.split()[1] for line in done.output.splitlines()[1:]] == [kind.check for kind in finding_kinds()]
    assert len(json.loads(doctor("--list", "--json").output)) == len(list(finding_kinds()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [([], "pass a training script"), (["nowhere.py"], "there is no"), (["sound.py:2"], "has no")],
)
def test_what_is_not_there_is_a_usage_error(sound, arguments, says) -> None:
    done = doctor(*arguments)
    assert done.exit_code == 2
    assert says in text_of(done)


def test_a_directory_without_a_journal_is_a_finding(tmp_path) -> None:
    done = doctor(tmp_path)
    assert done.exit_code == 1
    assert done.output.startswith(f"{tmp_path}: no-journal error: there is no ")


def test_an_asking_for_servers_is_said(sound) -> None:
    for more, is_asked in ((["--check"], True), ([], False)):
        (examination,) = json.loads(doctor(sound, "--json", *more).output)
        assert ("no-answer" in examination["checks"]) == is_asked


def test_help_shows_an_example_and_needs_no_torch(without_torch, tmp_path, sound) -> None:
    assert "Example" in without_torch("doctor", "--help")
    journal(tmp_path, train(2, a_loss=1.0))
    assert "nothing found" in without_torch("doctor", str(tmp_path), str(sound))


def test_github_gets_annotations_with_place_and_remedy(script, tmp_path) -> None:
    journal(tmp_path, [*train(2, a_loss=1.0, b_loss=1.0), *evaluated(2, a_loss=1.0)])
    lines = doctor(script, tmp_path, "--format", "github").output.splitlines()
    assert lines[0].startswith("::error file=train.py,line=7,col=38,title=reserved-key::'loss' is a name")
    assert "%0A→ Report it in a task" in lines[0]
    assert lines[1].startswith("::warning file=train.py,line=9,col=41,title=never-logs::")
    start = f"::notice file={tmp_path}/metrics.jsonl,title=task-in-one-phase::bert, step 2: "
    assert len(lines) == 3 and lines[2].startswith(start)


def test_text_of_a_finding_cannot_end_an_annotation(tmp_path) -> None:
    path = tmp_path / "a,b:50%.py"
    path.write_text(reporting("loss=x"))
    (line,) = doctor(path, "--format", "github").output.splitlines()
    assert line.startswith("::error file=a%2Cb%3A50%25.py,line=7,")


def test_a_format_that_there_is_not_is_refused(sound) -> None:
    done = doctor(sound, "--format", "xml")
    assert done.exit_code == 2
    assert "'xml' is no format. The formats are: text, github, json." in text_of(done)


def test_a_comment_leaves_out_a_finding_and_the_end_counts_it(script) -> None:
    lines = script.read_text().splitlines()
    lines[6] += "  # noqa: reserved-key"
    lines[8] += "  # noqa: E501, never-logs  on purpose"
    script.write_text("\n".join(lines))
    done = doctor(script)
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        f"{script}: nothing found in {1 + len(SCRIPT_CHECKS)} checks, 2 left out by # noqa"
    ]


def test_the_summary_counts_the_modules_that_were_not_read(tmp_path) -> None:
    for name, text in {"train": "import good, bad", "good": "import torch", "bad": "class Model("}.items():
        (tmp_path / f"{name}.py").write_text(text)
    last = doctor(tmp_path / "train.py").output.splitlines()[-1]
    assert last == (
        f"{tmp_path}/train.py and 1 module beside it: nothing found in {1 + len(SCRIPT_CHECKS)} checks, "
        "1 module not read"
    )
