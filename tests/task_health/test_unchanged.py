from __future__ import annotations

import pytest
import torch
from torch import nn

from mtask_sinks.task_health.unchanged import unchanged


def test_buffers_and_random_numbers_are_as_before_even_after_an_error() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5))
    model(torch.randn(8, 3))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    torch.manual_seed(7)
    expected = torch.rand(4)
    torch.manual_seed(7)
    with pytest.raises(ValueError, match="of the block"):
        forward_and_raise(model)
    assert torch.equal(torch.rand(4), expected)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name


def forward_and_raise(model: nn.Module) -> None:
    with unchanged(model):
        model(torch.randn(8, 3))
        raise ValueError("of the block")


def test_a_backward_pass_that_needs_a_buffer_goes_through() -> None:
    scale = nn.Module()
    scale.register_buffer("factor", torch.tensor([2.0]))
    weight = torch.ones(1, requires_grad=True)
    loss = (weight * scale.factor).sum()  # keeps the buffer for the backward pass
    with unchanged(scale):
        scale.factor.data.mul_(10.0)
    loss.backward()
    assert weight.grad is not None and weight.grad.item() == 2.0
