from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from helpers.journals import write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.progress import Watch
from mtask_sinks.journal import reader, sampling
from mtask_sinks.journal.lines import Line, read_lines
from mtask_sinks.journal.sampling import sample


def snapshots() -> Iterator[Snapshot]:
    """A long training with rare evaluations, and a metric that only some windows of the training have."""
    for step in range(1, 4_001):
        metrics = {"a/loss": 10.0 / step, **({"rare/x": float(step)} if step in (700, 1_500) else {})}
        yield Snapshot(step, "train", metrics, time=1000.0 + step, counts=dict.fromkeys(metrics, 4))
        if step % 1_900 == 0:
            yield Snapshot(step, "eval", {"a/loss": 20.0 / step}, time=1000.5 + step)


def test_it_yields_few_lines_and_the_first_and_last_of_each_kind(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(sampling, "_SPREAD", 50)
    path = write(tmp_path, (RunInfo(id="1"), list(snapshots()), None), (RunInfo(id="2", step=3_990), [], "finished"))
    with path.open("rb") as file:
        picked = list(sample(read_lines(file)))
    records = [json.loads(line.data) for line in picked]
    assert len(picked) < 150 and [line.end for line in picked] == sorted(line.end for line in picked)
    assert [record["record"] for record in records if record["record"] != "snapshot"] == ["run", "run", "end"]
    of = {phase: [r["step"] for r in records if r.get("phase") == phase] for phase in ("train", "eval")}
    assert of["eval"] == [1_900, 3_800]
    assert of["train"][0] == 1 and of["train"][-40:] == list(range(3_961, 4_001)) and {700, 1_500} <= {*of["train"]}


def test_a_journal_that_another_program_wrote_again_is_not_sampled() -> None:
    lines = [Line(json.dumps({"step": at, "record": "snapshot"}).encode() + b"\n", at) for at in range(5_000)]
    assert list(sample(lines)) == lines


def test_a_view_of_a_long_journal_shows_the_same_as_of_all_of_it(tmp_path, monkeypatch) -> None:
    made = list(snapshots())
    runs = (RunInfo(id="1", name="r"), made[:3_000], None), (RunInfo(id="2", step=2_500), made[2_501:], "finished")
    write(tmp_path, *runs)
    whole = Watch(tmp_path).progress()
    monkeypatch.setattr(reader, "_LONG", 1)
    monkeypatch.setattr(sampling, "_SPREAD", 200)
    watch = Watch(tmp_path)
    seen = watch.progress()
    assert watch.training is not None and len(watch.training.steps) < 600
    for name in ("name", "status", "step", "epoch", "resumed_at", "time", "steps_per_second"):
        assert getattr(seen, name) == getattr(whole, name)
    parts = ("task", "name", "phase", "step", "last", "change", "count", "better")
    rows = [[tuple(getattr(row, part) for part in parts) for row in each.rows] for each in (seen, whole)]
    assert rows[0] == rows[1]
    loss = next(row for row in seen.rows if row.phase == "train")
    assert loss.values[0] == 10.0 and loss.values[-1] == pytest.approx(10.0 / 4_000, rel=0.01)
    assert watch._reader.snapshots_after(0) == sum(len(snapshots) for _, snapshots, _ in runs)


def test_tasks_that_take_turns_all_have_curves_in_a_sample(tmp_path, monkeypatch) -> None:
    tasks = ["a", "b"] * 500 + ["a", "c"] * 500  # b stops, and its last value is at step 1,000
    rows = [Snapshot(step, metrics={f"{task}/loss": 10.0 / step}) for step, task in enumerate(tasks, 1)]
    write(tmp_path, (RunInfo(id="1"), rows, "finished"))
    monkeypatch.setattr(reader, "_LONG", 1)
    monkeypatch.setattr(sampling, "_SPREAD", 50)
    watch = Watch(tmp_path)
    seen = {row.task: (row.step, row.last, row.change, row.values[0]) for row in watch.progress().rows}
    assert watch.training is not None and len(watch.training.steps) < 300
    assert {task: (*parts[:2], parts[3]) for task, parts in seen.items()} == {
        "a": (1_999, 10 / 1_999, 10.0),
        "b": (1_000, 10 / 1_000, 5.0),
        "c": (2_000, 10 / 2_000, 10 / 1_002),
    }
    assert [parts[2] for parts in seen.values()] == [10 / s - 10 / (s - 2) for s in (1_999, 1_000, 2_000)]


@pytest.mark.parametrize("kinds", [1, 2, 100])
def test_many_sets_of_metrics_leave_an_evaluation_its_own_lines(tmp_path, monkeypatch, kinds: int) -> None:
    monkeypatch.setattr(sampling, "_MAX_KINDS", kinds)
    monkeypatch.setattr(sampling, "_SPREAD_OF_ALL", 200)
    rows = [Snapshot(step, metrics={f"t{step % 50}/loss": 1.0, f"u{step % 7}/loss": 2.0}) for step in range(1, 3_000)]
    rows[999:999] = [Snapshot(999, "eval", {"t1/loss": 3.0})]
    path = write(tmp_path, (RunInfo(id="1"), rows, "finished"))
    with path.open("rb") as file:
        records = [json.loads(line.data) for line in sample(read_lines(file))]
    assert [record["step"] for record in records if record.get("phase") == "eval"] == [999]
    assert kinds > 2 or len(records) < 600


def test_tasks_in_ever_other_combinations_keep_a_fine_curve(monkeypatch) -> None:
    """The combinations that were first are no reason to keep fewer lines of all that follow."""
    monkeypatch.setattr(sampling, "_MAX_KINDS", 10)
    monkeypatch.setattr(sampling, "_SPREAD", 400)
    monkeypatch.setattr(sampling, "_SPREAD_OF_ALL", 500)
    choose = random.Random(0).sample
    windows = [{f"t{task:02}/loss": 1.0 for task in choose(range(30), 10)} for _ in range(5_000)]
    data = [json.dumps({"record": "snapshot", "phase": "train", "metrics": metrics}).encode() for metrics in windows]
    picked = [line.end for line in sample(Line(line, at) for at, line in enumerate(data))]
    assert picked[:10] == [*range(10)] and picked[-40:] == [*range(4_960, 5_000)]
    spread = picked[10:-40]
    assert 300 < len(spread) <= 400 and max(b - a for a, b in pairwise(spread)) <= 16


def test_ever_other_phases_leave_few_lines() -> None:
    lines = (Line(b'{"record":"snapshot","phase":"eval_%d","metrics":{}}' % at, at) for at in range(5_000))
    picked = [line.end for line in sample(lines)]
    assert picked[:200] == [*range(200)] and picked[-40:] == [*range(4_960, 5_000)]
    assert len(picked) <= 200 + 2_000 + 40


def test_an_evaluation_in_a_sample_is_at_the_running_total_of_its_step(tmp_path, monkeypatch) -> None:
    made = [
        replace(each, metrics={**each.metrics, "a/n_tokens": 100.0 * each.step}) if each.phase == "train" else each
        for each in snapshots()
    ]
    write(tmp_path, (RunInfo(id="1"), made, "finished"))
    monkeypatch.setattr(reader, "_LONG", 1)
    monkeypatch.setattr(sampling, "_SPREAD", 50)
    watch = Watch(tmp_path, "a/loss", "a/n_tokens")
    train, evaluation = watch.progress().rows
    assert watch.training is not None and len(watch.training.steps) < 150
    assert (train.x_value, evaluation.x_value) == (400_000.0, 380_000.0)  # the last evaluation is at step 3,800


def test_what_is_added_to_a_long_journal_is_followed(tmp_path, monkeypatch) -> None:
    write(tmp_path, (RunInfo(id="1"), list(snapshots()), None))
    monkeypatch.setattr(reader, "_LONG", 10_000)
    watch = Watch(tmp_path)
    assert watch.progress().step == 4_000
    write(tmp_path, (RunInfo(id="1"), [Snapshot(4_001, metrics={"a/loss": 7.0}, time=6000.0)], "failed"))
    seen = watch.progress()
    assert (seen.step, seen.status, seen.rows[0].last) == (4_001, "failed", 7.0)
