"""Tells whether a value belongs to a CUDA graph, which would keep its memory and not report it again."""

from __future__ import annotations

import sys

import torch
from torch import Tensor


def is_for_a_graph(tensor: Tensor) -> bool:
    """Whether a CUDA graph is being recorded now, or warmed up for that by inductor.

    A replay of the graph would not report. In the run for warming up, everything is allocated in the memory of the
    graphs, and inductor raises an error if a copy of a value stays there.
    """
    return tensor.is_cuda and (torch.cuda.is_current_stream_capturing() or _is_warming_up(tensor.device))


def _is_warming_up(device: torch.device) -> bool:
    """Whether inductor runs now what it will record later: then the stream is the one that it records on."""
    trees = sys.modules.get("torch._inductor.cudagraph_trees")
    if trees is None or not torch._C._is_key_in_tls("tree_manager_containers"):
        return False  # inductor has no graphs, or none in this thread
    manager = trees.get_manager(device.index, create_if_none_exists=False)
    return manager is not None and bool(torch.cuda.current_stream(device) == manager.stream)
