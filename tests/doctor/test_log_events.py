"""A training of which only some snapshots stay in memory: the doctor's counts are those of all its snapshots."""

from __future__ import annotations

import math

import pytest
from helpers.doctor_journals import RUN, journal, of, only
from helpers.journals import write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis import counted, thinning
from mtask_sinks.analysis.counted import read_trainings

STEPS = range(10, 6010, 10)


def row(step: int) -> Snapshot:
    """Make a log event. The loss of ``a`` is noisy, so thinning keeps log events at irregular distances."""
    number = step // 10
    metrics = {"a/loss": 5 + math.sin(number * number)}
    nonfinite = {}
    if number % 7 == 0:
        metrics["a/loss.nonfinite"], nonfinite = 2.0, {"a/loss": 2}
    if number % 3 and number <= 400:
        metrics["b/loss"] = 1.0
    if number % 5 == 0 or number > 550:
        metrics["c/loss"] = math.nan
    else:
        metrics["c/loss"] = 1.0
    metrics["d/loss"] = math.inf if number % 11 == 0 else 1.0
    return Snapshot(step, metrics=metrics, counts=dict.fromkeys(metrics, 1), nonfinite=nonfinite, logs={"loss": 1.0})


@pytest.fixture(params=[False, True], ids=["small file", "large file"], autouse=True)
def few_values(request, monkeypatch) -> None:
    monkeypatch.setattr(thinning, "MAX_VALUES", 300)
    if request.param:
        monkeypatch.setattr(counted, "FAST_ABOVE", 0)


def test_this_training_does_not_stay_in_memory(tmp_path) -> None:
    (training,) = read_trainings(journal(tmp_path, [*map(row, STEPS)]))
    assert len(training.steps) < len(STEPS) / 3


def test_gaps_are_counted_in_all_log_events(tmp_path) -> None:
    journal(tmp_path, [*map(row, STEPS)])
    present = [step for step in STEPS if "b/loss" in row(step).metrics]
    between = [step for step in STEPS if present[0] <= step <= present[-1]]
    missing = [step for step in between if step not in present]
    where, text = only(tmp_path, "gaps")
    assert where == f"bert, step {missing[0]}"
    assert f"'b' is absent from {len(missing)} of the {len(between)} log events" in text


def test_a_task_that_vanished_is_missing_from_all_log_events_since(tmp_path) -> None:
    journal(tmp_path, [*map(row, STEPS)])
    last = max(step for step in STEPS if "b/loss" in row(step).metrics)
    where, text = only(tmp_path, "task-vanished")
    assert where == f"bert, step {last + 10:,}"
    assert f"at step {last:,}, and not in the {sum(step > last for step in STEPS)} log events" in text


def test_a_task_that_was_in_every_second_log_event_has_vanished_after_five_without_it(tmp_path) -> None:
    present = STEPS[:-5:2]
    tasks = {step: {"a/x": math.sin(step), **({"e/x": 1.0} if step in present else {})} for step in STEPS}
    journal(tmp_path, [Snapshot(step, metrics=metrics) for step, metrics in tasks.items()])
    assert [where for where, _ in of(tmp_path, "task-vanished")] == [f"bert, step {present[-1] + 10:,}"]


def test_values_that_are_not_finite_at_the_end(tmp_path) -> None:
    journal(tmp_path, [*map(row, STEPS)])
    values = {step: row(step).metrics["c/loss"] for step in STEPS}
    since = max(step for step, value in values.items() if math.isfinite(value)) + 10
    where, text = only(tmp_path, "nonfinite")
    assert where == f"bert, step {since:,}"
    assert f"has been nan since step {since:,}, in {sum(step >= since for step in STEPS)} log events" in text


def test_values_that_were_not_finite_before(tmp_path) -> None:
    journal(tmp_path, [*map(row, STEPS)])
    bad = [step for step in STEPS if math.isinf(row(step).metrics["d/loss"])]
    where, text = only(tmp_path, "nonfinite-before")
    assert where == f"bert, step {bad[0]}"
    assert f"in {len(bad)} of {len(STEPS)} log events, from step {bad[0]} to {bad[-1]:,}" in text


def test_values_that_were_left_out(tmp_path) -> None:
    journal(tmp_path, [*map(row, STEPS)])
    total = sum(row(step).metrics.get("a/loss.nonfinite", 0) for step in STEPS)
    where, text = only(tmp_path, "nonfinite-skipped")
    assert where == "bert, step 70"
    assert text.startswith(f"{total:.0f} values of 'a/loss' (train) were NaN or infinite")


def test_log_events_that_a_resume_has_undone_do_not_count(tmp_path) -> None:
    lost = [Snapshot(step, metrics={"a/loss": math.nan, "b/loss": math.nan}) for step in range(4010, 5010, 10)]
    first = [row(step) for step in range(10, 4010, 10)]
    second = [row(step) for step in range(4010, 6010, 10)]
    write(tmp_path, (RUN, [*first, *lost], "killed"), (RunInfo(id="2", step=4000), second, "finished"))
    missing = sum(step > 4000 for step in STEPS)
    assert f"at step 4,000, and not in the {missing} log events" in only(tmp_path, "task-vanished")[1]
    assert [text.partition(" ")[0] for _, text in of(tmp_path, "nonfinite-before")] == ["'d/loss'"]


def test_log_events_of_a_training_without_metrics_count_too(tmp_path) -> None:
    journal(tmp_path, [Snapshot(step, logs={"loss": 1.0}) for step in STEPS])
    assert f"has {len(STEPS)} log events" in only(tmp_path, "nothing-reported")[1]
