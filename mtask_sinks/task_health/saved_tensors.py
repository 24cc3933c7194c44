"""Finds code that changes what it saved for the backward pass, as fused losses do, and undoes the change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# Compiled code may have freed its saved tensors.
_NOT_READ = "CompiledFunction"


class SavedTensors:
    """Copies of what the nodes of a graph saved, taken before the first measurement.

    It copies only from nodes that run Python code of a package or of the user. PyTorch's own nodes change nothing.

    Args:
        nodes: the nodes.

    Attributes:
        names: the names of the nodes' classes.
    """

    def __init__(self, nodes: Iterable[Any]) -> None:
        self._copies: list[tuple[str, Tensor, Tensor]] = []
        self.names: set[str] = set()
        for node in nodes:
            name = type(node).__name__
            if name.startswith(_NOT_READ):
                continue
            self.names.add(name)
            for tensor in node.saved_tensors:
                if isinstance(tensor, Tensor):
                    self._copies.append((name, tensor, tensor.detach().clone()))
        # A change that autograd notices raises the version of a tensor, and the backward pass of the training would
        # refuse it. The function is private in PyTorch. Without it, only changes that autograd does not notice are
        # undone.
        preserve = getattr(torch.autograd, "_unsafe_preserve_version_counter", None)
        tensors = tuple(tensor for _, tensor, _ in self._copies)
        self._versions = preserve(tensors) if preserve is not None and tensors else None

    def restore_changed(self) -> str | None:
        """Restore the values of every changed tensor; return the name of a node that changed one, else ``None``."""
        changed = None
        for name, tensor, copy in self._copies:
            values = tensor.data  # unlike with detach(), writing to it changes no version
            if not torch.equal(values, copy) and not _are_equal_with_nan(values, copy):
                values.copy_(copy)
                changed = changed or name
        if self._versions is not None:
            self._versions.__exit__()
        return changed


def _are_equal_with_nan(a: Tensor, b: Tensor) -> bool:
    return a.is_floating_point() and bool(torch.allclose(a, b, rtol=0.0, atol=0.0, equal_nan=True))
