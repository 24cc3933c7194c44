from __future__ import annotations

from helpers.journals import write
from helpers.points import points

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.export import Measurement


def test_a_point_has_everything(tmp_path) -> None:
    snapshot = Snapshot(5, "eval", {"b/y/z": 1.5, "x": 2.0}, time=3.0, counts={"b/y/z": 7})
    write(tmp_path, (RunInfo(id="1", name="r"), [snapshot], "finished"))
    (training,) = read_trainings(tmp_path)
    assert (training.name, training.id, training.status, training.step) == ("r", "1", "finished", 5)
    assert list(points(training)) == [
        Measurement("", "eval", 5, None, 3.0, "b", "y/z", 1.5, 7),
        Measurement("", "eval", 5, None, 3.0, "", "x", 2.0, 0),
    ]


def test_a_running_total_without_new_reports_is_no_report(tmp_path) -> None:
    rows = [
        Snapshot(step, metrics={"nsp/n": 5.0, "nsp/old": 1.0, "mlm/loss": 1.0}, counts={"nsp/n": count, "mlm/loss": 1})
        for step, count in enumerate((2, 1, 0, 0, 0, 0, 0, 0, 0, 0))
    ]
    write(tmp_path, (RunInfo(id="1"), rows, "finished"))
    (training,) = read_trainings(tmp_path)
    found = {key: list(series.reported_at) for (_, key), series in training.series.items()}
    assert found == {"nsp/n": [0, 1], "nsp/old": [*range(10)], "mlm/loss": [*range(10)]}  # "old": counts are not known
