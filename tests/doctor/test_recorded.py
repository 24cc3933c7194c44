from __future__ import annotations

from pathlib import Path

import pytest
from helpers.doctor_journals import RUN, cursor, evaluated, train
from helpers.journals import write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.doctor.recorded import read_recorded_training
from mtask_sinks.errors import NoJournalError, NoTrainingError


def test_log_events_are_those_with_or_without_a_metric(tmp_path) -> None:
    summary = Snapshot(6, logs={"train_runtime": 1.0, "train_loss": 1.0})
    own = Snapshot(6, logs={"note": 1.0})
    without_labels = Snapshot(6, "eval", logs={"eval_runtime": 1.0})
    snapshots = [*train(2), *train(4, a_loss=1.0), *evaluated(4), own, without_labels, summary]
    write(tmp_path, (RUN, snapshots, "finished"))
    assert read_recorded_training(tmp_path).events.steps == {"train": [2, 4], "eval": [4, 6]}


def test_log_events_that_a_resume_has_undone_do_not_count(tmp_path) -> None:
    write(tmp_path, (RUN, train(2, 4, 6, a_loss=1.0), "killed"), (RunInfo(id="2", step=4), train(8, a_loss=1.0), None))
    assert read_recorded_training(tmp_path).events.steps == {"train": [2, 4, 8]}


def test_an_ungrouped_metric_is_a_task_of_its_own(tmp_path) -> None:
    write(tmp_path, (RUN, [*train(2, a_loss=1.0), *train(4, a_loss=1.0, lr=0.1)], "finished"))
    recorded = read_recorded_training(tmp_path)
    assert recorded.tasks == ["a", "lr"]
    reports = recorded.events.reports["train", "lr"]
    assert (reports.first, reports.last, reports.count) == (1, 1, 1)


def test_the_other_trainings_and_the_sinks_are_named(tmp_path) -> None:
    first, second = ((RunInfo(id=name, name=name), train(2, a_loss=1.0), "finished") for name in ("one", "two"))
    path = write(tmp_path, first, second)
    cursor(path, "mlflow", offset=0)
    recorded = read_recorded_training(f"{tmp_path}:one")
    assert (recorded.name, recorded.others, recorded.other_numbers) == ("one", ["two"], [2])
    assert [(sink.name, sink.pending) for sink in recorded.sinks] == [("mlflow", 2)]


def test_lines_without_a_record_have_their_numbers(tmp_path) -> None:
    path = write(tmp_path, (RUN, train(2, a_loss=1.0), "finished"))
    path.write_bytes(b"torn\n" + path.read_bytes() + b"cut off")
    assert read_recorded_training(path).unreadable == (1, 5)


def test_what_is_not_there_is_an_error(tmp_path) -> None:
    with pytest.raises(NoJournalError):
        read_recorded_training(Path(tmp_path, "nowhere"))
    write(tmp_path, (RUN, train(2), None))
    with pytest.raises(NoTrainingError):
        read_recorded_training(f"{tmp_path}:7")
