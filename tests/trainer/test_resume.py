"""A training that was killed and resumed logs the same as one that was never stopped."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from helpers.reducers import NAMES
from helpers.toy import InOrder, KillAt, Killed, Silent, Toy, arguments, numbers

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry

RULES = {f"*/{name}": name for name in NAMES} | {"*/range": lambda values: values.max() - values.min()}


class Reporting(Toy):
    def extra(self, x, loss):
        values = torch.cat([x.flatten(), x.flatten() ** 2])
        self.report_metrics("a", **dict.fromkeys([*NAMES, "range"], values))
        self.report_metrics("odd", mean=torch.tensor(torch.nan if x.max() > 20 else -torch.inf))
        if x.max() < 4:
            self.report_metrics("early", n=x.max())


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


def trainer_of(path, model=None, registry=None, **changes):
    settings = {
        "logging_steps": 7,
        "save_strategy": "steps",
        "save_steps": 5,
        "gradient_accumulation_steps": 2,
        **changes,
    }
    return Ordered(
        model or Reporting(),
        arguments(path, **settings),
        train_dataset=numbers(*range(40)),
        metrics=registry or MetricRegistry({**RULES, "early/n": "sum"}, nonfinite={"odd/*": "skip"}),
    )


def ours(trainer):
    """Return step and task metrics of each row with task metrics."""
    rows = [(row["step"], {k: v for k, v in row.items() if "/" in k}) for row in trainer.state.log_history]
    return [(step, row) for step, row in rows if row]


@pytest.mark.parametrize("restore", [False, True])
@pytest.mark.parametrize("killed_at", [6, 12, 15])
def test_every_row_is_as_if_it_had_never_been_stopped(tmp_path, killed_at, restore) -> None:
    whole = trainer_of(tmp_path / "whole")
    whole.train()
    killed = trainer_of(tmp_path / "killed")
    killed.add_callback(KillAt(killed_at))
    with pytest.raises(Killed):
        killed.train()
    resumed = trainer_of(tmp_path / "killed", restore_callback_states_from_checkpoint=restore)
    resumed.train(resume_from_checkpoint=True)
    assert ours(resumed) == ours(whole)
    assert [step for step, _ in ours(resumed)] == [7, 14, 20]


def test_the_open_window_of_the_checkpoint_holds_what_was_reported_since_the_last_row(tmp_path) -> None:
    trainer_of(tmp_path).train()
    state = json.loads((tmp_path / "checkpoint-10" / "trainer_state.json").read_text())
    keys = state["stateful_callbacks"]["MultiTaskMetrics"]["attributes"]["window"]["keys"]
    x = np.arange(14.0, 20.0)  # steps 8, 9 and 10, two items each
    values = np.concatenate([x, x**2])
    assert keys["a/mean"]["state"] == [values.sum(), 12.0]
    assert keys["a/max"]["state"] == [19.0**2, 0.0]
    assert sorted(keys["a/median"]["state"]) == sorted(values)
    assert (keys["a/sum"]["reports"], keys["odd/mean"]["reports"], keys["odd/mean"]["nonfinite"]) == (6, 0, 6)
    assert "early/n" not in keys


def test_a_checkpoint_at_a_row_holds_an_empty_window_and_a_silent_models_none_ever(tmp_path) -> None:
    trainer_of(tmp_path / "row", logging_steps=5).train()
    trainer_of(tmp_path / "silent", model=Silent()).train()
    row, silent = (
        json.loads((tmp_path / name / "checkpoint-10" / "trainer_state.json").read_text())["stateful_callbacks"]
        for name in ("row", "silent")
    )
    window = row["MultiTaskMetrics"]["attributes"]["window"]
    assert window["keys"] == {}
    assert window["spans"]["training"]["keys"]["a/mean"]["reports"] == 20  # two per step, over the whole training
    assert "MultiTaskMetrics" not in silent


def test_a_second_training_of_the_same_trainer_begins_with_an_empty_window(tmp_path) -> None:
    trainer = trainer_of(tmp_path)
    trainer.train()
    first = ours(trainer)
    trainer.train()
    assert ours(trainer) == first


def test_a_reducer_that_changed_meanwhile_costs_the_open_window_of_its_key_alone(tmp_path, caplog) -> None:
    killed = trainer_of(tmp_path)
    killed.add_callback(KillAt(6))
    with pytest.raises(Killed):
        killed.train()
    registry = MetricRegistry({**RULES, "early/n": "sum", "a/mean": "max", "a/sum": "median"}, nonfinite="skip")
    resumed = trainer_of(tmp_path, registry=registry)
    resumed.train(resume_from_checkpoint=True)
    row = ours(resumed)[0][1]
    assert row["a/sum"] == np.median([10, 11, 12, 13, 100, 121, 144, 169])  # only the values after the checkpoint
    assert row["a/count"] == 28
    assert "a/sum" in caplog.text


def test_the_kept_values_of_a_sample_past_its_bound_travel_too() -> None:
    def registry():
        from mtask_sinks.reducers import Quantile

        return MetricRegistry({"x": Quantile(0.5, max_values=50)})

    stopped, whole = registry(), registry()
    for metrics in (stopped, whole):
        metrics.report_metrics(x=np.arange(500.0))
    resumed = registry()
    resumed.load_state_dict(json.loads(json.dumps(stopped.state_dict())))
    for metrics in (resumed, whole):
        metrics.report_metrics(x=np.arange(500.0, 1000.0))
    assert resumed.snapshot(1).metrics["x"] == whole.snapshot(1).metrics["x"] != 499.5


def test_saving_leaves_the_window_open_and_says_valid_json() -> None:
    registry = MetricRegistry({"*/std": "std", "*/min": "min"})
    registry.report_metrics("a", std=float("nan"), min=float("inf"))
    text = json.dumps(registry.state_dict(), allow_nan=False)
    registry.report_metrics("a", min=3.0)
    assert registry.snapshot(1).metrics["a/min"] == 3.0
    resumed = MetricRegistry({"*/std": "std", "*/min": "min"})
    resumed.load_state_dict(json.loads(text))
    metrics = resumed.snapshot(1).metrics
    assert np.isnan(metrics["a/std"])
    assert metrics["a/min"] == float("inf")
