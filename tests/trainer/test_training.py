"""Compares the logs of a training with values computed from the data."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.toy import InOrder, Toy, arguments, numbers, points, rows

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, SinkArguments, report_metrics, weighted


class Trainer(InOrder, HfMultiTaskTrainer):
    pass


def trained(model: Toy, data, tmp_path: Path, metrics: MetricRegistry | None = None, **changes) -> Trainer:
    trainer = Trainer(model, arguments(tmp_path, **changes), train_dataset=data, metrics=metrics)
    trainer.train()
    return trainer


def test_each_log_event_has_the_mean_of_its_window(tmp_path) -> None:
    trainer = trained(Toy(), numbers(1, 2, 3, 5, 10, 20), tmp_path)
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 4.0), (6, 15.0)]


@pytest.mark.parametrize(("batch", "accumulation"), [(1, 1), (1, 4), (3, 1), (2, 3), (4, 2)])
def test_means_are_over_all_items_however_they_are_batched(tmp_path, batch: int, accumulation: int) -> None:
    class PerItem(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", each=x, weighted=weighted(x.mean(), len(x)), n=len(x))

    values = np.random.default_rng(0).normal(size=23).astype(np.float32).astype(np.float64)
    trainer = trained(
        PerItem(),
        numbers(*values),
        tmp_path,
        MetricRegistry(reducers={"*/n": "sum"}),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
    )
    step_items = batch * accumulation
    steps = math.ceil(math.ceil(23 / batch) / accumulation)
    windows = [(end, values[(end - 2) * step_items : end * step_items]) for end in range(2, steps + 1, 2)]
    if steps % 2:
        windows.append((steps, values[(steps - 1) * step_items :]))
    for key in ("a/each", "a/weighted"):
        assert points(trainer, key) == [(step, pytest.approx(window.mean(), rel=1e-6)) for step, window in windows]
    assert points(trainer, "a/n") == [(step, len(window)) for step, window in windows]


def test_a_window_cut_by_max_steps_is_delivered(tmp_path) -> None:
    trainer = trained(Toy(), numbers(*range(10)), tmp_path, max_steps=5, logging_steps=3)
    assert points(trainer, "a/loss") == [(3, 1.0), (5, 3.5)]


def test_the_first_step_and_epochs_are_log_events_too(tmp_path) -> None:
    first = trained(Toy(), numbers(1, 2, 3, 4), tmp_path, logging_first_step=True, logging_steps=2)
    assert rows(first, "a/loss") == [(1, 1.0), (2, 2.0), (4, 3.5)]
    epochs = trained(Toy(), numbers(1, 2, 3), tmp_path, logging_strategy="epoch", num_train_epochs=2)
    assert rows(epochs, "a/loss") == [(3, 2.0), (6, 2.0)]


def test_without_log_events_the_last_window_has_it_all(tmp_path) -> None:
    trainer = trained(Toy(), numbers(1, 2, 6), tmp_path, logging_strategy="no")
    assert points(trainer, "a/loss") == [(3, 3.0)]
    assert rows(trainer, "overall_a/loss") == [(3, 3.0)]


def test_a_task_whose_batches_are_rare_is_absent_from_the_other_rows(tmp_path) -> None:
    class Rare(Toy):
        def extra(self, x, loss):
            if x.item() >= 10:
                self.report_metrics("rare", loss=loss)
            self.report_metrics("a", loss=loss)

    trainer = trained(Rare(), numbers(1, 2, 3, 10, 30, 5), tmp_path)
    assert rows(trainer, "rare/loss") == [(4, 10.0), (6, 30.0)]


def test_reports_come_from_submodules_functions_and_compute_loss(tmp_path) -> None:
    class Head(torch.nn.Module):
        supports_report_metrics = True

        def forward(self, x):
            self.report_metrics("head", out=x.sum())
            return x

    class Deep(Toy):
        supports_report_metrics = False

        def __init__(self):
            super().__init__()
            self.heads = torch.nn.ModuleList([torch.nn.Sequential(Head())])

        def forward(self, x):
            report_metrics("anywhere", x=2 * x)
            return super().forward(self.heads[0](x))

    class ReportsLoss(Trainer):
        def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
            loss = super().compute_loss(model, inputs, return_outputs, **kwargs)
            report_metrics("outer", loss=3 * loss)
            return loss

    trainer = ReportsLoss(Deep(), arguments(tmp_path), train_dataset=numbers(1, 2))
    trainer.train()
    (row, _) = trainer.state.log_history
    assert (row["head/out"], row["anywhere/x"], row["outer/loss"]) == (1.5, 3.0, 4.5)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_model_with_gradient_checkpointing_reports_once(tmp_path, use_reentrant: bool) -> None:
    from transformers import BertConfig, BertForMaskedLM

    class Model(BertForMaskedLM):
        def __init__(self, config):
            super().__init__(config)
            for layer in self.bert.encoder.layer:
                layer.output.register_forward_hook(lambda *_: report_metrics("layer", n=1))

    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=8,
    )
    data = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(6)]
    trainer = trained(
        Model(config), data, tmp_path, MetricRegistry(reducers={"layer/n": "sum"}),
        gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": use_reentrant},
        gradient_accumulation_steps=3, logging_steps=1,
    )  # fmt: skip
    assert rows(trainer, "layer/n") == [(1, 3 * 2), (2, 3 * 2)]


def test_derived_metrics_and_rules_reach_the_log(tmp_path) -> None:
    class Counts(Toy):
        def extra(self, x, loss):
            self.report_metrics("qa", correct=x, total=10.0, loss=loss)

    registry = MetricRegistry(
        reducers={"qa/correct": "sum", "qa/total": "sum", "*/loss": "max"},
        derived={"qa/acc": lambda m: m["qa/correct"] / m["qa/total"]},
    )
    trainer = trained(Counts(), numbers(1, 4, 2, 3), tmp_path, registry)
    assert rows(trainer, "qa/acc") == [(2, 0.25), (4, 0.25)]
    assert rows(trainer, "qa/loss") == [(2, 4.0), (4, 3.0)]


def test_the_console_and_the_state_file_hold_the_same(tmp_path, capsys) -> None:
    import ast
    import json

    args = arguments(tmp_path, save_strategy="steps", save_steps=4)
    trainer = Trainer(Toy(), args, train_dataset=numbers(1, 2, 3, 4), sink_args=SinkArguments(console="dict"))
    trainer.train()
    printed = [ast.literal_eval(line) for line in capsys.readouterr().out.splitlines() if "'a/loss'" in line]
    assert [float(row["a/loss"]) for row in printed] == [1.5, 3.5]
    state = json.loads((tmp_path / "checkpoint-4" / "trainer_state.json").read_text())
    assert state["log_history"] == trainer.state.log_history[:2]


def test_the_logs_keep_the_order_trainer_then_metrics_then_epoch(tmp_path) -> None:
    row = trained(Toy(), numbers(1, 2), tmp_path).state.log_history[0]
    assert list(row) == ["loss", "grad_norm", "learning_rate", "a/loss", "epoch", "step"]


@pytest.mark.parametrize(("name", "value"), [("loss", 1.0), ("epoch", 1.0), ("learning_rate", 1.0), ("eval_acc", 1.0)])
def test_a_name_of_the_trainers_is_refused_before_the_first_optimizer_step(tmp_path, name: str, value: float) -> None:
    class Takes(Toy):
        def extra(self, x, loss):
            self.report_metrics(**{name: value})

    trainer = Trainer(Takes(), arguments(tmp_path), train_dataset=numbers(1, 2))
    with pytest.raises(ValueError, match=f"'{name}' is a name that the Trainer logs itself"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_a_value_of_a_wrong_type_is_refused_before_the_first_optimizer_step(tmp_path) -> None:
    class Wrong(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", loss=[loss])

    trainer = Trainer(Wrong(), arguments(tmp_path), train_dataset=numbers(1, 2))
    with pytest.raises(TypeError, match="a/loss: a list cannot be reported"):
        trainer.train()
    assert trainer.state.global_step == 0


def test_nan_raises_at_the_log_event_if_asked_to(tmp_path) -> None:
    class Nan(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", ratio=math.nan if x == 3 else 1.0)

    trainer = Trainer(
        Nan(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4, 5), metrics=MetricRegistry(nonfinite="raise")
    )
    with pytest.raises(ArithmeticError, match=r"up to step 4 \(train\): a/ratio \(1\)"):
        trainer.train()


def test_logging_of_the_users_own_does_not_cut_the_window(tmp_path) -> None:
    class LogsMore(Trainer):
        def training_step(self, *args, **kwargs):
            self.log({"mine": 1.0})
            return super().training_step(*args, **kwargs)

    trainer = LogsMore(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 5))
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 4.0)]
    assert len(rows(trainer, "mine")) == 4


def test_an_overridden_log_sees_and_keeps_its_own(tmp_path) -> None:
    class Renames(Trainer):
        def log(self, logs, *args, **kwargs):
            super().log({**logs, "twice": 2 * logs.get("loss", 0)}, *args, **kwargs)

    trainer = Renames(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2))
    trainer.train()
    assert (rows(trainer, "twice")[0], rows(trainer, "a/loss")) == ((2, 3.0), [(2, 1.5)])


def test_early_stopping_by_a_reported_metric(tmp_path) -> None:
    from transformers import EarlyStoppingCallback

    class Worsens(Toy):
        calls = 0

        def extra(self, x, loss):
            if not self.training:
                type(self).calls += 1
                self.report_metrics("a", error=[3.0, 2.0, 4.0, 5.0, 6.0][min(self.calls, 5) - 1])

    trainer = Trainer(
        Worsens(),
        arguments(
            tmp_path, max_steps=20, eval_strategy="steps", eval_steps=1, save_strategy="steps", save_steps=1,
            load_best_model_at_end=True, metric_for_best_model="eval_a/error", greater_is_better=False,
        ),
        train_dataset=numbers(*range(20)),
        eval_dataset=numbers(1),
        callbacks=[EarlyStoppingCallback(2)],
    )  # fmt: skip
    trainer.train()
    assert rows(trainer, "eval_a/error") == [(1, 3.0), (2, 2.0), (3, 4.0), (4, 5.0)]
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (2.0, 2)
