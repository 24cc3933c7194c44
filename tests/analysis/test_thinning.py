"""A long training in little memory says the same as with all its snapshots in memory."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from helpers.journals import write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis import thinning
from mtask_sinks.analysis.axes import places
from mtask_sinks.analysis.compare import compare
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.grouping import Trainings
from mtask_sinks.analysis.report import make_report
from mtask_sinks.analysis.report.problems import missing_metrics, nonfinite_metrics
from mtask_sinks.analysis.selection import open_runs
from mtask_sinks.analysis.task_health import gradient_summary
from mtask_sinks.analysis.training import Training
from mtask_sinks.charts import make_chart
from mtask_sinks.journal.records import Begin

MOST = 600


def snapshots(seed: int, steps: range) -> list[Snapshot]:
    """Noisy curves with spikes, evaluations, values that are not finite, and metrics that some windows lack."""
    chance = random.Random(seed)
    made = []
    for step in steps:
        loss = 3 * math.exp(-step / 900) + chance.gauss(0, 0.2) + (50 if chance.random() < 0.003 else 0)
        metrics = {"a/loss": loss, "a/acc": chance.random()}
        nonfinite = {}
        if chance.random() < 0.02:
            metrics["a/loss"], nonfinite = math.nan, {"a/loss": chance.randint(1, 3)}
        if chance.random() < 0.1:
            metrics["b/x"] = float(chance.randint(0, 5))
        if 500 < step < 520:
            del metrics["a/acc"]
        made.append(Snapshot(step, "train", metrics, step / 100, 1000.0 + step, dict.fromkeys(metrics, 4), nonfinite))
        if chance.random() < 0.01:
            metrics["a/acc"] = math.inf
        if step % 40 == 0:
            made.append(Snapshot(step, "eval", {"a/loss": loss + 1}, step / 100, 1000.5 + step))
    return made


def journal(directory: Path) -> Path:
    """A training that was resumed twice: all values after the steps of the resumes were better in the lost parts."""
    directory.mkdir()
    first = [
        *snapshots(1, range(1, 1500)),
        *(Snapshot(s, metrics={"a/loss": -9.0, "a/acc": 9.0}) for s in (1500, 1501)),
    ]
    end = Snapshot(3000, metrics={"a/loss": 0.5}, is_partial=True)
    return write(
        directory,
        (RunInfo(id="1", name="r"), first, "killed"),
        (RunInfo(id="2", step=1400), snapshots(2, range(1401, 2200)), "killed"),
        (RunInfo(id="3", step=2000), [*snapshots(3, range(2000, 3000)), end], "finished"),
    )


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Training, Training]:
    """The training with all its snapshots, and with some of them."""
    path = journal(tmp_path_factory.mktemp("long") / "out")
    with pytest.MonkeyPatch.context() as patch:
        (whole,) = read_trainings(path)
        patch.setattr(thinning, "MAX_VALUES", MOST)
        (thinned,) = read_trainings(path)
    return whole, thinned


def test_it_holds_few_values_of_many(both) -> None:
    whole, thinned = both
    in_memory = sum(len(series.at) for series in thinned.series.values())
    assert sum(len(series.at) for series in whole.series.values()) > 6_000
    assert in_memory < 2 * MOST and thinned.is_thinned and not whole.is_thinned
    for place, series in whole.series.items():
        assert thinned.number_of_values(thinned.series[place]) == len(series.at)


def test_the_tables_are_those_of_all_values(both) -> None:
    whole, thinned = both
    assert repr(compare(thinned, thinned)) == repr(compare(whole, whole))
    assert missing_metrics(thinned) == missing_metrics(whole)
    assert nonfinite_metrics(thinned) == nonfinite_metrics(whole)
    for name in ("step", "epoch", "status", "resumed_at", "max_steps", "steps_per_second"):
        assert getattr(thinned, name) == getattr(whole, name)


def test_the_last_values_of_each_metric_are_all_in_memory(both) -> None:
    whole, thinned = both
    for place, series in whole.series.items():
        last = list(map(repr, series.values[-30:]))
        assert list(map(repr, thinned.series[place].values[-30:])) == last


def test_means_of_gradients_are_those_of_all_values_however_many_trainings_are_read(tmp_path, monkeypatch) -> None:
    chance, cosines = random.Random(0), []
    rows = []
    for step in range(1, 2001):
        metrics = {"a/loss": chance.random(), "b/loss": chance.random()}
        if step % 5 == 0:  # fewer measurements than rows
            cosines.append(chance.uniform(-1, 1))
            metrics |= {"a/grad_norm": 1.0, "b/grad_norm": 2.0, "health/grad_cosine.a.b": cosines[-1]}
        rows.append(Snapshot(step, metrics=metrics, counts=dict.fromkeys(metrics, 1)))
    monkeypatch.setattr(thinning, "MAX_VALUES", MOST)
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, (RunInfo(id=name, name=name), rows, "finished"))
    for opened in open_runs([tmp_path / name for name in ("one", "two", "three")]):
        (pair,) = gradient_summary(opened.training).pairs
        assert pair.recent.mean == pytest.approx(sum(cosines[-30:]) / 30)
        assert (pair.recent.measurements, pair.recent.first_step) == (30, 1855)
        assert pair.whole is None  # most of the measurements are not in memory


def test_each_part_of_a_curve_has_its_extremes(both) -> None:
    whole, thinned = both
    for place in (("train", "a/loss"), ("train", "a/acc"), ("eval", "a/loss")):
        every = list(zip((whole.steps[at] for at in whole.series[place].at), whole.series[place].values, strict=True))
        kept = dict(
            zip((thinned.steps[at] for at in thinned.series[place].at), thinned.series[place].values, strict=True)
        )
        assert {*map(repr, kept.items())} <= {*map(repr, every)}  # NaN does not equal itself
        # In steps. Where a part begins may move by up to a part when there are too many values again.
        near = 2 * thinned.windows_per_part * (1 if place[0] == "train" else 40)
        for start in range(0, 3000, 100):
            part = [value for step, value in every if start <= step < start + 100 and not math.isnan(value)]
            around = [v for s, v in kept.items() if start - near <= s < start + 100 + near and not math.isnan(v)]
            assert min(around) <= min(part, default=math.inf) and max(around) >= max(part, default=-math.inf)


def test_several_trainings_on_one_page_share_its_values(tmp_path, monkeypatch) -> None:
    paths = [journal(tmp_path / name) for name in "ab"]
    monkeypatch.setattr(thinning, "MAX_VALUES", MOST)
    chart = make_chart(open_runs(paths))
    assert chart.values < 2 * MOST
    (one,) = read_trainings(paths[0])
    # Without the values of the last window, which the end of the training cut short.
    curves = [one.curve(series) for series in one.series.values()]
    assert chart.values < chart.all_values == 2 * sum(map(one.number_of_values, curves))


def test_a_report_says_the_same_of_a_training_however_many_others_it_is_about(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(thinning, "MAX_VALUES", 4_000)
    chance = random.Random(0)
    for name in "abcde":
        (tmp_path / name).mkdir()
        losses = [3.0 - step / 2_000 + chance.gauss(0, 0.1) for step in range(2_000)]
        rows = [Snapshot(step, metrics={"a/loss": loss}) for step, loss in enumerate(losses)]
        write(tmp_path / name, (RunInfo(id=name, name=name), rows, "finished"))
    alone = [make_report(open_runs([tmp_path / name])) for name in "abcde"]
    opened = open_runs([tmp_path])
    assert make_chart(opened).values < 4_000 < make_chart(opened).all_values == 10_000
    together = make_report(opened)
    assert together.sentences == tuple(report.sentences[0] for report in alone)
    assert together.tasks[0].runs == tuple(report.tasks[0].runs[0] for report in alone)


def test_a_training_with_few_values_keeps_all(tmp_path) -> None:
    made = Training(1)
    for snapshot in snapshots(1, range(1, 300)):
        made.add(snapshot)
    assert not made.is_thinned and len(made.steps) == len(snapshots(1, range(1, 300)))


def test_many_kinds_of_snapshots_do_not_make_it_slow(monkeypatch) -> None:
    monkeypatch.setattr(thinning, "MAX_VALUES", 50)
    made, thinned = Training(1), []
    thin = Training.thin
    monkeypatch.setattr(Training, "thin", lambda self, most: thinned.append(1) or thin(self, most))
    for step in range(2_000):
        made.add(Snapshot(step, metrics={f"key_{step}": 1.0}))  # nothing can be left out of the first kinds
    assert len(thinned) < 12


def test_the_last_evaluation_keeps_the_running_total_at_its_step() -> None:
    training = Training(1)
    for step in range(1, 2_001):
        training.add(Snapshot(step, metrics={"a/n_tokens": 100.0 * step, "a/loss": 9.0 - step % 7}))
        if step in (3, 1_703):
            training.add(Snapshot(step, "eval", {"a/loss": 1.0}))
    training.thin(400)
    assert len(training.steps) < 250
    at = training.series["eval", "a/loss"].at
    assert places(training, "a/n_tokens", at) == (300.0, 170_300.0)


def test_every_evaluation_keeps_the_running_total_at_its_step(monkeypatch) -> None:
    chance = random.Random(0)
    keys = [f"t{at}/loss" for at in range(20)]
    monkeypatch.setattr(thinning, "MAX_VALUES", MOST)
    training = Training(1)
    for step in range(1, 1_001):
        losses = {key: 3 - step / 500 + chance.random() / 10 for key in keys}
        training.add(Snapshot(step, metrics={"t0/n_tokens": 100.0 * step, **losses}))
        if step % 100 == 50:
            training.add(Snapshot(step, "eval", losses))
    assert training.is_thinned and len(training.steps) < 100
    at = training.series["eval", "t0/loss"].at
    assert len(at) > 2
    assert places(training, "t0/n_tokens", at) == tuple(100.0 * training.steps[i] for i in at)


def test_it_knows_how_long_it_had_run_at_each_resume(monkeypatch) -> None:
    chance = random.Random(0)
    keys = [f"t{at}/loss" for at in range(20)]
    monkeypatch.setattr(thinning, "MAX_VALUES", MOST)
    trainings = Trainings()
    for run, stop in enumerate(range(0, 900, 300)):
        begun = 10_000.0 * run
        trainings.add(Begin(RunInfo(id=str(run), step=stop), time=begun))
        for step in range(stop + 1, stop + 301):
            metrics = {key: 3 - step / 500 + chance.random() / 10 for key in keys}
            trainings.add(Snapshot(step, metrics=metrics, time=begun + 10.0 * (step - stop)))
    (training,) = trainings.all
    assert training.is_thinned
    assert [*training.seconds] == [10.0 * step for step in training.steps]


def test_a_training_with_very_many_resumes_is_thinned(monkeypatch) -> None:
    monkeypatch.setattr(thinning, "MAX_VALUES", MOST)
    trainings = Trainings()
    for step in range(1, 2_001):
        trainings.add(Begin(RunInfo(id=str(step), step=step - 1), time=100.0 * step))
        trainings.add(Snapshot(step, metrics={"a/loss": 1 / step}, time=100.0 * step + 1))
    (training,) = trainings.all
    assert sum(len(series.at) for series in training.series.values()) <= MOST
    assert [*training.seconds] == [1.0 * step for step in training.steps]
