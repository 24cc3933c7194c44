from __future__ import annotations

import math

import pytest
from helpers.journals import write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.selection import open_runs
from mtask_sinks.charts.axes import check_axis, running_totals, time_unit, totals_at


@pytest.fixture
def runs(tmp_path):
    made = []
    for name in ("one", "two"):
        rows = [
            Snapshot(
                s, metrics={"a/n": 2.0 * s, "b/n": 7.0, "c/n": -s, "d/rate": s, "e/n": s if name == "one" else 9 - s}
            )
            for s in (1, 2, 3)
        ]
        rows.insert(2, Snapshot(2, "eval", {"a/n": 5.0}))
        made.append((RunInfo(id=name, name=name), rows, None))
    write(tmp_path, *made)
    return open_runs([f"{tmp_path}:one", f"{tmp_path}:two"])


def test_a_count_that_grows_in_every_run_is_a_running_total(runs) -> None:
    assert running_totals(runs) == ["a/n"]
    assert running_totals(runs[:1]) == ["a/n", "e/n"]


def test_an_axis_may_stand_still_but_not_fall(runs) -> None:
    for axis in ("step", "epoch", "time", "a/n", "b/n", "d/rate"):
        check_axis(runs, axis)
    for axis in ("c/n", "e/n", "f/n"):
        with pytest.raises(ValueError, match=f"x='{axis}'"):
            check_axis(runs, axis)


def test_a_total_that_was_nan_is_no_axis(tmp_path) -> None:
    rows = [Snapshot(s, metrics={"a/n": value}) for s, value in ((1, 1.0), (2, math.nan), (3, 3.0))]
    write(tmp_path, (RunInfo(id="1"), rows, None))
    with pytest.raises(ValueError, match="falls"):
        check_axis(open_runs([tmp_path]), "a/n")


def test_other_phases_have_the_last_total_of_the_training(runs) -> None:
    training = runs[0].training
    assert totals_at(training, "a/n", range(4)) == (2.0, 4.0, 4.0, 6.0)
    assert totals_at(training, "x", range(2)) == (None, None)


def test_times_have_a_unit_that_is_read_easily() -> None:
    assert [time_unit(seconds)[0] for seconds in (0.0, 299.0, 300.0, 17_999.0, 18_000.0)] == [
        "seconds",
        "seconds",
        "minutes",
        "minutes",
        "hours",
    ]
