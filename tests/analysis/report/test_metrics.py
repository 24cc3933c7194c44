from __future__ import annotations

import math

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.compare import Outcome
from mtask_sinks.analysis.report.metrics import metric_rows
from mtask_sinks.analysis.training import Training
from mtask_sinks.journal.records import Begin


def training(*snapshots: Snapshot) -> Training:
    made = Training(1)
    for snapshot in snapshots:
        made.add(snapshot)
    return made


def test_runs_without_a_finite_value_have_no_winner() -> None:
    made = [training(Snapshot(2, metrics={"m/loss": math.nan})) for _ in range(2)]
    (row,) = metric_rows(made)
    assert (row.better, row.winners) == ("min", ())
    assert all(math.isnan(outcome.best) for outcome in row.outcomes)


def test_last_and_best_run_beside_run() -> None:
    a = training(
        Snapshot(2, metrics={"m/loss": 3.0, "m/acc": 0.5}),
        Snapshot(2, "eval", {"m/loss": 4.0}),
        Snapshot(4, metrics={"m/loss": 1.0, "m/acc": 0.25}),
        Snapshot(6, metrics={"m/loss": 2.0, "m/acc": 0.5}),
    )
    b = training(
        Snapshot(2, metrics={"m/loss": math.nan, "m/acc": 0.5, "n/loss": 7.0}), Snapshot(4, "eval", {"m/loss": 3.5})
    )
    rows = {(row.task, row.name, row.phase): row for row in metric_rows([a, b])}
    assert list(rows) == [
        ("m", "loss", "train"),
        ("m", "loss", "eval"),
        ("m", "acc", "train"),
        ("n", "loss", "train"),
    ]
    loss = rows["m", "loss", "train"]
    assert (loss.better, loss.outcomes[0], loss.winners) == ("min", Outcome(2.0, 6, 1.0, 4), (0,))
    assert math.isnan(loss.outcomes[1].best)
    assert rows["m", "loss", "eval"].outcomes == (Outcome(4.0, 2, 4.0, 2), Outcome(3.5, 4, 3.5, 4))
    assert rows["m", "loss", "eval"].winners == (1,)
    accuracy = rows["m", "acc", "train"]
    assert (accuracy.better, accuracy.outcomes[0], accuracy.winners) == ("max", Outcome(0.5, 6, 0.5, 2), (0, 1))
    assert (rows["n", "loss", "train"].outcomes, rows["n", "loss", "train"].winners) == (
        (None, Outcome(7.0, 2, 7.0, 2)),
        (),
    )


def test_one_run_alone_wins_nothing() -> None:
    assert [row.winners for row in metric_rows([training(Snapshot(1, metrics={"a": 1.0}))])] == [()]
    assert metric_rows([training()]) == ()


def with_rules(rules, *snapshots: Snapshot) -> Training:
    made = training(*snapshots)
    made.begins.append(Begin(RunInfo(id="1", directions=rules)))
    return made


def test_a_metric_of_which_nothing_is_known_has_no_winner_and_a_count_only_its_largest_value() -> None:
    snapshots = [Snapshot(2, metrics={"m/bias": 3.0, "m/n": 3.0}), Snapshot(4, metrics={"m/bias": 1.0, "m/n": 1.0})]
    bias, count = metric_rows([training(*snapshots), training(*reversed(snapshots))])
    assert (bias.better, bias.winners) == (None, ())
    assert bias.outcomes == (Outcome(1.0, 4, None, None), Outcome(3.0, 2, None, None))
    assert (count.better, count.winners) == (None, ())
    assert count.outcomes == (Outcome(1.0, 4, 3.0, 2), Outcome(3.0, 2, 3.0, 2))


def test_of_rules_that_differ_those_of_the_last_training_hold() -> None:
    low, high = Snapshot(2, metrics={"m/bias": 1.0}), Snapshot(2, metrics={"m/bias": 3.0})
    smallest, largest = with_rules({"*/bias": "min"}, low), with_rules({"m/*": "max"}, high)
    silent = training(Snapshot(2, metrics={"m/bias": 2.0}))
    for trainings, better, winners in (
        ([smallest, largest], "max", (1,)),
        ([largest, smallest], "min", (1,)),
        ([largest, smallest, silent], "min", (1,)),
        ([silent, largest], "max", (1,)),
    ):
        (row,) = metric_rows(trainings)
        assert (row.better, row.winners) == (better, winners)
