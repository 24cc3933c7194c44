from __future__ import annotations

import math

import pytest

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.axes import check_axis, places, running_totals, time_unit
from mtask_sinks.analysis.grouping import Trainings
from mtask_sinks.analysis.training import Training
from mtask_sinks.journal.records import Begin


@pytest.fixture
def trainings() -> dict[str, Training]:
    made = {}
    for name in ("one", "two"):
        rows = [
            Snapshot(
                s, metrics={"a/n": 2.0 * s, "b/n": 7.0, "c/n": -s, "d/rate": s, "e/n": s if name == "one" else 9 - s}
            )
            for s in (1, 2, 3)
        ]
        rows.insert(2, Snapshot(2, "eval", {"a/n": 5.0}))
        (made[name],) = Trainings(rows).all
    return made


def test_a_count_that_grows_in_every_run_is_a_running_total(trainings) -> None:
    assert running_totals([*trainings.values()]) == ["a/n"]
    assert running_totals([trainings["one"]]) == ["a/n", "e/n"]


def test_an_axis_may_stand_still_but_not_fall(trainings) -> None:
    for axis in ("step", "epoch", "time", "a/n", "b/n", "d/rate"):
        check_axis(trainings, axis)
    for axis, why in (("c/n", "falls in one,"), ("e/n", "falls in two,"), ("f/n", "is no metric of the training")):
        with pytest.raises(ValueError, match=f"x='{axis}' {why} .*one of: step, epoch, time, a/n\\."):
            check_axis(trainings, axis)


def test_a_total_that_was_nan_is_no_axis() -> None:
    rows = [Snapshot(s, metrics={"a/n": value}) for s, value in ((1, 1.0), (2, math.nan), (3, 3.0))]
    with pytest.raises(ValueError, match="x='a/n' is not finite in r"):
        check_axis({"r": Trainings(rows).all[0]}, "a/n")


def test_other_phases_have_the_last_total_of_the_training(trainings) -> None:
    training = trainings["one"]
    assert places(training, "a/n", range(4)) == (2.0, 4.0, 4.0, 6.0)
    assert places(training, "x", range(2)) == (None, None)


def test_a_place_is_a_step_an_epoch_or_a_time_without_the_stop_before_a_resume() -> None:
    items = [Begin(RunInfo(id="1"), time=1000.0), Snapshot(5, epoch=0.5, time=1060.0)]
    items += [Begin(RunInfo(id="2", step=5), time=9000.0), Snapshot(8, time=9030.0)]
    (training,) = Trainings(items).all
    found = {axis: places(training, axis, range(2)) for axis in ("step", "epoch", "time")}
    assert found == {"step": (5, 8), "epoch": (0.5, None), "time": (60.0, 90.0)}


def test_times_have_a_unit_that_is_read_easily() -> None:
    assert [time_unit(seconds)[0] for seconds in (0.0, 299.0, 300.0, 17_999.0, 18_000.0)] == [
        "seconds",
        "seconds",
        "minutes",
        "minutes",
        "hours",
    ]
