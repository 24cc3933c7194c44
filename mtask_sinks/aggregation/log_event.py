"""Checks the arguments of a log event."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any, SupportsFloat

from mtask_sinks.patterns import check_mapping


def as_step(step: Any) -> int:
    """Return a step as a plain integer. It may also be an integer of NumPy or of torch.

    >>> as_step("100")
    Traceback (most recent call last):
    TypeError: step='100': pass the number of optimizer steps taken so far, a whole number such as 100.
    """
    try:
        if not isinstance(step, bool):
            return operator.index(step)
    except TypeError:
        pass
    raise TypeError(f"step={step!r}: pass the number of optimizer steps taken so far, a whole number such as 100.")


def log_event(step: Any, epoch: Any, logs: Any) -> tuple[int, float | None, Mapping[str, Any] | None]:
    """Return the arguments of a log event, with plain numbers.

    Raises:
        TypeError: one of them has a wrong type.
    """
    if not (epoch is None or type(epoch) is float):  # to ask for a protocol takes long
        if not isinstance(epoch, SupportsFloat):
            raise TypeError(f"epoch={epoch!r}: pass the number of epochs done, such as 1.5, or nothing.")
        epoch = float(epoch)
    if logs is not None:
        check_mapping("logs", logs, "{'loss': 2.5}")
    return as_step(step), epoch, logs
