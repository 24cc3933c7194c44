from __future__ import annotations

import pytest

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.analysis.main_metric import main_metrics
from mtask_sinks.analysis.training import Training
from mtask_sinks.journal.records import Begin


def training(keys: list[str], rules: dict[str, str | None] | None = None) -> Training:
    made = Training(1)
    made.begins.append(Begin(RunInfo(id="1", directions=rules or {})))
    made.add(Snapshot(1, metrics=dict.fromkeys(keys, 1.0)))
    return made


@pytest.mark.parametrize(
    ("names", "main"),
    [
        (["accuracy", "box_loss", "loss"], "loss"),
        (["accuracy", "box_loss", "giou_loss"], "box_loss"),
        (["n_tokens", "f1", "accuracy"], "f1"),
        (["n_tokens", "drift"], None),
    ],
)
def test_a_loss_stands_for_its_task_or_the_first_metric_with_a_direction(names, main) -> None:
    found = main_metrics([training([f"a/{name}" for name in names])])
    assert found == ({} if main is None else {"a": f"a/{main}"})


def test_a_rule_of_the_user_counts_and_so_does_every_training() -> None:
    runs = [training(["a/drift"], {"a/drift": "min"}), training(["b/acc", "a/loss", "lr", "loss"])]
    assert main_metrics(runs) == {"a": "a/loss", "b": "b/acc", "": "loss"}
    assert main_metrics(runs[:1]) == {"a": "a/drift"}
    assert main_metrics([]) == {}
