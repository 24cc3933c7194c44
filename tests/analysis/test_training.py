from __future__ import annotations

import json
import math

import pytest
from helpers.journals import losses, write
from helpers.points import points

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.grouping import Trainings
from mtask_sinks.analysis.progress import Watch
from mtask_sinks.analysis.selection import open_runs
from mtask_sinks.analysis.training import Training
from mtask_sinks.charts import make_chart
from mtask_sinks.charts.html.payload import payload
from mtask_sinks.journal.records import Begin
from mtask_sinks.journal.run_start import RunStart


def values(training: Training, phase: str = "train") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in points(training) if point.phase == phase]


def test_directions_are_those_of_the_last_record_without_any_that_are_not_known(tmp_path) -> None:
    first, resumed = {"a/x": "max"}, {"*/bias": "min", "a/y": None, "a/z": "near 1"}
    write(tmp_path, (RunInfo(id="1", directions=first), losses(2, 4), "killed"))
    assert read_trainings(tmp_path)[0].directions == {"a/x": "max"}
    write(tmp_path, (RunInfo(id="2", step=4, directions=resumed), losses(6), None))
    assert read_trainings(tmp_path)[0].directions == {"*/bias": "min", "a/y": None}


def test_points_that_were_computed_again_count_once_with_the_later_value(tmp_path) -> None:
    write(
        tmp_path,
        (RunInfo(id="1", name="r"), losses(2, 4, 6, 8), "killed"),
        (RunInfo(id="2", name="r2", step=4), losses(6, factor=20.0), "killed"),
        (RunInfo(id="3", step=2), losses(4, 6, factor=30.0), "failed"),
        (RunInfo(id="4", name="other"), losses(2), "finished"),
    )
    first, second = read_trainings(tmp_path)
    assert values(first) == [(2, 20.0), (4, 120.0), (6, 180.0)]
    assert (first.name, first.status, first.resumed_at, first.step) == ("r", "failed", (4, 2), 6)
    assert (second.number, second.name, values(second), second.resumed_at) == (2, "other", [(2, 20.0)], ())


def test_values_that_were_not_finite_are_counted_where_they_count(tmp_path) -> None:
    odd = [Snapshot(step, metrics={"a/loss": 1.0}, nonfinite={"a/loss": step}) for step in (3, 5)]
    before = [*losses(2), odd[0], *losses(4), odd[1]]
    write(tmp_path, (RunInfo(id="1"), before, "killed"), (RunInfo(id="2", step=4), [*losses(5), odd[1]], None))
    (training,) = read_trainings(tmp_path)
    assert {at: dict(counts) for at, counts in training.nonfinite.items()} == {1: {"a/loss": 3}, 4: {"a/loss": 5}}
    assert [training.steps[at] for at in training.nonfinite] == [3, 5]


def test_an_evaluation_at_the_step_of_the_resume_counts_once(tmp_path) -> None:
    before = [*losses(4), *losses(4, phase="eval")]
    again = losses(4, phase="eval", factor=20.0)
    write(tmp_path, (RunInfo(id="1"), before, "killed"), (RunInfo(id="2", step=4), [*again, *losses(6)], None))
    (training,) = read_trainings(tmp_path)
    assert values(training) == [(4, 40.0), (6, 60.0)]
    assert values(training, "eval") == [(4, 80.0)]


@pytest.mark.parametrize(("later", "found"), [([], 40.0), (losses(4, phase="eval", factor=20.0), 80.0)])
def test_a_row_without_metrics_at_the_step_of_the_resume_takes_the_place_of_no_evaluation(
    tmp_path, later, found
) -> None:
    before = [*losses(4), *losses(4, phase="eval")]
    row = Snapshot(4, "eval", logs={"eval_runtime": 1.0})
    write(tmp_path, (RunInfo(id="1"), before, "killed"), (RunInfo(id="2", step=4), [row, *later, *losses(6)], None))
    (training,) = read_trainings(tmp_path)
    assert values(training, "eval") == [(4, found)]


def test_a_metric_of_which_nothing_is_left_is_gone(tmp_path) -> None:
    late = Snapshot(6, metrics={"late/x": 1.0})
    write(tmp_path, (RunInfo(id="1"), [*losses(2), late], "killed"), (RunInfo(id="2", step=4), losses(6), None))
    (training,) = read_trainings(tmp_path)
    assert {point.task for point in points(training)} == {"a"}


def tokens(step: int, n: float, phase: str = "train", is_partial: bool = False) -> Snapshot:
    return Snapshot(step, phase, {"a/n_tokens": n}, time=step, counts={"a/n_tokens": 4}, is_partial=is_partial)


def test_a_window_that_the_end_cut_short_is_a_point_and_no_part_of_the_curve(tmp_path) -> None:
    snapshots = [tokens(10, 2837.0), tokens(20, 2801.0), tokens(24, 1090.0, is_partial=True)]
    write(tmp_path, (RunInfo(id="1"), snapshots, "finished"))
    (training,) = read_trainings(tmp_path)
    assert [(point.value, point.partial) for point in points(training)] == [
        (2837.0, False), (2801.0, False), (1090.0, True),
    ]  # fmt: skip
    assert list(training.curve(training.series["train", "a/n_tokens"]).values) == [2837.0, 2801.0]


def test_a_metric_that_has_only_values_of_cut_windows_keeps_them(tmp_path) -> None:
    late = Snapshot(24, metrics={"a/n_tokens": 1090.0, "late/x": 3.0}, is_partial=True)
    write(tmp_path, (RunInfo(id="1"), [tokens(10, 2837.0), late], "finished"))
    (training,) = read_trainings(tmp_path)
    assert list(training.curve(training.series["train", "late/x"]).values) == [3.0]


def test_a_resume_replaces_the_cut_window_and_the_values_over_the_whole_training(tmp_path) -> None:
    # 14 reports: 4, 4 and 2 until step 10; the resumed window has those 2 again, and 4 of its own.
    first = [tokens(4, 40.0), tokens(8, 40.0), tokens(10, 20.0, is_partial=True), tokens(10, 100.0, "overall")]
    evaluation = tokens(10, 7.0, "eval")
    again = [tokens(12, 40.0), tokens(14, 20.0, is_partial=True), tokens(14, 140.0, "overall")]
    write(
        tmp_path,
        (RunInfo(id="1"), [*first, evaluation], "finished"),
        (RunInfo(id="2", step=10), again, "finished"),
    )
    (training,) = read_trainings(tmp_path)
    assert values(training) == [(4, 40.0), (8, 40.0), (12, 40.0), (14, 20.0)]
    assert values(training, "overall") == [(14, 140.0)]
    assert values(training, "eval") == [(10, 7.0)]
    assert training.partial == {len(training.steps) - 2}


def test_a_cut_window_before_the_step_of_the_resume_stays_if_nothing_replaces_it(tmp_path) -> None:
    cut = tokens(6, 10.0, is_partial=True)
    write(
        tmp_path, (RunInfo(id="1"), [tokens(4, 40.0), cut], None), (RunInfo(id="2", step=8), [tokens(12, 40.0)], None)
    )
    (training,) = read_trainings(tmp_path)
    assert values(training) == [(4, 40.0), (6, 10.0), (12, 40.0)]


def test_nan_and_infinity_come_back(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), [Snapshot(1, metrics={"a": math.nan, "b": -math.inf})], None))
    (training,) = read_trainings(tmp_path)
    a, b = (point.value for point in points(training))
    assert math.isnan(a)
    assert b == -math.inf


def test_rate_and_end_come_from_times_and_parameters(tmp_path) -> None:
    steps = RunInfo(id="1", params={"max_steps": 100, "num_train_epochs": 3.0})
    write(tmp_path, (steps, losses(10, 20, 40), None))
    (training,) = read_trainings(tmp_path)
    assert training.max_steps == 100
    # The run began now, long after the times of the snapshots, so drop the time of the start.
    training._recent.popleft()
    assert training.steps_per_second == 1.0
    epochs = RunInfo(id="2", params={"max_steps": -1, "num_train_epochs": 8.0})
    write(tmp_path, (epochs, losses(10, 20), None))
    # Step 20 is at epoch 2: 10 steps per epoch.
    assert read_trainings(tmp_path)[-1].max_steps == 80


def test_the_time_from_an_evaluation_before_the_training_does_not_count_for_the_speed() -> None:
    items = [
        Begin(RunInfo(id="1", is_training=False), time=100.0),
        Snapshot(0, "eval", {"x": 1.0}, time=200.0),
        Begin(RunInfo(id="1"), time=1000.0),
        *(Snapshot(step, metrics={"x": 1.0}, time=1000.0 + 2 * step) for step in (10, 20)),
    ]
    (training,) = Trainings(items).all
    assert training.steps_per_second == 0.5
    training.begin(Begin(RunInfo(id="1"), time=5000.0), RunStart.CONTINUED)  # an evaluation after the training
    assert training.steps_per_second == 0.5


@pytest.mark.parametrize("epoch", [math.nan, math.inf, -math.inf])
def test_an_epoch_that_is_no_number_is_unknown(tmp_path, epoch) -> None:
    rows = [Snapshot(step, metrics={"x": float(step)}, epoch=step / 8 if step < 5 else epoch) for step in range(1, 6)]
    write(tmp_path, (RunInfo(id="1"), rows, None))
    (training,) = read_trainings(tmp_path)
    assert training.epoch == 0.5
    (row,) = Watch(tmp_path, x="epoch").progress().rows
    assert (row.values, row.x_value) == ((1.0, 2.0, 3.0, 4.0), None)
    json.dumps(payload(make_chart(open_runs([str(tmp_path)]))), allow_nan=False)


@pytest.mark.parametrize("epochs", [math.nan, math.inf, 1e308, 10**400])
def test_a_number_of_epochs_beyond_all_numbers_tells_no_end(tmp_path, epochs) -> None:
    run = RunInfo(id="1", params={"num_train_epochs": epochs})
    write(tmp_path, (run, [Snapshot(10, metrics={"x": 1.0}, epoch=1e-300)], None))
    assert read_trainings(tmp_path)[-1].max_steps is None


@pytest.mark.parametrize("resumed_at", [10, 19, 24])
def test_after_a_resume_between_two_rows_the_end_is_that_of_the_epochs(tmp_path, resumed_at) -> None:
    params = {"max_steps": -1, "num_train_epochs": 3.0}
    rows = [Snapshot(step, metrics={"x": 1.0}, epoch=step / 8) for step in range(3, resumed_at, 3)]  # 8 steps per epoch
    write(
        tmp_path,
        (RunInfo(id="1", params=params), rows, "killed"),
        (RunInfo(id="2", params=params, step=resumed_at), [], None),
    )
    (training,) = read_trainings(tmp_path)
    assert (training.step, training.max_steps) == (resumed_at, 24)
