"""Reports of a model under replicas in threads, PEFT, autocast and exceptions, and in windows of a thousand reports."""

from __future__ import annotations

import gc
import os
import threading
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.toy import InOrder, Toy, arguments, numbers, rows
from helpers.watched import watched
from torch import nn

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, report_metrics, weighted
from mtask_sinks.reporting.binding import bound
from mtask_sinks.reporting.modules_beside import modules_around


class Trainer(InOrder, HfMultiTaskTrainer):
    pass


def test_replicas_of_data_parallel_report_from_their_threads() -> None:
    """`nn.DataParallel` needs two GPUs. This test does the same: shallow replicas, with one thread each."""

    class Replicated(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", loss=loss, n=1)
            report_metrics("b", loss=loss)

    model, registry, failures = Replicated(), MetricRegistry(reducers={"a/n": "sum"}), []
    with registry.activate(), bound(model, registry):
        replicas = [model._replicate_for_data_parallel() for _ in range(4)]
        for replica in replicas:
            replica.weight = model.weight  # `replicate` copies this to each device
        start = threading.Barrier(len(replicas), timeout=60)

        def run(replica: nn.Module, value: float) -> None:
            try:
                start.wait()
                for _ in range(500):
                    replica(torch.tensor([value]))
            except Exception as error:
                failures.append(error)

        threads = [
            threading.Thread(target=run, args=(replica, float(number))) for number, replica in enumerate(replicas)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    snapshot = registry.snapshot(step=1)
    assert failures == []
    assert dict(snapshot.metrics) == {"a/loss": 1.5, "a/n": 2000.0, "b/loss": 1.5}
    assert snapshot.counts == {"a/loss": 2000, "a/n": 2000, "b/loss": 2000}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_values_computed_under_autocast_are_averaged_in_full_precision(dtype: torch.dtype) -> None:
    model, registry = nn.Linear(1, 1, bias=False), MetricRegistry()
    nn.init.ones_(model.weight)
    values = 1 + np.arange(64) / 64
    for value in values:
        with torch.autocast("cpu", dtype=dtype):
            out = model(torch.tensor([[value]], dtype=torch.float32))
            registry.report_metrics(out=out, mean=out.mean(), pair=weighted(out.mean(), 3))
        assert out.dtype == dtype
    # Each value is exact in both types. Their sum, in 8 or 11 bits, would not be.
    assert dict(registry.snapshot(step=1).metrics) == dict.fromkeys(["out", "mean", "pair"], values.mean())


def test_a_training_in_bf16_logs_the_means_of_its_values(tmp_path: Path) -> None:
    class Linear(Toy):
        def forward(self, x):
            out = nn.functional.linear(x, self.weight.reshape(1, 1))
            self.report_metrics("a", loss=out.mean())
            assert out.dtype == torch.bfloat16
            return (out.float().mean(),)

    values = [1.0, 1.0078125, 1.0, 1.0078125]
    trainer = Trainer(Linear(), arguments(tmp_path, bf16=True, logging_steps=4), train_dataset=numbers(*values))
    trainer.train()
    assert rows(trainer, "a/loss") == [(4, np.mean(values))]


def test_after_an_exception_in_mid_forward_training_goes_on_with_right_values(tmp_path: Path) -> None:
    class Fragile(Toy):
        failed = False

        def extra(self, x, loss):
            self.report_metrics("a", before=loss)
            if x.item() == 3 and not self.failed:
                self.failed = True
                raise ArithmeticError("in mid-forward")
            self.report_metrics("a", after=loss)

    model = Fragile()
    trainer = Trainer(model, arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4))
    with pytest.raises(ArithmeticError):
        trainer.train()
    assert not hasattr(model, "report_metrics")
    report_metrics("a", before=1000.0)
    trainer.state.log_history.clear()
    trainer.train()
    assert rows(trainer, "a/before") == rows(trainer, "a/after") == [(2, 1.5), (4, 3.5)]


def test_a_trainer_that_survives_a_failing_forward_counts_what_was_reported(tmp_path: Path) -> None:
    class Fragile(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", before=loss)
            if x.item() == 2:
                raise ArithmeticError("in mid-forward")
            self.report_metrics("a", after=loss)

    class Skips(Trainer):
        def training_step(self, model, inputs, *args, **kwargs):
            try:
                return super().training_step(model, inputs, *args, **kwargs)
            except ArithmeticError:
                return torch.zeros(())

    trainer = Skips(Fragile(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4))
    trainer.train()
    assert rows(trainer, "a/before") == [(2, 1.5), (4, 3.5)]
    assert rows(trainer, "a/after") == [(2, 1.0), (4, 3.5)]


@pytest.mark.parametrize("gradient_checkpointing", [False, True])
def test_a_model_wrapped_by_peft_reports(tmp_path: Path, gradient_checkpointing: bool) -> None:
    peft = pytest.importorskip("peft")
    from transformers import BertConfig, BertForMaskedLM

    class Model(BertForMaskedLM):
        supports_report_metrics = True

        def forward(self, input_ids=None, labels=None, **inputs):
            inputs.pop("num_items_in_batch", None)  # transformers 4 passes it to every forward with **kwargs
            out = super().forward(input_ids=input_ids, labels=labels, **inputs)
            if hasattr(self, "report_metrics"):
                self.report_metrics("mlm", loss=out.loss, n=1)
                losses.append(out.loss.item())
            return out

    losses: list[float] = []
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    model = Model(BertConfig(vocab_size=20, max_position_embeddings=8, **sizes))
    for layer in model.bert.encoder.layer:
        layer.output.register_forward_hook(lambda *_: report_metrics("layer", n=1))
    model = peft.get_peft_model(model, peft.LoraConfig(target_modules=["query", "value"], r=2))
    data = [{"input_ids": torch.arange(8), "labels": torch.arange(8)} for _ in range(4)]
    args = arguments(
        tmp_path,
        learning_rate=1e-2,
        gradient_checkpointing=gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},  # with an adapter, the embeddings have no gradient
    )
    registry = MetricRegistry(reducers={"*/n": "sum"})
    trainer = Trainer(model, args, train_dataset=data, metrics=registry)
    trainer.train()
    assert rows(trainer, "mlm/loss") == [(2, np.mean(losses[:2])), (4, np.mean(losses[2:]))]
    assert rows(trainer, "mlm/n") == [(2, 2.0), (4, 2.0)]
    assert rows(trainer, "layer/n") == [(2, 4.0), (4, 4.0)]
    assert not hasattr(model.base_model.model, "report_metrics")


def test_a_window_of_a_thousand_reports_holds_no_graph_and_no_storage() -> None:
    registry = MetricRegistry(reducers={"sum": "sum"})
    held = []
    for _ in range(1000):
        logits, is_held = watched(200, 50)
        loss = (logits * 2).mean()
        registry.report_metrics(view=logits[0, 0], row=logits[0], loss=loss, sum=logits.sum())
        held.append(is_held)
        del logits, loss
    assert not any(is_held() for is_held in held)
    assert set(registry.snapshot(step=1).counts.values()) == {1000}


def test_the_memory_of_a_window_does_not_grow_with_what_is_reported() -> None:
    registry, storage = MetricRegistry(), torch.zeros(1 << 20)
    storage.requires_grad_()

    def report(times: int) -> None:
        for _ in range(times):
            big = storage * 2  # 4 MiB and a graph
            registry.report_metrics(view=big[0], loss=big.mean(), row=big[:8])

    report(50)
    gc.collect()
    before = resident()
    report(1000)  # would be 4 GB if all were kept
    gc.collect()
    assert resident() - before < 1e9  # a thread of an earlier test may import MLflow meanwhile
    assert registry.snapshot(step=1).counts["loss"] == 1050


def resident() -> float:
    """Return the memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))


@pytest.mark.parametrize("function_of", [lambda loss: loss, lambda loss: partial(loss.forward, None)])
def test_a_module_that_computes_the_loss_reports_also_behind_a_partial_function(function_of) -> None:
    model, loss = nn.Linear(1, 1), nn.Linear(1, 1)
    trainer: Any = SimpleNamespace(model=model, teacher=nn.Linear(1, 1), compute_loss_func=function_of(loss))
    assert modules_around(trainer) == [loss]
