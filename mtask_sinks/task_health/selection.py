"""Chooses the shared parameters with respect to which gradients are measured."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from torch import nn

from mtask_sinks.patterns import is_pattern


class Selection(NamedTuple):
    """Parameters of a model.

    Attributes:
        name: the name of the module, or the pattern, for messages.
        parameters: name → parameter; each parameter once.
    """

    name: str
    parameters: dict[str, nn.Parameter]

    @property
    def size(self) -> int:
        """Number of elements."""
        return sum(parameter.numel() for parameter in self.parameters.values())

    def trained_now(self) -> Selection:
        """Return the parameters that are not frozen: a training may freeze some of them later on."""
        return Selection(self.name, {name: each for name, each in self.parameters.items() if each.requires_grad})


def select_named(shared: str | nn.Module, model: nn.Module) -> Selection:
    """Return the trainable parameters that a user names.

    >>> model = nn.ModuleDict({"encoder": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})
    >>> list(select_named("encoder.1", model).parameters), list(select_named("*.bias", model).parameters)
    (['encoder.1.weight', 'encoder.1.bias'], ['encoder.0.bias', 'encoder.1.bias'])

    Args:
        shared: a module of the model; the name of a module or a parameter, or its end (so that names work with PEFT
            too, which puts ``base_model.model.`` before them); or a pattern of names of parameters.
        model: the model.

    Raises:
        ValueError: the model has no such parameter, or all of them are frozen.
    """
    if isinstance(shared, nn.Module):
        wanted = {id(parameter) for parameter in shared.parameters()}
        names = [name for name, module in model.named_modules() if module is shared]
        label = names[0] if names else type(shared).__name__
        found = {name: each for name, each in model.named_parameters() if id(each) in wanted}
    else:
        label = shared
        every = dict(model.named_parameters(remove_duplicate=False))
        found, seen = {}, set[int]()
        for name, parameter in every.items():
            if _matches(name, shared) and id(parameter) not in seen:
                seen.add(id(parameter))
                found[name] = parameter
    if not found:
        close = difflib.get_close_matches(label, [name for name, _ in model.named_modules() if name], 3, 0.4)
        hint = f" Similar names: {', '.join(close)}." if close else ""
        raise ValueError(
            f"TaskHealth(shared={label!r}): the model has no such parameter. Pass the name of a module or a parameter, "
            f"its end, or a pattern.{hint}"
        )
    trainable = {name: parameter for name, parameter in found.items() if parameter.requires_grad}
    if not trainable:
        raise ValueError(
            f"TaskHealth(shared={label!r}): all of these parameters are frozen ({', '.join(list(found)[:3])}, …), so "
            "they have no gradient. Name parameters that are trained."
        )
    return Selection(label, trainable)


def select_shared(reaches: Sequence[Mapping[int, int]], model: nn.Module) -> Selection | None:
    """Return the last numbered block whose parameters the losses of all tasks depend on; ``None`` if there is none.

    First this finds the nearest parameter that all tasks reach. The distance of a parameter is its distance from the
    task that is farthest from it. (If the nearest task counted, tied word embeddings would win.) Then this chooses all
    parameters of the same block that all tasks reach, because the nearest ones alone often belong to a normalisation
    and tell little. In a model without numbered blocks, the parameter's module takes the place of the block.

    Args:
        reaches: for each task, parameter (by its id) → distance of its loss.
        model: the model.
    """
    common = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and all(id(parameter) in reach for reach in reaches)
    }
    if not common or not reaches:
        return None
    farthest = {name: max(reach[id(parameter)] for reach in reaches) for name, parameter in common.items()}
    modules = dict(model.named_modules())
    blocks = {name: _block_of(name, modules) for name in common}
    numbered = [name for name, block in blocks.items() if block is not None]
    nearest = min(numbered or common, key=lambda name: farthest[name])
    block = blocks[nearest]
    if block is None:
        block = nearest.rpartition(".")[0]
    inside = {name: each for name, each in common.items() if not block or name.startswith(f"{block}.")}
    return Selection(block or nearest, inside if block else {nearest: common[nearest]})


def _block_of(name: str, modules: Mapping[str, nn.Module]) -> str | None:
    """Return the numbered block around a parameter.

    For ``0.encoder.layer.3.mlp.1.weight`` that is ``0.encoder.layer.3``. It is the innermost numbered module that has
    submodules and is one of several modules of the same class in a list. Experts of a mixture do not count. If no
    module is like that, it is the outermost numbered one.
    """
    parts = name.split(".")[:-1]
    numbered = [".".join(parts[: at + 1]) for at, part in enumerate(parts) if part.isdigit()]
    for block in reversed(numbered):
        container = block.rpartition(".")[0]
        siblings = list(modules[container].children())
        is_repeated = len(siblings) > 1 and len({type(each) for each in siblings}) == 1
        if is_repeated and any(modules[block].children()) and container.rpartition(".")[2] != "experts":
            return block
    return numbered[0] if numbered else None


def _matches(name: str, shared: str) -> bool:
    if is_pattern(shared):
        return fnmatchcase(name, shared) or fnmatchcase(name, f"*.{shared}")
    return f".{shared}." in f".{name}."
