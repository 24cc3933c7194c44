from __future__ import annotations

import pytest

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.grouping import Trainings
from mtask_sinks.analysis.training import Training
from mtask_sinks.journal.records import Begin


def test_the_time_between_a_stop_and_a_resume_does_not_count() -> None:
    items = [
        Begin(RunInfo(id="1"), time=100.0),
        *(Snapshot(step, metrics={"x": 1.0}, time=100.0 + 10 * step) for step in (1, 2, 3)),
        Begin(RunInfo(id="2", step=2), time=1000.0),  # the third step is computed again
        *(Snapshot(step, metrics={"x": 1.0}, time=1000.0 + 10 * (step - 2)) for step in (3, 4)),
        Begin(RunInfo(id="3", step=4), time=5000.0),
        Snapshot(5, metrics={"x": 1.0}, time=5010.0),
    ]
    (training,) = Trainings(items).all
    assert list(training.steps) == [1, 2, 3, 4, 5]
    assert [*training.seconds] == [10, 20, 30, 40, 50]


def test_a_part_of_a_machine_whose_clock_is_behind_comes_after_the_parts_before_it() -> None:
    items = [
        Begin(RunInfo(id="1"), time=10_000.0),
        *(Snapshot(step, metrics={"x": 1.0}, time=10_000.0 + 10 * step) for step in (1, 2)),
        Begin(RunInfo(id="2", step=2), time=100.0),  # on a machine whose clock is hours behind
        *(Snapshot(step, metrics={"x": 1.0}, time=100.0 + 10 * (step - 2)) for step in (3, 4)),
    ]
    (training,) = Trainings(items).all
    assert [*training.seconds] == [10, 20, 30, 40]


def test_while_a_clock_that_was_set_back_is_behind_the_seconds_stay() -> None:
    training = Trainings([Begin(RunInfo(id="1"), time=100.0)]).all[0]
    for step, time in ((1, 110.0), (2, 150.0), (3, 130.0), (4, 140.0), (5, 160.0)):
        training.add(Snapshot(step, metrics={"x": 1.0}, time=time))
    assert [*training.seconds] == [10, 50, 50, 50, 60]


@pytest.mark.parametrize("begun", [None, 150.0])
def test_a_clock_that_went_back_gives_no_time_below_0(begun) -> None:
    training = Training(1)
    if begun is not None:
        training = Trainings([Begin(RunInfo(id="1"), time=begun)]).all[0]
    for step, time in ((1, 100.0), (2, 160.0)):
        training.add(Snapshot(step, metrics={"x": 1.0}, time=time))
    assert [*training.seconds] == ([0.0, 60.0] if begun is None else [0.0, 10.0])
    assert not Training(2).seconds
