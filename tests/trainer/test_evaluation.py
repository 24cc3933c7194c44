"""Evaluation and prediction: separate windows, names with the data set, values in the returned metrics."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
import torch
from helpers.toy import InOrder, Toy, arguments, numbers, rows
from transformers import TrainerCallback

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, report_metrics


class Trainer(InOrder, HfMultiTaskTrainer):
    pass


def make(tmp_path: Path, train=(1, 2, 3, 4), evaluation=(10, 20), model: Toy | None = None, **changes) -> Trainer:
    eval_dataset = (
        {name: numbers(*values) for name, values in evaluation.items()}
        if isinstance(evaluation, dict)
        else numbers(*evaluation)
    )
    return Trainer(
        model or Toy(), arguments(tmp_path, **changes), train_dataset=numbers(*train), eval_dataset=eval_dataset
    )


def test_reported_metrics_stand_in_what_evaluate_returns(tmp_path) -> None:
    trainer = make(tmp_path)
    metrics = trainer.evaluate()
    assert metrics["eval_a/loss"] == 15.0
    assert "eval_runtime" in metrics
    assert rows(trainer, "eval_a/loss") == [(0, 15.0)]


def test_the_prefix_is_the_phase(tmp_path) -> None:
    assert make(tmp_path).evaluate(metric_key_prefix="dev")["dev_a/loss"] == 15.0


def test_evaluation_before_in_and_after_training_never_mixes_with_it(tmp_path) -> None:
    trainer = make(tmp_path, eval_strategy="steps", eval_steps=1, logging_steps=2, eval_on_start=True)
    before = trainer.evaluate()
    trainer.train()
    after = trainer.evaluate()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert rows(trainer, "eval_a/loss") == [(step, 15.0) for step in (0, 1, 2, 3, 4, 4)]
    assert before["eval_a/loss"] == after["eval_a/loss"] == 15.0
    assert not any("a/loss" in row and "eval_a/loss" in row for row in trainer.state.log_history)


def test_several_evaluation_sets_keep_apart(tmp_path) -> None:
    trainer = make(tmp_path, evaluation={"x": (10, 20), "y": (100,), "z w": (7,)}, eval_strategy="steps", eval_steps=4)
    trainer.train()
    metrics = trainer.evaluate()
    expected = {"eval_x_a/loss": 15.0, "eval_y_a/loss": 100.0, "eval_z w_a/loss": 7.0}
    assert {name: value for name, value in metrics.items() if name.endswith("a/loss")} == expected
    for name, value in expected.items():
        assert rows(trainer, name) == [(4, value), (4, value)]


def test_predict_returns_its_own_and_leaves_nothing_behind(tmp_path) -> None:
    trainer = make(tmp_path)
    assert trainer.predict(numbers(1000)).metrics["test_a/loss"] == 1000.0
    assert trainer.evaluate()["eval_a/loss"] == 15.0
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert trainer.predict(numbers(50, 60)).metrics["test_a/loss"] == 55.0
    assert trainer.evaluate()["eval_a/loss"] == 15.0


def test_a_broken_evaluation_leaves_nothing_behind(tmp_path) -> None:
    class Breaks(Toy):
        def forward(self, x):
            outputs = super().forward(x)
            if x.item() == 666:
                raise RuntimeError("broken")
            return outputs

    trainer = make(tmp_path, model=Breaks())
    with pytest.raises(RuntimeError, match="broken"):
        trainer.evaluate(numbers(5, 666))
    assert trainer.evaluate()["eval_a/loss"] == 15.0


def test_an_evaluation_inside_a_step_does_not_cut_the_window(tmp_path) -> None:
    class Evaluates(Trainer):
        def training_step(self, *args, **kwargs):
            self.evaluate()
            return super().training_step(*args, **kwargs)

    trainer = Evaluates(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 5), eval_dataset=numbers(10))
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 4.0)]


def test_batches_of_different_size_are_weighted_by_their_items(tmp_path) -> None:
    class PerItem(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", each=x)

    trainer = make(tmp_path, evaluation=(0, 0, 0, 0, 10), model=PerItem(), per_device_eval_batch_size=4)
    assert trainer.evaluate()["eval_a/each"] == 2.0  # a mean of batch means would be 5


def test_the_best_model_is_chosen_by_a_reported_metric(tmp_path) -> None:
    class Varies(Toy):
        errors = iter([3.0, 1.0, 2.0])

        def extra(self, x, loss):
            if not self.training:
                self.report_metrics("a", error=next(self.errors))

    trainer = make(
        tmp_path, train=(1, 2, 3), evaluation=(1,), model=Varies(), eval_strategy="steps", eval_steps=1,
        save_strategy="steps", save_steps=1, load_best_model_at_end=True, metric_for_best_model="eval_a/error",
        greater_is_better=False,
    )  # fmt: skip
    trainer.train()
    assert (trainer.state.best_metric, trainer.state.best_global_step) == (1.0, 2)
    assert trainer.state.best_model_checkpoint.endswith("checkpoint-2")


def test_only_improvements_of_a_reported_metric_are_saved_if_asked_to(tmp_path) -> None:
    class Varies(Toy):
        errors = iter([3.0, 1.0, 2.0])

        def extra(self, x, loss):
            if not self.training:
                self.report_metrics("a", error=next(self.errors))

    make(
        tmp_path, train=(1, 2, 3), evaluation=(1,), model=Varies(), eval_strategy="steps", eval_steps=1,
        save_strategy="best", metric_for_best_model="eval_a/error", greater_is_better=False,
    ).train()  # fmt: skip
    assert sorted(path.name for path in tmp_path.glob("checkpoint-*")) == ["checkpoint-1", "checkpoint-2"]


def test_a_plateau_scheduler_steps_on_a_reported_metric(tmp_path) -> None:
    trainer = make(
        tmp_path, eval_strategy="steps", eval_steps=1, lr_scheduler_type="reduce_lr_on_plateau", learning_rate=1e-9,
        metric_for_best_model="eval_a/loss",
    )  # fmt: skip
    trainer.train()
    assert trainer.lr_scheduler.best == pytest.approx(15.0, abs=1e-3)


def test_a_name_that_compute_metrics_has_taken_is_not_overwritten(tmp_path, caplog) -> None:
    class Accuracy(Toy):
        def forward(self, x, labels=None):
            self.report_metrics(acc=0.25)
            return (x.mean() * self.weight, x)

    data = [{"x": torch.tensor([1.0]), "labels": torch.tensor(1)}]
    trainer = Trainer(
        Accuracy(),
        arguments(tmp_path, label_names=["labels"]),
        eval_dataset=data,
        compute_metrics=lambda p: {"acc": 0.75},
    )
    metrics = trainer.evaluate()
    assert (metrics["eval_acc"], metrics["eval_acc.reported"]) == (0.75, 0.25)
    trainer.evaluate()
    assert caplog.text.count("'eval_acc' is logged by the trainer as well") == 1


def test_derived_metrics_stand_in_evaluations_too(tmp_path) -> None:
    registry = MetricRegistry(derived={"a/double": lambda m: 2 * m["a/loss"]})
    trainer = Trainer(Toy(), arguments(tmp_path), eval_dataset=numbers(3), metrics=registry)
    assert trainer.evaluate()["eval_a/double"] == 6.0


def test_callbacks_see_the_metrics_of_an_evaluation(tmp_path) -> None:
    from transformers import TrainerCallback

    seen = []

    class Looks(TrainerCallback):
        def on_evaluate(self, args, state, control, metrics, **kwargs):
            seen.append(metrics["eval_a/loss"])

    trainer = make(tmp_path)
    trainer.add_callback(Looks())
    trainer.evaluate()
    assert seen == [15.0]


@pytest.mark.skipif(not hasattr(HfMultiTaskTrainer, "prediction_loop"), reason="transformers 5 has no legacy loop")
def test_the_legacy_loop_of_transformers_4_is_an_evaluation_too(tmp_path) -> None:
    assert make(tmp_path, use_legacy_prediction_loop=True).evaluate()["eval_a/loss"] == 15.0


class Labelled(Toy):
    """Toy with labels, so that the Trainer calls ``compute_metrics``."""

    def forward(self, x, labels=None):
        return (*super().forward(x), x)


def labelled(*values: float) -> list[dict[str, torch.Tensor]]:
    return [{"x": torch.tensor([float(value)]), "labels": torch.tensor([1.0])} for value in values]


def test_an_evaluation_inside_an_evaluation_of_the_same_name_has_its_own_window(tmp_path) -> None:
    inner: list[float] = []

    def compute_metrics(predictions) -> dict[str, float]:
        if len(inner) % 2 == 0:
            inner.append(0.0)
            inner[-1] = trainer.evaluate(labelled(100, 300))["eval_a/loss"]
            inner.append(trainer.evaluate(labelled(7), metric_key_prefix="other")["other_a/loss"])
        return {}

    args = arguments(tmp_path, eval_strategy="steps", eval_steps=2)
    data = {"train_dataset": labelled(1, 2, 3, 4), "eval_dataset": labelled(10, 20)}
    trainer = Trainer(Labelled(), args, **data, compute_metrics=compute_metrics)
    trainer.train()
    assert rows(trainer, "eval_a/loss") == rows(trainer, "eval_loss")
    assert [value for _, value in rows(trainer, "eval_a/loss") if value == 15.0] == [15.0] * 2
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert 200.0 in inner and 7.0 in inner


def test_an_evaluation_inside_the_users_own_block_of_the_same_name_leaves_that_block_alone(tmp_path) -> None:
    class Retrieves(Trainer):
        def evaluate(self, *args, metric_key_prefix="eval", **kwargs):
            with self.report_phase(metric_key_prefix):
                report_metrics("retrieval", recall=0.25)
                return super().evaluate(*args, metric_key_prefix=metric_key_prefix, **kwargs)

    trainer = Retrieves(Toy(), arguments(tmp_path), eval_dataset=numbers(10, 20))
    assert trainer.evaluate()["eval_a/loss"] == 15.0
    assert rows(trainer, "eval_retrieval/recall") == [(0, 0.25)]


@pytest.mark.parametrize(("name", "prefix"), [("eval_gen", "eval"), ("eval", "eval"), ("probe", "probe")])
def test_a_phase_inside_of_steps_goes_on_after_an_evaluation_of_the_same_name(tmp_path, name, prefix) -> None:
    class Rolls(Trainer):
        def training_step(self, *args, **kwargs):
            with self.report_phase(name):
                report_metrics("g", n=1)
            return super().training_step(*args, **kwargs)

    class Evaluates(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            if state.global_step == 2:
                trainer.evaluate(metric_key_prefix=prefix)

    trainer = Rolls(
        Toy(), arguments(tmp_path, logging_steps=4), train_dataset=numbers(1, 2, 3, 4), eval_dataset=numbers(10),
        metrics=MetricRegistry({"*/n": "sum"}), callbacks=[Evaluates()],
    )  # fmt: skip
    trainer.train()
    assert rows(trainer, f"{name}_g/n") == [(4, 4.0)]
    assert rows(trainer, f"{prefix}_a/loss") == [(2, 10.0)]


def test_an_evaluation_leaves_alone_a_registry_that_a_loop_of_the_users_own_reports_to(tmp_path) -> None:
    registry = MetricRegistry({"*/n": "sum"})
    trainer = Trainer(Toy(), arguments(tmp_path), eval_dataset=numbers(10, 20), metrics=registry)
    with registry.activate():
        report_metrics("own", n=1)
        assert trainer.evaluate()["eval_a/loss"] == 15.0
        report_metrics("own", n=1)
    assert registry.snapshot(step=1).metrics == {"own/n": 2.0}


def test_an_evaluation_by_another_trainer_with_the_same_registry_leaves_the_training_alone(tmp_path) -> None:
    registry = MetricRegistry()
    other = Trainer(Toy(), arguments(tmp_path / "other"), eval_dataset=numbers(10, 20), metrics=registry)

    class Evaluates(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            other.evaluate()
            kwargs["model"](torch.tensor([[1000.0]]))  # does not count for the training

    trainer = Trainer(
        Toy(), arguments(tmp_path / "a"), train_dataset=numbers(1, 2, 3, 4), metrics=registry, callbacks=[Evaluates()]
    )
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]


def test_reports_of_a_block_that_raises_do_not_get_into_the_phase_of_the_steps(tmp_path) -> None:
    class Rolls(Trainer):
        def training_step(self, *args, **kwargs):
            if self.state.global_step >= 2:
                with self.report_phase("gen"):
                    report_metrics("g", n=1)
            return super().training_step(*args, **kwargs)

    class Fails(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs) -> None:
            if state.global_step in (1, 3):
                with suppress(ZeroDivisionError), trainer.report_phase("gen"):
                    report_metrics("g", n=100)
                    raise ZeroDivisionError

    trainer = Rolls(
        Toy(), arguments(tmp_path, logging_steps=4), train_dataset=numbers(1, 2, 3, 4),
        metrics=MetricRegistry({"*/n": "sum"}), callbacks=[Fails()],
    )  # fmt: skip
    trainer.train()
    assert rows(trainer, "gen_g/n") == [(4, 2.0)]


def test_the_steps_of_an_evaluation_do_not_include_those_of_an_evaluation_inside_of_it(tmp_path) -> None:
    def compute_metrics(predictions) -> dict[str, float]:
        if len(predictions.predictions) == 2:
            trainer.evaluate(labelled(7, 7, 7), metric_key_prefix="other")
        return {}

    registry = MetricRegistry({"*/n": "sum"}, derived={"a/n_per_step": lambda m: m["a/n"] / m["window.steps"]})

    class Counts(Labelled):
        def extra(self, x, loss):
            self.report_metrics("a", loss=loss, n=1)

    args = arguments(tmp_path)
    trainer = Trainer(
        Counts(), args, eval_dataset=labelled(10, 20), compute_metrics=compute_metrics, metrics=registry
    )  # fmt: skip
    assert trainer.evaluate()["eval_a/n_per_step"] == 1.0
    assert rows(trainer, "other_a/n_per_step") == [(0, 1.0)]
