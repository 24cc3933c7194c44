from __future__ import annotations

import os
import socket
import time

import numpy as np
import pytest
from helpers.journals import as_of_process, ended_process, losses, write

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.progress import MetricProgress, Watch
from mtask_sinks.cli.watch_view import summary_line


def test_rows_are_sorted_by_task_then_metric_then_phase_and_hold_their_last_change(tmp_path) -> None:
    snapshots = [
        Snapshot(2, metrics={"a/loss": 5.0, "b/loss": 7.0}, counts={"a/loss": 2, "b/loss": 3}),
        Snapshot(2, "eval", {"a/loss": 6.0}, counts={"a/loss": 1}),
        Snapshot(4, metrics={"a/loss": 3.5, "a/acc": 0.5}, counts={"a/loss": 8, "a/acc": 8}),
    ]
    write(tmp_path, (RunInfo(id="1"), snapshots, "finished"))
    progress = Watch(tmp_path).progress()
    assert progress.rows == (
        MetricProgress("a", "loss", "train", 4, 3.5, -1.5, 8, (5.0, 3.5), "min", x_value=4),
        MetricProgress("a", "loss", "eval", 2, 6.0, None, 1, (6.0,), "min", x_value=2),
        MetricProgress("a", "acc", "train", 4, 0.5, None, 8, (0.5,), "max", x_value=4),
        MetricProgress("b", "loss", "train", 2, 7.0, None, 3, (7.0,), "min", x_value=2),
    )
    assert [(row.task, row.name) for row in Watch(tmp_path, "b/*").progress().rows] == [("b", "loss")]


def test_a_window_that_the_end_cut_short_is_not_the_last_value(tmp_path) -> None:
    cut = Snapshot(24, metrics={"a/n": 1090.0, "late": 3.0}, counts={"a/n": 2}, is_partial=True)
    rows = [Snapshot(step, metrics={"a/n": n}, counts={"a/n": 5}) for step, n in ((10, 2837.0), (20, 2801.0))]
    write(tmp_path, (RunInfo(id="1"), [*rows, cut, Snapshot(24, "overall", {"a/n": 6728.0})], "finished"))
    progress = Watch(tmp_path).progress()
    assert progress.step == 24
    assert progress.rows == (
        MetricProgress("a", "n", "train", 20, 2801.0, -36.0, 5, (2837.0, 2801.0), x_value=20),
        MetricProgress("a", "n", "overall", 24, 6728.0, None, 0, (6728.0,), x_value=24),
        MetricProgress("", "late", "train", 24, 3.0, None, 0, (3.0,), partial=True, x_value=24),
    )


def test_lines_that_cannot_be_read_are_counted_and_shown(tmp_path) -> None:
    path = write(tmp_path, (RunInfo(id="1"), losses(2, 4), "finished"))
    assert Watch(path).progress().left_out == 0
    with path.open("ab") as file:
        file.write(b'{"record": "snapshot", "step": "x"}\n{"record": "of a newer version"}\nno record\n')
    progress = Watch(path).progress()
    assert progress.left_out == 2
    assert summary_line(progress).endswith("2 lines of the journal cannot be read")


def test_it_follows_a_resume_and_a_new_training(tmp_path) -> None:
    watch = Watch(tmp_path)
    assert (watch.progress().status, watch.progress().rows) == ("waiting", ())
    write(tmp_path, (RunInfo(id="1", name="r"), losses(2, 4), "failed"))
    assert (watch.progress().status, watch.progress().step) == ("failed", 4)
    write(tmp_path, (RunInfo(id="2", step=2), losses(4, factor=20.0), None))
    progress = watch.progress()
    assert (progress.name, progress.status, progress.resumed_at) == ("r", "running", (2,))
    assert progress.rows[0].values == (20.0, 80.0)
    write(tmp_path, (RunInfo(id="3", name="new"), [], None))
    assert (watch.progress().name, watch.progress().number, watch.progress().rows) == ("new", 2, ())


def test_another_file_in_the_place_of_the_journal_is_read_from_its_beginning(tmp_path) -> None:
    watch = Watch(tmp_path)
    path = write(tmp_path, (RunInfo(id="1", name="old"), losses(2, 4), None))
    assert watch.progress().step == 4
    path.unlink()
    write(tmp_path, (RunInfo(id="2", name="new"), losses(1), None))
    progress = watch.progress()
    assert (progress.name, progress.number, progress.step) == ("new", 1, 1)


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_a_training_whose_process_is_gone_was_killed_if_that_can_be_known(tmp_path, place) -> None:
    path = write(tmp_path, (RunInfo(id="1"), losses(2), None))
    host = socket.gethostname() if place == "here" else "elsewhere"
    as_of_process(path, host, ended_process())
    progress = Watch(path).progress()
    assert (progress.status, progress.host) == (("killed", None) if place == "here" else ("running", "elsewhere"))


def test_time_left_is_what_is_missing_at_the_rate_so_far(tmp_path) -> None:
    start = time.time()
    rows = [Snapshot(step, metrics={"x": 1.0}, time=start + 1000 + step / 4) for step in (8, 16, 24)]
    path = write(tmp_path, (RunInfo(id="1", params={"max_steps": 64}), rows, None))
    as_of_process(path, socket.gethostname(), os.getppid())
    watch = Watch(path)
    watch.progress()
    watch.training._recent.popleft()  # drop the time of the start, which does not fit these times
    progress = watch.progress()
    assert (progress.status, progress.max_steps) == ("running", 64)
    assert (progress.steps_per_second, progress.seconds_left) == (4.0, 10.0)


def test_a_finished_training_has_no_time_left(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", params={"max_steps": 64}), losses(2, 4), "finished"))
    assert Watch(tmp_path).progress().seconds_left is None


def test_the_direction_of_a_metric_comes_from_the_rules_of_the_training_then_from_its_name(tmp_path) -> None:
    rows = [Snapshot(2, metrics={"a/bias": 3.0, "a/drift": 1.0, "a/loss": 2.0, "a/acc": 0.5, "a/n_seen": 4.0})]
    rules = {"*/bias": "min", "a/acc": None}
    write(tmp_path, (RunInfo(id="1", directions=rules), rows, "killed"))
    watch = Watch(tmp_path)
    assert {row.name: row.better for row in watch.progress().rows} == {
        "bias": "min", "drift": None, "loss": "min", "acc": None, "n_seen": None,
    }  # fmt: skip
    # Those of the resumed process hold; then a training without rules.
    write(tmp_path, (RunInfo(id="2", step=2, directions={"*/drift": "max"}), [], "finished"))
    assert [row.better for row in watch.progress().rows] == [None, "max", "min", "max", None]
    write(tmp_path, (RunInfo(id="3"), rows, None))
    assert [row.better for row in watch.progress().rows] == [None, None, "min", "max", None]


def test_a_curve_is_spaced_by_its_axis_in_few_values(tmp_path) -> None:
    """A loss that rises with the tokens: over tokens the curve is straight, over steps it bends."""
    tokens = [float(step**2) for step in range(1, 3_001)]
    rows = [Snapshot(step, metrics={"a/loss": n, "a/n_tokens": n}) for step, n in enumerate(tokens, 1)]
    write(tmp_path, (RunInfo(id="1"), rows, "finished"))
    straight = np.linspace(tokens[0], tokens[-1], 1_000)
    over_tokens, over_steps = (Watch(tmp_path, "a/loss", x).progress().rows[0] for x in ("a/n_tokens", "step"))
    assert len(over_tokens.values) == len(over_steps.values) == 1_000
    assert np.abs(np.array(over_tokens.values) - straight).max() < straight[1] - straight[0]
    assert (
        np.abs(np.array(over_steps.values) - straight).max() > tokens[-1] / 5
    )  # a parabola is a quarter below its chord
    assert (over_tokens.x_value, over_steps.x_value) == (9e6, 3_000)


def test_values_before_the_first_total_are_not_in_a_curve(tmp_path) -> None:
    metrics = ({"a/loss": 9.0}, {"a/loss": 5.0, "a/n": 10.0}, {"a/loss": 4.0, "a/n": 20.0})
    rows = [Snapshot(step, metrics=each) for step, each in enumerate(metrics, 1)]
    write(tmp_path, (RunInfo(id="1"), [Snapshot(0, "eval", {"a/loss": 7.0}), *rows], "finished"))
    loss, evaluation, _ = Watch(tmp_path, x="a/n").progress().rows
    assert (loss.values, loss.x_value, evaluation.values, evaluation.x_value) == ((5.0, 4.0), 20.0, (), None)


def test_a_curve_over_a_total_that_stands_still_is_one_place(tmp_path) -> None:
    rows = [Snapshot(step, metrics={"a/loss": 9.0 * step, "a/n": 7.0}) for step in (1, 2, 3)]
    write(tmp_path, (RunInfo(id="1"), rows, "finished"))
    assert Watch(tmp_path, x="a/n").progress().rows[0].values == (18.0,)


@pytest.mark.parametrize(
    ("epochs", "curve"), [((1e308, -1e308, 3.0), (2.0,)), ((0.0, 5e-324, 1e-323), (1.0, 2.0, 3.0))]
)
def test_a_curve_over_epochs_that_are_almost_infinite_or_almost_the_same_has_its_values(
    tmp_path, epochs, curve
) -> None:
    snapshots = [Snapshot(n, metrics={"a/loss": float(n)}, epoch=epoch) for n, epoch in enumerate(epochs, 1)]
    write(tmp_path, (RunInfo(id="1"), snapshots, "finished"))
    assert Watch(tmp_path, x="epoch").progress().rows[0].values == curve


def test_without_the_wanted_axis_it_is_the_step_and_the_reason_is_known(tmp_path) -> None:
    watch = Watch(tmp_path, x="a/n")
    assert (watch.progress().x, watch.progress().x_error) == ("step", "")  # there is no training yet
    write(tmp_path, (RunInfo(id="1", name="r"), [Snapshot(3, metrics={"a/loss": 4.0})], None))
    progress = watch.progress()
    assert (progress.x, progress.x_value) == ("step", 3)
    assert progress.x_error == "x='a/n' is no metric of the training phase. Pass one of: step, epoch, time."
    write(tmp_path, (RunInfo(id="1"), [Snapshot(4, metrics={"a/n": 30.0})], None))
    progress = watch.progress()
    assert (progress.x, progress.x_value, progress.x_error) == ("a/n", 30.0, "")
    write(tmp_path, (RunInfo(id="1"), [Snapshot(5, metrics={"a/n": 20.0})], None))
    assert watch.progress().x_error.startswith("x='a/n' falls in r, so no curve can be drawn over it.")
