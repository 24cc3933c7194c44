"""Runs the checks of `tests/gpu` on CPU tensors that take the code path of an accelerator."""

from __future__ import annotations

import pytest
from helpers.accelerator import accelerated, taking_the_accelerators_way
from helpers.device_checks import CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_values_on_a_device(name: str) -> None:
    with taking_the_accelerators_way():
        CHECKS[name](accelerated)


def test_the_checks_fail_if_no_value_takes_that_way() -> None:
    with pytest.raises(AssertionError, match="no value took the way"), taking_the_accelerators_way():
        CHECKS["order"](lambda tensor: tensor)
