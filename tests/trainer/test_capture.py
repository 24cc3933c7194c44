"""`capture=` on real models: compares the values with averages of the outputs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.tiny_models import CASES, mixtral, mixtral_items
from helpers.toy import InOrder, Silent, arguments, numbers, rows
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, MultiTaskTrainerMixin
from mtask_sinks.sinks import MemorySink


class Trainer(InOrder, HfMultiTaskTrainer):
    """Stores the model's outputs in training, independently of capture."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.outputs: list[Any] = []

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **kwargs: Any) -> Any:
        loss, outputs = super().compute_loss(model, inputs, True, **kwargs)
        if model.training:
            self.outputs.append(outputs)
        return (loss, outputs) if return_outputs else loss


def make(name: str, tmp_path: Path, samples: int = 7, model: Any = None, args: Any = None, **others: Any) -> Trainer:
    case = CASES[name]
    settings = {
        "per_device_train_batch_size": 2, "per_device_eval_batch_size": 2, "gradient_accumulation_steps": 2,
        "logging_steps": 1, "learning_rate": 1e-3, "prediction_loss_only": True, **case.arguments, **(args or {}),
    }  # fmt: skip
    return Trainer(
        model or case.make(), arguments(tmp_path, **settings), data_collator=case.collate,
        train_dataset=case.items(samples), eval_dataset=case.items(5), **others,
    )  # fmt: skip


def by_hand(name: str, model: torch.nn.Module, count: int, batch: int = 2) -> dict[str, float]:
    """Compute the mean of each part over all samples, in a plain loop over batches."""
    case, items = CASES[name], CASES[name].items(count)
    batches = [items[start : start + batch] for start in range(0, count, batch)]
    model.eval()
    with torch.no_grad():
        outputs = [model(**case.collate(part)) for part in batches]
    return weighted_means(name, outputs, [len(part) for part in batches])


def weighted_means(name: str, outputs: list[Any], sizes: list[int]) -> dict[str, float]:
    values = {key: [get(out).item() for out in outputs] for key, get in CASES[name].keys.items()}
    return {key: float(np.average(np.float64(value), weights=sizes)) for key, value in values.items()}


TRAINER_LOGS = {"loss", "grad_norm", "learning_rate", "epoch", "step"}


@pytest.mark.parametrize("name", CASES)
def test_training_logs_the_parts_of_an_unmodified_model(name: str, tmp_path) -> None:
    trainer = make(name, tmp_path, capture="*loss*")
    trainer.train()
    first, second, _summary = trainer.state.log_history
    # Seven samples in batches of two, two batches per step. The last batch has one sample.
    for row, window, sizes in ((first, trainer.outputs[:2], [2, 2]), (second, trainer.outputs[2:], [2, 1])):
        expected = weighted_means(name, window, sizes)
        assert set(row) == TRAINER_LOGS | set(expected)
        assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-6)
    assert len({round(row[key], 9) for row in (first, second) for key in expected}) > 1
    assert not trainer.model._forward_hooks


@pytest.mark.parametrize("name", CASES)
def test_evaluation_and_prediction_report_the_mean_over_samples(name: str, tmp_path) -> None:
    trainer = make(name, tmp_path, capture="*loss*")
    evaluated, predicted = trainer.evaluate(), trainer.predict(CASES[name].items(3)).metrics
    for metrics, prefix, count in ((evaluated, "eval", 5), (predicted, "test", 3)):
        expected = {f"{prefix}_{key}": value for key, value in by_hand(name, trainer.model, count).items()}
        assert {key: metrics[key] for key in expected} == pytest.approx(expected, rel=1e-6)
        budget = {f"{prefix}_{key}": weight for key, weight in CASES[name].budget.items()}
        if budget:
            total = sum(weight * metrics[key] for key, weight in budget.items())
            assert metrics[f"{prefix}_loss"] == pytest.approx(total, rel=1e-5)
    assert not trainer.model._forward_hooks


def test_evaluation_inside_a_training_does_not_mix_with_it(tmp_path) -> None:
    trainer = make("mixtral", tmp_path, args={"eval_strategy": "steps", "eval_steps": 1}, capture="aux_loss")
    trainer.train()
    history = trainer.state.log_history
    assert [(row["step"], "aux_loss" in row, "eval_aux_loss" in row) for row in history[:-1]] == [
        (1, True, False), (1, False, True), (2, True, False), (2, False, True),
    ]  # fmt: skip
    windows = (trainer.outputs[:2], [2, 2]), (trainer.outputs[2:], [2, 1])
    expected = [weighted_means("mixtral", *window)["aux_loss"] for window in windows]
    assert [value for _, value in rows(trainer, "aux_loss")] == pytest.approx(expected, rel=1e-6)
    assert rows(trainer, "eval_aux_loss")[1][1] == pytest.approx(by_hand("mixtral", trainer.model, 5)["aux_loss"])


def test_nothing_is_captured_unless_it_is_asked_for(tmp_path) -> None:
    trainer = make("detr", tmp_path)
    metrics = trainer.evaluate()
    trainer.train()
    assert not [key for key in {*metrics, *trainer.state.log_history[1]} if "loss_dict" in key]


def test_only_what_is_asked_for_is_captured(tmp_path) -> None:
    trainer = make("detr", tmp_path, capture=["loss_giou", "*/card*"])
    trainer.train()
    row = trainer.state.log_history[0]
    assert set(row) - TRAINER_LOGS == {"loss_dict/loss_giou", "loss_dict/cardinality_error"}


def test_a_mapping_names_the_task_for_the_backends(tmp_path) -> None:
    sink = MemorySink()
    trainer = make("detr", tmp_path, samples=2, capture={"loss_dict": "detr"}, sinks=[sink])
    trainer.train()
    values = trainer.outputs[0].loss_dict
    assert dict(sink.snapshots[0].by_task()["detr"]) == pytest.approx({name: v.item() for name, v in values.items()})


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_gradient_checkpointing_counts_each_forward_once(tmp_path, use_reentrant: bool) -> None:
    trainer = make("mixtral", tmp_path, capture="aux_loss", metrics=MetricRegistry(reducers={"aux_loss": "count"}))
    trainer.model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    trainer.train()
    assert [value for _, value in rows(trainer, "aux_loss")] == [2.0, 2.0]


def test_a_model_on_torch_compile_logs_the_same(tmp_path, monkeypatch) -> None:
    # TrainingArguments sets this variable for accelerate. Later tests would see it, so let monkeypatch restore it.
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "no")

    class Parts(Silent):
        def forward(self, x):
            (loss,) = super().forward(x)
            return {"loss": loss + 1, "x_loss": loss}

    args = arguments(tmp_path, torch_compile=True, torch_compile_backend="eager")
    trainer = Trainer(Parts(), args, train_dataset=numbers(1, 2, 3, 5), eval_dataset=numbers(7), capture="x_loss")
    trainer.train()
    assert isinstance(trainer.model_wrapped, torch._dynamo.OptimizedModule)
    assert rows(trainer, "x_loss") == [(2, 1.5), (4, 4.0)]
    assert trainer.evaluate()["eval_x_loss"] == 7.0


@pytest.mark.parametrize("settings", [{}, {"use_cache": False}, {"num_beams": 2, "use_cache": False}])
def test_tokens_of_a_generation_do_not_count(tmp_path, settings: dict[str, Any]) -> None:
    class Generates(Trainer):
        def prediction_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            length = {"max_length": 11, "min_length": 11, "pad_token_id": 0}
            sample = self.model.generate(inputs["input_ids"][:1], **length, **settings)
            assert sample.shape == (1, 11)
            return super().prediction_step(model, inputs, *args, **kwargs)

    registry = MetricRegistry(reducers={"aux_loss": "count"})
    args = arguments(tmp_path, per_device_eval_batch_size=2, prediction_loss_only=True)
    trainer = Generates(mixtral(), args, eval_dataset=mixtral_items(4), capture="aux_loss", metrics=registry)
    assert trainer.evaluate()["eval_aux_loss"] == 2.0


def test_what_a_seq2seq_evaluation_generates_does_not_count(tmp_path) -> None:
    class Mixed(MultiTaskTrainerMixin, Seq2SeqTrainer):
        pass

    generation = {"predict_with_generate": True, "generation_max_length": 12}
    args = Seq2SeqTrainingArguments(
        str(tmp_path), per_device_eval_batch_size=2, report_to="none", disable_tqdm=True, use_cpu=True, **generation
    )
    model = mixtral()
    model.generation_config.pad_token_id = 0
    trainer = Mixed(model, args, eval_dataset=mixtral_items(4), capture="aux_loss")
    expected = by_hand("mixtral", model, 4, 2)["aux_loss"]
    assert trainer.evaluate()["eval_aux_loss"] == pytest.approx(expected)


def test_a_part_that_the_model_does_not_compute_is_said_and_stops_nothing(tmp_path, caplog) -> None:
    trainer = make("mixtral", tmp_path, capture="*loss*", model=mixtral(output_router_logits=False))
    with caplog.at_level(logging.WARNING, "mtask_sinks.reporting.capture"):
        trainer.train()
    (message,) = [record.getMessage() for record in caplog.records if record.name == "mtask_sinks.reporting.capture"]
    assert "capture='*loss*' matches no number" in message
    assert "aux_loss=None" in message
    assert set(trainer.state.log_history[0]) == TRAINER_LOGS


def test_a_pattern_of_no_type_that_is_taken_is_refused_when_the_trainer_is_made(tmp_path) -> None:
    with pytest.raises(TypeError, match="capture=5"):
        Trainer(Silent(), arguments(tmp_path), train_dataset=numbers(1), capture=5)


def test_another_trainer_class_with_the_mixin_captures_as_well(tmp_path) -> None:
    class Mixed(MultiTaskTrainerMixin, Seq2SeqTrainer):
        pass

    args = Seq2SeqTrainingArguments(str(tmp_path), report_to="none", disable_tqdm=True, use_cpu=True)
    trainer = Mixed(mixtral(), args, eval_dataset=mixtral_items(5), capture="aux_loss")
    assert trainer.evaluate()["eval_aux_loss"] == pytest.approx(by_hand("mixtral", trainer.model, 5, 8)["aux_loss"])
