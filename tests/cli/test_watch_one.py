from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.journals import losses, write
from typer.testing import CliRunner

from mtask_sinks import RunInfo
from mtask_sinks.cli import app
from mtask_sinks.cli.watch_one import chosen_training
from mtask_sinks.errors import NoTrainingError


@pytest.fixture
def directory(tmp_path) -> Path:
    """A directory with trainings named first and second in one journal, and one named third in another."""
    runs = [(RunInfo(id=name, name=name), losses(2, factor=factor), "finished") for name, factor in
            (("first", 1.0), ("second", 2.0))]  # fmt: skip
    write(tmp_path, *runs)
    (tmp_path / "other").mkdir()
    path = write(tmp_path / "other", (RunInfo(id="third", name="third"), losses(2, factor=3.0), "failed"))
    shutil.move(path, tmp_path / "metrics-2.jsonl")
    return tmp_path


@pytest.mark.parametrize(
    ("which", "name", "value", "status"),
    [("1", "first", 2.0, 0), ("2", "second", 4.0, 0), ("3", "third", 6.0, 1), ("first", "first", 2.0, 0)],
)
def test_the_command_shows_the_chosen_training(directory, which, name, value, status) -> None:
    done = CliRunner().invoke(app, ["watch", f"{directory}:{which}", "--json"])
    assert done.exit_code == status
    view = json.loads(done.output)
    assert (view["name"], [row["last"] for row in view["rows"]]) == (name, [value])
    assert view["number"] == {"first": 1, "second": 2, "third": 3}[name]


@pytest.mark.parametrize(
    ("which", "said"),
    [("{}:4", "there is no training '4'. The trainings are: 1 (first)"), ("nowhere:1", "there is no nowhere.")],
)
def test_one_that_is_not_there_is_a_usage_error(directory, which, said) -> None:
    done = CliRunner().invoke(app, ["watch", which.format(directory)], env={"COLUMNS": "300"})
    assert done.exit_code == 2
    assert said in done.output


def test_it_stays_with_the_training_when_another_one_begins(directory) -> None:
    trainings = chosen_training(str(directory), "second")
    for _ in trainings.watch.update():
        pass
    write(directory, (RunInfo(id="fourth", name="fourth"), losses(2, 4), None))
    write(directory, (RunInfo(id="second", name="second", step=2), losses(4, factor=2.0), "finished"))
    trainings.search()
    followed = [(training.name, getattr(item, "step", None)) for training, item in trainings.watch.update()]
    assert followed == [("second", None), ("second", 4), ("second", None)]
    progress = trainings.progress()
    assert (progress.name, progress.step, progress.rows[0].last) == ("second", 4, 8.0)


def test_a_training_that_is_not_there_is_an_error(directory) -> None:
    with pytest.raises(NoTrainingError, match="there is no training 'x'"):
        chosen_training(str(directory), "x")
