"""CPU tensors that take the code path of an accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from mtask_sinks.measurement.device_queue import DeviceQueue


class _OnAccelerator(torch.Tensor):
    """A CPU tensor that says it is on an accelerator. Tensors computed from it say the same."""

    is_cpu = False


def accelerated(data: Any, **options: Any) -> torch.Tensor:
    """Make a tensor, or a view of one, that seems to be on an accelerator."""
    tensor = data if isinstance(data, torch.Tensor) else torch.tensor(data, **options)
    return tensor.as_subclass(_OnAccelerator)


@contextmanager
def taking_the_accelerators_way() -> Iterator[list[int]]:
    """Yield a list of how many values each report left on a device. Fails if there were none."""
    reports: list[int] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("add", "add_packed"):
            real = getattr(DeviceQueue, name)

            def noting(queue: DeviceQueue, *args: Any, real: Any = real) -> Any:
                entries = real(queue, *args)
                reports.append(len(entries))
                return entries

            patch.setattr(DeviceQueue, name, noting)
        yield reports
    assert sum(reports) > 0, "no value took the way of an accelerator's"
