"""Trainer classes that override methods, below and above the mixin: both their code and ours takes effect."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

import pytest
import torch
from helpers.toy import InOrder, Silent, Toy, arguments, numbers, points, rows
from transformers import Trainer

from mtask_sinks import HfMultiTaskTrainer, MultiTaskTrainerMixin, report_metrics
from mtask_sinks.sinks import MemorySink


class Overrides:
    """Overrides the methods that users override. Each leaves a trace and calls the next class."""

    seen: dict[str, int]

    def _note(self, name: str) -> None:
        self.seen = getattr(self, "seen", None) or defaultdict(int)
        self.seen[name] += 1

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        self._note("compute_loss")
        loss, outputs = super().compute_loss(model, inputs, True, **kwargs)  # type: ignore[misc]
        report_metrics("theirs", twice=2 * loss)
        return (3 * loss, outputs) if return_outputs else 3 * loss

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        self._note("training_step")
        report_metrics("steps", n=10)
        return super().training_step(*args, **kwargs)  # type: ignore[misc]

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        self._note("prediction_step")
        loss, logits, labels = super().prediction_step(*args, **kwargs)  # type: ignore[misc]
        return loss + 100, logits, labels

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self._note("evaluate")
        metrics = super().evaluate(*args, **kwargs)  # type: ignore[misc]
        return {**metrics, "eval_mine": 7.0}

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        self._note("log")
        super().log({**logs, "stamp": 1.0}, *args, **kwargs)  # type: ignore[misc]


class Plain(InOrder, Overrides, Trainer):
    pass


class Below(MultiTaskTrainerMixin, Plain):
    pass


class Above(InOrder, Overrides, HfMultiTaskTrainer):
    pass


def trained(cls: type[Trainer], model: Toy, tmp_path, **extra: Any) -> Any:
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=2, label_names=["x"])
    trainer = cls(model, args, train_dataset=numbers(1, 2, 3, 5, 9), eval_dataset=numbers(10, 30), **extra)
    trainer.train()
    return trainer


def without_clock(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if "runtime" not in name and "per_second" not in name}


@pytest.mark.parametrize("cls", [Below, Above])
def test_every_override_does_what_it_does_without_us(cls, tmp_path) -> None:
    plain, ours = trained(Plain, Silent(), tmp_path / "plain"), trained(cls, Toy(), tmp_path / "ours")

    def theirs(trainer: Any) -> list[dict[str, Any]]:
        kept = [{n: v for n, v in without_clock(row).items() if "/" not in n} for row in trainer.state.log_history]
        return [row for row in kept if set(row) - {"epoch", "step"}]

    assert ours.seen == plain.seen
    assert set(plain.seen) == {"compute_loss", "training_step", "prediction_step", "evaluate", "log"}
    assert theirs(ours) == theirs(plain)
    assert theirs(ours)[0]["stamp"] == 1.0
    evaluated = {name: value for name, value in without_clock(ours.evaluate()).items() if "/" not in name}
    assert evaluated == without_clock(plain.evaluate())
    assert (evaluated["eval_mine"], evaluated["eval_loss"]) == (7.0, 160.0)


@pytest.mark.parametrize("cls", [Below, Above])
def test_what_is_reported_in_and_under_the_overrides_is_logged(cls, tmp_path) -> None:
    trainer = trained(cls, Toy(), tmp_path)
    assert points(trainer, "a/loss") == [(2, 1.5), (4, 4.0), (5, 9.0)]
    assert points(trainer, "theirs/twice") == [(2, 3.0), (4, 8.0), (5, 18.0)]
    assert points(trainer, "steps/n") == [(2, 10.0), (4, 10.0), (5, 10.0)]
    for name, value in (("eval_a/loss", 20.0), ("eval_theirs/twice", 40.0)):
        assert {found for _, found in rows(trainer, name)} == {value}
        assert trainer.evaluate()[name] == value
    assert trainer.predict(numbers(4)).metrics["test_theirs/twice"] == 8.0


class Averages(InOrder, Trainer):
    """Computes its own averages and adds them in `log`, as TRL's trainers do."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._own: list[float] = []

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        self._own.append(inputs["x"].item())
        return super().compute_loss(model, inputs, return_outputs, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if self._own:
            logs["own/mean"] = sum(self._own) / len(self._own)
        super().log(logs, *args, **kwargs)
        self._own.clear()


class AveragesAndReports(MultiTaskTrainerMixin, Averages):
    pass


def test_averages_of_a_trainers_own_stay_in_the_row_they_were_in(tmp_path) -> None:
    def own(trainer: Any) -> list[dict[str, Any]]:
        return [without_clock(row) for row in trainer.state.log_history if "own/mean" in row]

    args = {"train_dataset": numbers(1, 2, 3, 5, 9)}
    plain = Averages(Silent(), arguments(tmp_path), **args)
    ours = AveragesAndReports(Toy(), arguments(tmp_path), **args)
    plain.train()
    ours.train()
    assert points(ours, "a/loss") == [(2, 1.5), (4, 4.0), (5, 9.0)]
    assert [(row["step"], row["own/mean"]) for row in own(plain)] == [(2, 1.5), (4, 4.0), (5, 9.0)]
    assert [{n: v for n, v in row.items() if not n.endswith("a/loss")} for row in own(ours)] == own(plain)
    assert "train_loss" in own(ours)[-1]


def test_sinks_get_a_trainers_own_averages_among_its_logs(tmp_path) -> None:
    sink = MemorySink()
    trainer = AveragesAndReports(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2, 3), sinks=[sink])
    trainer.train()
    found = [(s.step, dict(s.metrics), s.logs.get("own/mean")) for s in sink.snapshots]
    assert found == [(2, {"a/loss": 1.5}, 1.5), (3, {"a/loss": 3.0}, None), (3, {"a/loss": 2.0}, 3.0)]


def test_a_loop_of_the_users_own_inside_evaluate_counts_for_no_training(tmp_path) -> None:
    class Generates(InOrder, HfMultiTaskTrainer):
        def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
            metrics = super().evaluate(*args, **kwargs)
            with torch.no_grad(), self.metric_registry.phase("samples"):
                self.model(torch.tensor([1000.0]))
            return metrics

    trainer = trained(Generates, Toy(), tmp_path)
    assert points(trainer, "a/loss") == [(2, 1.5), (4, 4.0), (5, 9.0)]


class Wraps(torch.nn.Module):
    """A loss module around the model, as in sentence-transformers."""

    supports_report_metrics = True

    def __init__(self, model: torch.nn.Module, task: str = "wrap") -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (loss,) = self.model(x)
        self.report_metrics(self.task, loss=4 * loss)
        return loss


class HoldsLosses(InOrder, HfMultiTaskTrainer):
    """Holds its own loss modules, and a reference model of the same class as the model."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.loss = {"odd": Wraps(self.model, "odd"), "even": Wraps(self.model, "even")}
        self.reference = Toy()

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        with torch.no_grad():
            self.reference(-inputs["x"])
        loss = self.loss["odd" if inputs["x"].item() % 2 else "even"](**inputs)
        return (loss, ()) if return_outputs else loss


def test_flagged_losses_that_wrap_the_model_report_and_a_reference_model_does_not(tmp_path) -> None:
    trainer = trained(HoldsLosses, Toy(), tmp_path)
    assert points(trainer, "odd/loss") == [(2, 4.0), (4, 16.0), (5, 36.0)]
    assert points(trainer, "even/loss") == [(2, 8.0)]
    assert points(trainer, "a/loss") == [(2, 1.5), (4, 4.0), (5, 9.0)]
    assert trainer.evaluate()["eval_even/loss"] == 80.0
    assert not any(hasattr(loss, "report_metrics") for loss in trainer.loss.values())


class Function(torch.nn.Module):
    """Computes the loss from the outputs of the model."""

    supports_report_metrics = True

    def forward(self, outputs: Any, labels: Any, num_items_in_batch: Any = None, factor: float = 5.0) -> torch.Tensor:
        if hasattr(self, "report_metrics"):
            self.report_metrics("function", loss=factor * outputs[0])
        return outputs[0]


@pytest.mark.parametrize(
    ("function", "expected"),
    [(Function(), 10.0), (Function().forward, 10.0), (partial(partial(Function()), factor=3.0), 6.0)],
)
def test_a_flagged_compute_loss_func_reports(tmp_path, function, expected) -> None:
    trainer = HfMultiTaskTrainer(Toy(), arguments(tmp_path), train_dataset=numbers(2, 2), compute_loss_func=function)
    trainer.train()
    assert rows(trainer, "function/loss") == [(2, expected)]


def test_a_mixin_after_the_trainer_class_is_refused_with_the_right_order() -> None:
    with pytest.raises(TypeError, match=r"Put it first: class Mine\(MultiTaskTrainerMixin, Trainer\)"):

        class Mine(Trainer, MultiTaskTrainerMixin):
            pass


def test_a_class_with_the_mixin_after_the_trainer_class_is_refused_with_an_order_that_works() -> None:
    class Mixed(MultiTaskTrainerMixin):
        pass

    class Logs:
        pass

    with pytest.raises(TypeError, match=r"Put it first: class Mine\(Mixed, Logs, Trainer\)"):
        type("Mine", (Logs, Trainer, Mixed), {})
    type("Mine", (Mixed, Logs, Trainer), {})


def test_a_trainer_class_of_ones_own_may_come_before_ours() -> None:
    class Own(Trainer):
        pass

    class Mine(Own, HfMultiTaskTrainer):
        pass

    assert Mine.__mro__.index(MultiTaskTrainerMixin) < Mine.__mro__.index(Trainer)
