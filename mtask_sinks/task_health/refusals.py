"""Finds out whether measuring would be safe: from the settings of the trainer, and from the autograd graph.

Each refusal is for a case in which measuring would change the gradients of the training, or would give wrong numbers
without an error. Nothing here runs autograd.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from mtask_sinks.task_health.graph import Reach
from mtask_sinks.task_health.reported_losses import ReportedLoss

_LOMO = ("lomo", "adalomo")
# What a backward pass calls if it exchanges data with other ranks.
_COLLECTIVES = frozenset(["all_reduce", "all_gather", "all_gather_into_tensor", "all_to_all", "reduce_scatter"])


class NotMeasurable(Exception):
    """Measuring is not safe, or its result would be wrong. The message tells why and what to do."""


def why_settings_refuse(trainer: Any) -> str | None:
    """Return why a trainer with these settings cannot be measured, with the name of the setting; else ``None``."""
    args, accelerator = trainer.args, trainer.accelerator
    optim = getattr(args, "optim", "")
    optim = str(getattr(optim, "value", optim))
    if getattr(args, "ddp_static_graph", None):
        return _STATIC_GRAPH.format("ddp_static_graph=True")
    if _is_reentrant(args):
        return _REENTRANT
    if args.torch_compile or type(trainer.model).__name__ == "OptimizedModule":
        return COMPILED.format("torch_compile=True" if args.torch_compile else "torch.compile(model)")
    if getattr(args, "use_liger_kernel", False):
        return _LIGER.format("use_liger_kernel=True")
    if str(getattr(accelerator, "distributed_type", "")).endswith("FSDP") or getattr(args, "fsdp", None):
        return _SHARDED.format("fsdp")
    plugin = getattr(getattr(accelerator, "state", None), "deepspeed_plugin", None)
    if getattr(plugin, "zero_stage", None) == 3:
        return _SHARDED.format("DeepSpeed ZeRO stage 3")
    if optim in _LOMO:
        return f"optim={optim!r} updates the parameters in hooks of the backward pass. Choose another optimizer"
    if getattr(args, "activation_offloading", False):
        return (
            "activation_offloading=True moves saved activations back only once, and measuring needs them more often. "
            "Set activation_offloading=False"
        )
    return None


def _is_reentrant(args: Any) -> bool:
    """Whether the arguments ask for reentrant checkpointing, by the names of transformers 5.24 or by the older ones."""
    for name in ("activation_checkpointing", "gradient_checkpointing"):
        if getattr(args, name, False):
            return bool((getattr(args, f"{name}_kwargs", None) or {}).get("use_reentrant"))
    return False


def is_compiled_in_place(model: Any) -> bool:
    """Whether ``model.compile()`` was called. It sets the attribute, which is private in PyTorch."""
    return getattr(model, "_compiled_call_impl", None) is not None


def check_wrapper(wrapper: Any) -> None:
    """Refuse a model in a wrapper that expects a single backward pass.

    Raises:
        NotMeasurable: DDP with ``static_graph``.
    """
    if isinstance(wrapper, DistributedDataParallel) and wrapper.static_graph:
        raise NotMeasurable(_STATIC_GRAPH.format("DistributedDataParallel(static_graph=True)"))


def checked_losses(losses: Iterable[ReportedLoss], total: Tensor) -> list[ReportedLoss]:
    """Return the losses. Refuse a loss that changed after its report, or whose backward pass has side effects.

    Raises:
        NotMeasurable: a loss was changed in place, or it is a leaf with hooks.
    """
    followed = []
    for loss in losses:
        now = loss.followed()
        if now is None:
            raise NotMeasurable(
                f"the tensor reported as {loss.key!r} was changed in place afterwards (loss += other), so it is no "
                "longer this loss. Write loss = loss + other"
            )
        followed.append(now)
    for key, tensor in [*((loss.key, loss.tensor) for loss in losses), ("the loss of the training", total)]:
        if tensor.grad_fn is None:
            raise NotMeasurable(_CACHED.format(key))
    return followed


def check_graph(reaches: Mapping[str, Reach], model: nn.Module) -> None:
    """Refuse graphs with nodes that must not run twice, and parameters of which a rank holds only a part.

    Args:
        reaches: key of a loss → what its graph reaches; also for the total.
        model: the model. The leaves should be its parameters.

    Raises:
        NotMeasurable: with the reason.
    """
    parameters = {id(parameter) for parameter in model.parameters()}
    has_several_ranks = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    for key, reach in reaches.items():
        for node in reach.functions:
            name = type(node).__name__
            if name.startswith("CheckpointFunction"):
                raise NotMeasurable(_REENTRANT)
            if "Liger" in name:
                raise NotMeasurable(_LIGER.format(name))
            if has_several_ranks and _communicates(node):
                raise NotMeasurable(_COMMUNICATES.format(name))
        for leaf in reach.leaves.values():
            if isinstance(leaf, DTensor) or type(leaf).__name__ == "FlatParameter":
                raise NotMeasurable(_SHARDED.format("a model with sharded parameters"))
            if hasattr(leaf, "ds_id"):
                raise NotMeasurable(_SHARDED.format("DeepSpeed ZeRO stage 3"))
            if leaf._backward_hooks and id(leaf) not in parameters:
                raise NotMeasurable(_CACHED.format(key))


def _communicates(node: Any) -> bool:
    """Whether the backward pass of an autograd function exchanges data with other ranks.

    >>> from torch.nn.modules._functions import SyncBatchNorm
    >>> class Node: _forward_cls = SyncBatchNorm
    >>> _communicates(Node())
    True
    """
    function = getattr(type(node), "_forward_cls", None)
    if function is None:
        return False
    code = getattr(function.backward, "__code__", None)
    names = () if code is None else code.co_names
    return function.__module__.startswith("torch.distributed") or not _COLLECTIVES.isdisjoint(names)


def check_nesting(losses: list[ReportedLoss], reaches: Mapping[str, Reach]) -> None:
    """Refuse losses that contain each other: they would count twice.

    Raises:
        NotMeasurable: one loss is built on another one, or one tensor has two keys.
    """
    for outer in losses:
        for inner in losses:
            if inner.key == outer.key:
                continue
            is_same = inner.tensor is outer.tensor
            node = inner.tensor.grad_fn
            is_part = node is not outer.tensor.grad_fn and id(node) in reaches[outer.key].nodes
            if is_same or is_part:
                how = "are the same tensor" if is_same else f"are nested: {inner.key!r} is a part of {outer.key!r}"
                raise NotMeasurable(
                    f"the losses {inner.key!r} and {outer.key!r} {how}, so it would count twice. Name the losses that "
                    "add up to the total: TaskHealth(losses=[...])"
                )


_STATIC_GRAPH = (
    "with {}, a backward pass before the training's own makes DDP average the wrong gradients, without an error. "
    "Set ddp_static_graph=False"
)
COMPILED = (
    "{} compiles the model and its losses as one function, so the losses have no graph of their own. Compile only the "
    "layers (model.layer.compile()), or train without compiling the model"
)
_REENTRANT = (
    "reentrant gradient checkpointing (use_reentrant=True) hides the gradients of the parameters inside. Set "
    "gradient_checkpointing_kwargs={'use_reentrant': False}"
)
_LIGER = (
    "{}: Liger's kernels change saved gradients in place, so a second backward pass would change the "
    "gradients of the training. Set use_liger_kernel=False"
)
_COMMUNICATES = (
    "{}: its backward pass exchanges data with the other ranks (a synchronised batch norm, a gather of features). A "
    "rank that lacks the loss of a task would make the others wait for ever. Exchange data in the forward pass only, "
    "without gradients, and use an ordinary batch norm"
)
_SHARDED = "{}: every rank holds only a part of each parameter, so gradients of single losses cannot be computed"
_CACHED = (
    "{}: this loss has no graph of its own. It computes gradients in a hook, as the cached losses of "
    "sentence-transformers do, so a second backward pass would add to the gradients of the training. Use the loss "
    "without a cache"
)
