from __future__ import annotations

import numpy as np
import pytest
import torch

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
    "value", [None, "text", 2, 0.1, [1], {}, torch.ones(2), np.ones(0), np.datetime64("2020"), torch.tensor(1j)]
)
def test_anything_else_stays_as_it_is(value) -> None:
    assert plain_number(value) is value
