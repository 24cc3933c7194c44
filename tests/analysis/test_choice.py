from __future__ import annotations

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo
from mtask_sinks.analysis.choice import choose, labels
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.progress import Watch
from mtask_sinks.analysis.report import make_report
from mtask_sinks.analysis.selection import open_runs
from mtask_sinks.analysis.training import Training
from mtask_sinks.errors import NoTrainingError


def named(number: int, name: str | None) -> Training:
    from mtask_sinks.journal.records import Begin

    return Training(number, [Begin(RunInfo(id=str(number), name=name))])


@pytest.mark.parametrize(("names", "expected"), [
    (["a", "a:1"], ["a", "a:1"]),
    (["a:2", "a"], ["a:2", "a"]),
    ([None, "None:1"], ["1", "None:1"]),
    (["a", "a", "a:1"], ["a:1", "a:2", "a:1:3"]),
    (["a:1:4", "x", "x", "a:1", "a", "1", "1:6"], ["a:1:4", "x:2", "x:3", "a:1", "a", "1:6", "1:6:7"]),
    (["a", "a", "a:1", "a:1:3"], ["a:1", "a:2", "a:1:3", "a:1:3:4"]),
])  # fmt: skip
def test_a_training_keeps_its_name_as_label_unless_another_training_has_that_label(names, expected) -> None:
    trainings = [named(number, name) for number, name in enumerate(names, 1)]
    assert list(labels(trainings).values()) == expected


def test_labels_and_choice() -> None:
    trainings = [named(1, "x"), named(2, "y"), named(3, "x"), named(4, None)]
    assert labels(trainings) == {1: "x:1", 2: "y", 3: "x:3", 4: "4"}
    assert [choose(trainings, which, "j").number for which in (None, "2", "y", "x:3", "4")] == [4, 2, 2, 3, 4]
    with pytest.raises(NoTrainingError, match="there is no training '²'"):  # a digit, but no number
        choose(trainings, "²", "j")
    message = r"2 trainings are named 'x': choose one by number. The trainings are: 1 \(x\)"
    with pytest.raises(NoTrainingError, match=message):
        choose(trainings, "x", "j")
    for which in ("5", "0", "z"):
        with pytest.raises(NoTrainingError, match=f"j: there is no training '{which}'. The trainings are: "):
            choose(trainings, which, "j")
    with pytest.raises(NoTrainingError, match="no training yet"):
        choose([], None, "j")


def test_the_last_training_is_the_one_that_was_resumed_not_an_evaluation_in_between(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="a", name="r"), losses(2, 4), None))
    write(tmp_path, (RunInfo(id="e", name="r", is_training=False), losses(0, phase="eval"), "finished"))
    write(tmp_path, (RunInfo(id="b", name="r", step=2), losses(4, 6), None))
    trainings = read_trainings(tmp_path)
    assert [training.number for training in trainings] == [1, 2]
    assert choose(trainings, None, "here") is trainings[0]
    progress = Watch(tmp_path / "metrics.jsonl").progress()
    assert (progress.number, progress.step) == (1, 6)
    assert make_report(open_runs([tmp_path])).runs[0].number == 1
