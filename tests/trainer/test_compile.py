"""A training with compiled code and gradient checkpointing logs the same as one without them."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.toy import InOrder, arguments
from torch import nn
from torch._dynamo.utils import counters
from torch.utils.checkpoint import checkpoint
from transformers import BertConfig, BertForMaskedLM

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, report_metrics, weighted

REDUCERS = ["count", "sum", "mean", "std", "min", "max", "first", "last", "median"]


class Trainer(InOrder, HfMultiTaskTrainer):
    pass


class Reporting(nn.Module):
    """Wraps a part of a checkpointed layer, and reports its output for each reducer."""

    supports_report_metrics = True

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.inner(x)
        if hasattr(self, "report_metrics"):
            metrics = {reducer: x.mean() for reducer in REDUCERS}
            self.report_metrics("layer", **metrics, each=x[0, 0], n=len(x))
        return x


class Model(BertForMaskedLM):
    def __init__(self, reports: bool = True) -> None:
        sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
        dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        torch.manual_seed(0)
        super().__init__(BertConfig(vocab_size=20, max_position_embeddings=8, **sizes, **dropout))
        self.reports = reports
        for layer in self.bert.encoder.layer:
            layer.intermediate = Reporting(layer.intermediate) if reports else layer.intermediate

    def forward(self, input_ids: torch.Tensor, labels: torch.Tensor):
        out = super().forward(input_ids=input_ids, labels=labels)
        if self.reports:
            report_metrics("mlm", loss=weighted(out.loss, (labels != -100).sum()))
        return out


def logs(model: nn.Module, tmp_path, **changes) -> list[dict[str, float]]:
    data = [{"input_ids": (torch.arange(8) * i) % 20, "labels": torch.arange(8)} for i in range(1, 13)]
    for item in data[::2]:
        item["labels"] = torch.where(torch.arange(8) < 5, item["labels"], -100)
    registry = MetricRegistry(reducers={f"layer/{name}": name for name in REDUCERS} | {"layer/n": "sum"})
    args = arguments(
        tmp_path,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=2,
        gradient_accumulation_steps=2,
        eval_strategy="steps",
        eval_steps=3,
        logging_steps=1,
        learning_rate=1e-3,
        **changes,
    )
    trainer = Trainer(model, args, train_dataset=data, eval_dataset=data[:4], metrics=registry)
    trainer.train()
    return trainer.state.log_history


def reported(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    found = [{key: value for key, value in row.items() if "/" in key or key == "step"} for row in rows]
    return [row for row in found if len(row) > 1]


def checkpointing(use_reentrant: bool) -> dict[str, object]:
    return {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": use_reentrant}}


@pytest.fixture(scope="module")
def eager(tmp_path_factory) -> list[dict[str, float]]:
    return reported(logs(Model(), tmp_path_factory.mktemp("eager")))


pytestmark = pytest.mark.usefixtures("fresh_compiler")


def test_the_eager_run_logs_each_layer_of_each_micro_batch_once(eager) -> None:
    train = [row for row in eager if "layer/count" in row]
    assert [row["step"] for row in train] == [1, 2, 3]
    assert [row["layer/count"] for row in train] == [4.0] * 3  # two layers, two micro-batches
    assert [row["layer/n"] for row in train] == [8.0] * 3
    assert [row["eval_layer/count"] for row in eager if "eval_layer/count" in row] == [4.0]
    for row in train:
        assert row["layer/sum"] == pytest.approx(4 * row["layer/mean"])
        assert row["layer/min"] < row["layer/median"] < row["layer/max"]
        assert {row["layer/first"], row["layer/last"]} < {row["layer/first"], row["layer/last"], row["layer/mean"]}


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpointed_training_logs_the_same(tmp_path, eager, use_reentrant: bool) -> None:
    assert_same(reported(logs(Model(), tmp_path, **checkpointing(use_reentrant))), eager)


def test_a_compiled_training_logs_the_same(tmp_path, eager) -> None:
    rows = logs(Model(), tmp_path, torch_compile=True, torch_compile_backend="aot_eager")
    assert_same(reported(rows), eager)


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_compiled_and_checkpointed_training_logs_the_same_with_as_many_graphs(tmp_path, eager, use_reentrant) -> None:
    found = []
    for model in (Model(reports=False), Model()):
        torch.compiler.reset()
        counters.clear()
        how = checkpointing(use_reentrant)
        rows = logs(model, tmp_path, torch_compile=True, torch_compile_backend="aot_eager", **how)
        found.append((dict(counters["graph_break"]), counters["stats"]["unique_graphs"]))
    assert_same(reported(rows), eager)
    silent, reporting = found
    assert reporting == silent
    assert silent[1] > 0


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_training_compiled_by_inductor_logs_the_same(tmp_path, use_reentrant: bool) -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.kwargs = Reporting(nn.Linear(8, 8)), None

        def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs=None, **_) -> None:
            self.kwargs = gradient_checkpointing_kwargs

        def forward(self, input_ids: torch.Tensor, labels: torch.Tensor):
            x = (input_ids * self.linear.inner.weight[:1]).unsqueeze(1)
            x = checkpoint(self.linear, x, **self.kwargs) if self.kwargs else self.linear(x)
            loss = x.tanh().mean()
            report_metrics("mlm", loss=weighted(loss, (labels != -100).sum()))
            return {"loss": loss, "logits": x}

    torch.manual_seed(0)
    first = Small()
    expected = reported(logs(copy.deepcopy(first), tmp_path))
    inductor = {"torch_compile": True, "torch_compile_backend": "inductor"}
    rows = logs(first, tmp_path, **inductor, **checkpointing(use_reentrant))
    assert len(expected) == 5  # four windows, and the whole training
    assert_same(reported(rows), expected)
    assert not counters["graph_break"]


def assert_same(found: list[dict[str, float]], expected: list[dict[str, float]]) -> None:
    assert found == [pytest.approx(row, rel=2e-4, abs=1e-7) for row in expected]
