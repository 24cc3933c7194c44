from __future__ import annotations

from helpers.journals import losses, write
from helpers.points import points

from mtask_sinks import RunInfo
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.training import Training


def values(training: Training, phase: str = "train") -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in points(training) if point.phase == phase]


def test_an_evaluation_after_the_end_belongs_to_the_training(tmp_path) -> None:
    run = RunInfo(id="1")
    write(tmp_path, (run, losses(2, 4), "finished"), (run, losses(4, phase="eval"), "finished"))
    (training,) = read_trainings(tmp_path)
    assert values(training, "eval") == [(4, 40.0)]
    assert (values(training), training.resumed_at) == ([(2, 20.0), (4, 40.0)], ())


def test_an_evaluation_is_not_a_resume_even_if_the_journal_begins_at_a_checkpoint(tmp_path) -> None:
    run = RunInfo(id="1", step=20)
    write(tmp_path, (run, losses(22), "finished"), (run, losses(22, phase="eval"), "finished"))
    (training,) = read_trainings(tmp_path)
    assert training.resumed_at == ()


def test_a_resume_without_what_it_resumes_is_a_training(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="2", step=4), losses(6, 8), None))
    (training,) = read_trainings(tmp_path)
    assert values(training) == [(6, 60.0), (8, 80.0)]
