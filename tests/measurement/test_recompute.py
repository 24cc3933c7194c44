"""Reports in a checkpointed segment count once, in every mode and for every kind of recompute."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    checkpoint_sequential,
    create_selective_checkpoint_contexts,
)

from mtask_sinks import MetricRegistry, report_metrics, weighted


class Block(nn.Module):
    """Reports at its start, in its middle and at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        report_metrics("start", n=1.0, x=x.detach().mean())
        x = torch.tanh(self.linear(x))
        report_metrics("middle", n=1.0)
        x = torch.relu(x * 2)
        report_metrics("end", n=1.0)
        return x


def counts(run) -> dict[str, float]:
    """Run three steps of forward and backward, and return the sums of ``n``."""
    registry = MetricRegistry(reducers={"*/n": "sum"})
    with registry.activate():
        for _ in range(3):
            run(torch.randn(2, 4, requires_grad=True)).sum().backward()
    return {key: value for key, value in registry.snapshot(step=1).metrics.items() if key.endswith("/n")}


ONCE = {"start/n": 3.0, "middle/n": 3.0, "end/n": 3.0}


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpointed_module_reports_once(use_reentrant: bool) -> None:
    block = Block()
    assert counts(lambda x: checkpoint(block, x, use_reentrant=use_reentrant)) == ONCE


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_checkpointed_function_reports_once(use_reentrant: bool) -> None:
    weight = torch.randn(4, 4, requires_grad=True)

    def function(x: torch.Tensor) -> torch.Tensor:
        report_metrics("start", n=1.0)
        y = torch.tanh(x @ weight)
        report_metrics("middle", n=1.0)
        y = torch.relu(y)
        report_metrics("end", n=1.0)
        return y

    assert counts(lambda x: checkpoint(function, x, use_reentrant=use_reentrant)) == ONCE


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_nested_checkpoints_report_once(use_reentrant: bool) -> None:
    block = Block()

    def inner(x: torch.Tensor) -> torch.Tensor:
        return checkpoint(block, x, use_reentrant=use_reentrant)

    assert counts(lambda x: checkpoint(inner, x, use_reentrant=use_reentrant)) == ONCE


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_a_sequence_of_checkpoints_reports_each_block_once(use_reentrant: bool) -> None:
    blocks = nn.Sequential(*(Block() for _ in range(4)))
    found = counts(lambda x: checkpoint_sequential(blocks, 2, x, use_reentrant=use_reentrant))
    assert found == {key: 4 * value for key, value in ONCE.items()}


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_hugging_face_gradient_checkpointing_reports_once(use_reentrant: bool) -> None:
    from transformers import BertConfig, BertForMaskedLM
    from transformers.models.bert.modeling_bert import BertIntermediate

    sizes = {"hidden_size": 8, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 8}
    config = BertConfig(vocab_size=20, max_position_embeddings=8, **sizes)
    model = BertForMaskedLM(config).train()
    model.gradient_checkpointing_enable({"use_reentrant": use_reentrant})
    if use_reentrant:
        model.enable_input_require_grads()
    for module in model.modules():
        if isinstance(module, BertIntermediate):
            module.register_forward_hook(lambda *_: report_metrics("layer", n=1.0))
    registry = MetricRegistry(reducers={"*/n": "sum"})
    with registry.activate():
        for _ in range(2):
            ids = torch.randint(20, (2, 8))
            model(input_ids=ids, labels=ids).loss.backward()
    assert registry.snapshot(step=1).metrics["layer/n"] == 2 * 3


def test_a_home_made_recompute_reports_once() -> None:
    class Recompute(torch.autograd.Function):
        @staticmethod
        def forward(ctx, module, x):
            ctx.module = module
            ctx.save_for_backward(x)
            with torch.no_grad():
                return module(x)

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            x = x.detach().requires_grad_()
            with torch.enable_grad():
                y = ctx.module(x)
            y.backward(grad)
            return None, x.grad

    block = Block()
    assert counts(lambda x: Recompute.apply(block, x)) == ONCE


def test_a_second_backward_through_a_kept_graph_reports_nothing() -> None:
    block, registry = Block(), MetricRegistry(reducers={"*/n": "sum"})
    with registry.activate():
        y = checkpoint(block, torch.randn(2, 4, requires_grad=True), use_reentrant=False).sum()
        y.backward(retain_graph=True)
        y.backward()
    assert registry.snapshot(step=1).metrics["start/n"] == 1.0


def test_a_gradient_taken_inside_the_forward_does_not_silence_reports() -> None:
    block = Block()

    def with_penalty(x: torch.Tensor) -> torch.Tensor:
        y = block(x)
        (gradient,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        report_metrics("penalty", n=1.0)
        return y.sum() + gradient.pow(2).sum()

    assert counts(with_penalty) == {**ONCE, "penalty/n": 3.0}


@pytest.mark.parametrize("kind", ["tensor", "module", "post_accumulate", "function"])
def test_a_deliberate_report_from_a_backward_hook_counts(kind: str) -> None:
    block = Block()

    class Report(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            report_metrics("hook", n=1.0)
            return grad

    def run(x: torch.Tensor) -> torch.Tensor:
        y = block(x)
        if kind == "tensor":
            y.register_hook(lambda grad: report_metrics("hook", n=1.0))
        return Report.apply(y) if kind == "function" else y

    if kind == "module":
        block.register_full_backward_hook(lambda *_: report_metrics("hook", n=1.0))
    if kind == "post_accumulate":
        block.linear.weight.register_post_accumulate_grad_hook(lambda _: report_metrics("hook", n=1.0))
    assert counts(run) == {**ONCE, "hook/n": 3.0}


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_the_coverage_counts_first_forwards_only(use_reentrant: bool) -> None:
    block, registry = Block(), MetricRegistry()
    with registry.activate():
        checkpoint(block, torch.randn(2, 4, requires_grad=True), use_reentrant=use_reentrant).sum().backward()
    assert set(registry.snapshot(step=1).counts.values()) == {1}


@pytest.mark.parametrize("operator", ["_to_copy", "_local_scalar_dense", None])
def test_a_report_does_not_change_the_gradients_under_selective_checkpointing(operator: str | None) -> None:
    """PyTorch gives a saved result to the operator with the same number, and a recompute does not read reports."""

    def gradient(registry: MetricRegistry) -> torch.Tensor:
        def block(x: torch.Tensor) -> torch.Tensor:
            if registry is reporting:
                registry.report_metrics("block", sum=x.sum(), size=weighted(x, x.abs()), many=x.expand(50, 2, 4))
            half = x.detach().to(torch.bfloat16).to(torch.float32)
            return (x * half * x.square().sum().item()).tanh() * x

        x = torch.arange(8.0).reshape(2, 4).div(8).requires_grad_()
        contexts = partial(create_selective_checkpoint_contexts, saves)
        checkpoint(block, x, use_reentrant=False, context_fn=contexts).sum().backward()
        assert x.grad is not None
        return x.grad

    def saves(ctx: object, op: torch._ops.OpOverload, *args: object, **kwargs: object) -> CheckpointPolicy:
        is_saved = operator is None or op is getattr(torch.ops.aten, operator).default
        return CheckpointPolicy.MUST_SAVE if is_saved else CheckpointPolicy.PREFER_RECOMPUTE

    reporting = MetricRegistry()
    assert torch.equal(gradient(reporting), gradient(MetricRegistry()))
    values = torch.arange(8.0) / 8
    expected = {"sum": 3.5, "size": float((values * values).sum() / values.sum()), "many": 3.5 / 8}
    snapshot = reporting.snapshot(step=1)
    assert snapshot.metrics == pytest.approx({f"block/{name}": value for name, value in expected.items()})
