"""Whether the epochs of all ranks end at the same step. Only then can the ranks reduce the values of an epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from accelerate.data_loader import DataLoaderDispatcher, IterableDatasetShard
from transformers import trainer_pt_utils
from transformers.trainer_utils import has_length

from mtask_sinks._util.formatting import counted

if TYPE_CHECKING:
    from accelerate import Accelerator

#: The message for the user: the reason follows from `why_epochs_differ`.
NO_VALUES_PER_EPOCH = (
    "this training has no values per epoch, because the epochs of the ranks may end at different steps: %s. To have "
    "them, let accelerate prepare the loader, with accelerator_config={'dispatch_batches': True} for streamed data and "
    "{'even_batches': True} for others. If you know that all ranks have as many batches, give the data a __len__."
)

# In place of a number of steps.
_EVEN, _UNKNOWN = -1, -2
# Each splits the same stream over the ranks, and gives them as many batches.
_SHARDS = IterableDatasetShard, trainer_pt_utils.IterableDatasetShard


def why_epochs_differ(accelerator: Accelerator, loader: Any, micro_batches: int) -> str | None:
    """Return why the epochs of the ranks may end at different steps; ``None`` if they end at the same step.

    Every rank must call this. It takes one collective.

    Args:
        accelerator: the trainer's.
        loader: the loader of the training; ``None`` if a training loop of the user's own has none.
        micro_batches: how many micro-batches an optimizer step has.
    """
    if accelerator.num_processes == 1:
        return None
    own = torch.tensor([_steps_per_epoch(loader, micro_batches)], device=accelerator.device)
    steps = accelerator.gather(own).tolist()
    if _UNKNOWN in steps:
        return "the data have no length, and accelerate does not give every rank as many batches as the others"
    if min(steps) < max(steps):
        return f"an epoch has {counted(min(steps), 'step')} on one rank and {max(steps)} on another"
    return None


def _steps_per_epoch(loader: Any, micro_batches: int) -> int:
    """Return the steps of an epoch of this rank, or ``_EVEN`` if a library gives all ranks as many batches."""
    dataset = getattr(loader, "dataset", None)
    if isinstance(loader, DataLoaderDispatcher | None) or isinstance(dataset, _SHARDS):
        return _EVEN
    return -(-len(loader) // micro_batches) if has_length(loader) else _UNKNOWN
