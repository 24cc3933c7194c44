"""Walks the autograd graph of a loss, without running it, to find the parameters and the nodes that it reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from torch.autograd.function import BackwardCFunction


@dataclass
class Reach:
    """What the graph of one loss reaches.

    Attributes:
        distances: leaf tensor (by its id) → distance from the loss, in nodes of the graph.
        leaves: leaf tensor (by its id) → the tensor.
        functions: the nodes that run Python code: those of subclasses of `torch.autograd.Function`.
        nodes: every node, by its id. The ids stay valid only while somebody holds the nodes.
    """

    distances: dict[int, int] = field(default_factory=dict)
    leaves: dict[int, Tensor] = field(default_factory=dict)
    functions: list[Any] = field(default_factory=list)
    nodes: dict[int, Any] = field(default_factory=dict)


def reach_of(losses: Sequence[Tensor]) -> Reach:
    """Walk the graph of losses, breadth first.

    >>> import torch
    >>> a, b = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    >>> reach = reach_of([(a * (2 * b)).sum()])
    >>> reach.distances[id(a)], reach.distances[id(b)]
    (2, 3)
    """
    reach = Reach()
    level = [loss.grad_fn for loss in losses if loss.grad_fn is not None]
    distance = 0
    while level:
        following: list[Any] = []
        for node in level:
            if id(node) in reach.nodes:
                continue
            reach.nodes[id(node)] = node
            leaf = getattr(node, "variable", None)
            if leaf is not None:
                reach.distances.setdefault(id(leaf), distance)
                reach.leaves[id(leaf)] = leaf
                continue
            if isinstance(node, BackwardCFunction):
                reach.functions.append(node)
            following += [each for each, _ in node.next_functions if each is not None]
        level, distance = following, distance + 1
    return reach
