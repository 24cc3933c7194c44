"""Whole trainings on a GPU: precision, gradient checkpointing, synchronisations, NCCL."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers.gpu import counting_waits
from helpers.toy import InOrder, rows
from torch import nn
from transformers import BertConfig, BertForMaskedLM, Trainer, TrainingArguments

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, weighted
from mtask_sinks.distributed.collectives import TorchRanks

STEPS, BATCH = 12, 4


class Bert(nn.Module):
    """A small BERT with two tasks. It also stores copies of the values that it reports."""

    supports_report_metrics = True

    def __init__(self, reports: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=100,
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=128,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.bert = BertForMaskedLM(config)
        self.reports = reports
        self.kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def gradient_checkpointing_enable(self, **settings: Any) -> None:
        self.bert.gradient_checkpointing_enable(**settings)

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor]:
        out = self.bert(input_ids=input_ids, labels=labels)
        aux = out.logits.square().mean()
        if self.reports:
            self.kept.append((out.loss.detach().clone(), aux.detach().clone()))
            self.report_metrics("mlm", loss=weighted(out.loss, (labels >= 0).sum()), n=(labels >= 0).sum())
            self.report_metrics("aux", z=aux, half=aux.half())
        return (out.loss + 1e-3 * aux,)


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


class Plain(InOrder, Trainer):
    pass


def data() -> list[dict[str, torch.Tensor]]:
    drawn = np.random.default_rng(0).integers(0, 100, size=(STEPS * BATCH, 16))
    return [{"input_ids": torch.tensor(ids), "labels": torch.tensor(ids)} for ids in drawn]


def settings(tmp_path: Path, **changes: Any) -> TrainingArguments:
    return TrainingArguments(
        str(tmp_path), max_steps=STEPS, logging_steps=4, per_device_train_batch_size=BATCH, report_to="none",
        save_strategy="no", disable_tqdm=True, seed=0, dataloader_pin_memory=False, **changes,
    )  # fmt: skip


@pytest.mark.parametrize("precision", [{}, {"bf16": True}, {"fp16": True}], ids=["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_each_window_is_what_the_same_tensors_read_by_item_give(tmp_path, precision, checkpointing) -> None:
    model = Bert()
    args = settings(tmp_path, gradient_checkpointing=checkpointing, **precision)
    registry = MetricRegistry({"*/n": "sum"})
    trainer = Ordered(model, args, train_dataset=data(), metrics=registry)
    trainer.train()
    assert len(model.kept) == STEPS  # checkpointing recomputes layers, not this forward
    losses, aux = (np.array([pair[i].item() for pair in model.kept], dtype=np.float64) for i in (0, 1))
    windows = [slice(0, 4), slice(4, 8), slice(8, 12)]
    for window, (step, loss), (_, z), (_, n) in zip(
        windows, rows(trainer, "mlm/loss"), rows(trainer, "aux/z"), rows(trainer, "mlm/n"), strict=True
    ):
        assert step == window.stop
        assert loss == pytest.approx(losses[window].mean(), rel=1e-12)
        assert z == pytest.approx(aux[window].mean(), rel=1e-12)
        assert n == 4 * BATCH * 16


def test_a_training_waits_as_often_as_a_plain_one_but_for_one_copy_per_log_event(tmp_path) -> None:
    waits = {}
    for name, make in {"plain": Plain, "ours": Ordered}.items():
        for turn in ("warm", "counted"):  # the first training compiles and allocates, so do not count it
            trainer = make(Bert(reports=name == "ours"), settings(tmp_path / name / turn), train_dataset=data())
            trainer.model.kept = _Nothing()
            with counting_waits() as found:
                trainer.train()
        waits[name] = len(found)
    log_events = STEPS // 4
    assert waits["plain"] <= waits["ours"] <= waits["plain"] + log_events, waits


class _Nothing(list):
    def append(self, item: object) -> None:
        pass


def test_reported_values_change_nothing_of_the_training(tmp_path) -> None:
    weights = {}
    for name, make in {"plain": Plain, "ours": Ordered}.items():
        trainer = make(Bert(reports=name == "ours"), settings(tmp_path / name), train_dataset=data())
        trainer.train()
        weights[name] = [parameter.detach().cpu() for parameter in trainer.model.parameters()]
    for one, other in zip(weights["plain"], weights["ours"], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_a_trainer_that_compiles_logs_what_an_eager_one_does(tmp_path) -> None:
    found = {}
    for compiles in (False, True):
        torch.compiler.reset()
        trainer = Ordered(Bert(), settings(tmp_path / str(compiles), torch_compile=compiles), train_dataset=data())
        trainer.model.kept = _Nothing()
        trainer.train()
        found[compiles] = [value for _, value in rows(trainer, "mlm/loss") + rows(trainer, "aux/z")]
    assert found[True] == pytest.approx(found[False], rel=1e-3)


def test_evaluation_on_the_gpu_is_exact(tmp_path) -> None:
    model = Bert()
    trainer = Ordered(model, settings(tmp_path, per_device_eval_batch_size=5), eval_dataset=data()[:13])
    metrics = trainer.evaluate()
    losses = np.array([loss.item() for loss, _ in model.kept], dtype=np.float64)
    assert len(losses) == 3
    assert metrics["eval_mlm/loss"] == pytest.approx(np.average(losses, weights=[5 * 16, 5 * 16, 3 * 16]), rel=1e-12)


def test_our_collectives_on_nccl_with_one_rank() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", WORLD_SIZE="1")
    dist.init_process_group("nccl", device_id=torch.device("cuda:0"))
    try:
        ranks = TorchRanks()
        vector = np.array([1.5, -2.0, 1e300, 2.0**53 + 2])
        assert ranks.total(vector).tolist() == ranks.maximum(vector).tolist() == vector.tolist()
        assert [each.tolist() for each in ranks.gather(vector)] == [vector.tolist()]
        assert ranks.gather_objects({"a": 1}) == [{"a": 1}]
        assert (ranks.rank, ranks.size) == (0, 1)
        registry = MetricRegistry({"a/p": "median", "a/last": "last", "a/max": "max"}, spread="a/x")
        for number in range(5):
            value = torch.tensor(float(number)).cuda()
            registry.report_metrics("a", x=value, p=value, last=value, max=value)
            registry.tick()
        states = registry._intake.drain("train")
        merged, spreads = registry._merger.merge("train", states, registry._key_table.reducers, ranks)
        found = {key: state if isinstance(state, tuple) else state.compute() for key, state in merged.items()}
        assert found == {"a/x": 2.0, "a/p": 2.0, "a/last": 4.0, "a/max": 4.0}
        assert spreads["a/x"] == (2.0, 2.0)
    finally:
        dist.barrier()
        dist.destroy_process_group()
