from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.tensor import DTensor, Partial, Replicate, init_device_mesh

from mtask_sinks._util.plain_number import plain_number


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (torch.tensor(1.5, requires_grad=True), 1.5),
        (torch.tensor([3]), 3),
        (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
        (np.float32(2.5), 2.5),
        (np.int64(2**60 + 1), 2**60 + 1),
        (np.ones((1, 1)), 1.0),
        (np.bool_(True), True),
    ],
)
def test_one_number_becomes_a_number_of_python(value, expected) -> None:
    found = plain_number(value)
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(
    "value",
    [
        *(None, "text", 2, 0.1, [1], {}, torch.ones(2), np.ones(0), np.datetime64("2020"), torch.tensor(1j)),
        *(torch.ones(1, device="meta"), torch.nn.UninitializedParameter(), np.ma.masked),
        np.ma.array([1.0], mask=[True]),
    ],
    ids=repr,
)
def test_anything_else_stays_as_it_is(value) -> None:
    assert plain_number(value) is value


def test_a_tensor_without_values_stays_as_it_is() -> None:
    with FakeTensorMode():
        value = torch.ones(1)
    assert plain_number(value) is value


def test_a_distributed_tensor_is_a_number_only_if_each_rank_has_all_of_it() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        whole, part = (DTensor.from_local(torch.tensor(1.5), mesh, [each]) for each in (Replicate(), Partial()))
        assert plain_number(whole) == 1.5
        assert plain_number(part) is part
    finally:
        dist.destroy_process_group()
