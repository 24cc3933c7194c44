from __future__ import annotations

import pytest
from helpers.journals import losses, write

from mtask_sinks import RunInfo, read_journal
from mtask_sinks.analysis.runs import read_trainings
from mtask_sinks.journal.run_start import RunStart, run_start


@pytest.mark.parametrize(
    ("before", "run", "start"),
    [
        (None, ("1", 0), RunStart.NEW),
        (None, ("1", 4), RunStart.NEW),  # resumed from a training of another journal
        (("1", 0), ("2", 0), RunStart.NEW),
        (("1", 4), ("2", 0), RunStart.NEW),
        (("1", 0), ("1", 0), RunStart.CONTINUED),
        (("1", 4), ("1", 4), RunStart.CONTINUED),
        (("1", 0), ("2", 4), RunStart.RESUMED),
        (("1", 4), ("2", 4), RunStart.RESUMED),
        (("1", 0), ("1", 4), RunStart.RESUMED),
        (("1", 4), ("1", 0), RunStart.RESUMED),
    ],
)
def test_id_and_step_decide(before, run, start: RunStart) -> None:
    known = None if before is None else RunInfo(id=before[0], step=before[1])
    assert run_start(RunInfo(id=run[0], step=run[1]), known) is start


def test_a_journal_has_a_run_per_start_and_a_training_per_beginning(tmp_path) -> None:
    path = write(
        tmp_path,
        (RunInfo(id="1"), losses(2, 4, 6), None),
        (RunInfo(id="2", step=4), losses(6, 8), "finished"),
        (RunInfo(id="2", step=4), losses(8, phase="eval"), "finished"),  # an evaluation after it
        (RunInfo(id="3"), losses(2), "finished"),
    )
    runs = read_journal(path)
    assert [(run.id, [each.step for each in run.snapshots]) for run in runs] == [
        ("1", [2, 4, 6]),
        ("2", [6, 8, 8]),
        ("3", [2]),
    ]
    trainings = read_trainings(path)
    assert [(each.id, each.resumed_at, [*each.steps]) for each in trainings] == [
        ("1", (4,), [2, 4, 6, 8, 8]),
        ("3", (), [2]),
    ]
