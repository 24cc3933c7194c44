"""The few operations over ranks that a reduction needs, and the process group that carries them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist

from mtask_sinks.reducers import Floats

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@runtime_checkable
class Ranks(Protocol):
    """The ranks of a job, seen from one of them. Every rank must call the same methods in the same order."""

    @property
    def rank(self) -> int:
        """This rank's number, from 0."""

    @property
    def size(self) -> int:
        """How many ranks there are."""

    def maximum(self, vector: Floats) -> Floats:
        """Return the elementwise maximum over the ranks. Their float64 vectors have the same length, and no NaN."""

    def total(self, vector: Floats) -> Floats:
        """Return the elementwise sum over the ranks. Their float64 vectors have the same length."""

    def gather(self, vector: Floats) -> list[Floats]:
        """Return the vectors of all ranks, in the order of the ranks. They have the same length."""

    def gather_objects(self, item: Any) -> list[Any]:
        """Return the picklable objects of all ranks, in the order of the ranks."""


class TorchRanks:
    """The ranks of a `torch.distributed` process group, set up by `torchrun`, `accelerate` or DeepSpeed."""

    def __init__(self, group: ProcessGroup | None = None) -> None:
        self._group = group
        self._device = _device_of(group)
        self.rank = dist.get_rank(group)
        self.size = dist.get_world_size(group)

    def maximum(self, vector: Floats) -> Floats:
        return self._all_reduce(vector, dist.ReduceOp.MAX)

    def total(self, vector: Floats) -> Floats:
        return self._all_reduce(vector, dist.ReduceOp.SUM)

    def gather(self, vector: Floats) -> list[Floats]:
        mine = torch.from_numpy(vector).to(self._device)
        everyones = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(everyones, mine, group=self._group)
        return [theirs.cpu().numpy() for theirs in everyones]

    def gather_objects(self, item: Any) -> list[Any]:
        items: list[Any] = [None] * self.size
        dist.all_gather_object(items, item, group=self._group)
        return items

    def _all_reduce(self, vector: Floats, operation: Any) -> Floats:
        tensor = torch.from_numpy(vector.copy()).to(self._device)
        dist.all_reduce(tensor, operation, group=self._group)
        merged: Floats = tensor.cpu().numpy()
        return merged


def is_group(group: object) -> bool:
    """Whether an object can be the group of `find_ranks`."""
    if group is None or isinstance(group, Ranks):
        return True
    # On a rank outside of a new group, torch gives an object instead of the group.
    return dist.is_available() and (isinstance(group, dist.ProcessGroup) or group == dist.GroupMember.NON_GROUP_MEMBER)


def find_ranks(group: ProcessGroup | Ranks | None) -> Ranks | None:
    """Return the ranks of a group, or of the whole job if there is no group. For a single rank, return ``None``."""
    if group is not None and isinstance(group, Ranks):
        return group if group.size > 1 else None
    if not (dist.is_available() and dist.is_initialized()) or dist.get_rank(group) < 0:
        return None
    return TorchRanks(group) if dist.get_world_size(group) > 1 else None


def _device_of(group: ProcessGroup | None) -> torch.device:
    """Return the device for tensors of the group's backend: the CPU, if the backend supports it."""
    kinds = [entry.split(":")[0] for entry in dist.get_backend_config(group).split(",")]
    return torch.device("cpu" if "cpu" in kinds else kinds[0])
