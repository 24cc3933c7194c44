"""Padding: the batches that `accelerate` repeats so that every rank has as many as the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from accelerate.data_loader import BatchSamplerShard, DataLoaderDispatcher
from accelerate.utils import find_batch_size
from torch.utils.data import BatchSampler

if TYPE_CHECKING:
    from accelerate import Accelerator


class _LastRound(NamedTuple):
    """The last batches of an evaluation, one per rank, seen from one rank.

    Attributes:
        real: samples in all of them together that were not seen before.
        before: samples in the batches of the lower ranks, where the real ones come first.
    """

    real: int
    before: int


def is_padding(accelerator: Accelerator, inputs: Any) -> bool:
    """Whether this rank's batch holds only samples that some rank has already seen.

    At the end of a dataset `accelerate` gives ranks without data of their own samples from its beginning. The real
    samples of that last round belong to the lowest ranks. A batch of which only a part is real counts in full: a model
    cannot tell its samples apart. A batch counts too if nothing says how many samples are real.
    """
    state = accelerator.gradient_state
    if accelerator.num_processes == 1 or not state.end_of_dataloader:
        return False
    loader: Any = state.active_dataloader
    if isinstance(loader, DataLoaderDispatcher):
        last = _LastRound(state.remainder, accelerator.process_index * _size_of(inputs))
    else:
        last = _last_round(loader)
    return 0 < last.real <= last.before


def _last_round(loader: Any) -> _LastRound:
    """The last round of a loader whose ranks take their batches from one sampler.

    Only the sampler says how many samples are real: it may repeat or drop rows of the dataset, from whose length
    `accelerate` computes its own remainder. A batch sampler that forms batches in a way of its own says nothing.
    """
    shard: Any = getattr(loader, "batch_sampler", None)
    if not isinstance(shard, BatchSamplerShard) or shard.drop_last:
        return _LastRound(0, 0)
    batches: Any = shard.batch_sampler
    if type(batches).__iter__ is not BatchSampler.__iter__:
        return _LastRound(0, 0)
    per_round = batches.batch_size if shard.split_batches else batches.batch_size * shard.num_processes
    try:
        real = len(batches.sampler) % per_round
    except TypeError:  # a sampler without a length
        return _LastRound(0, 0)
    return _LastRound(real, shard.process_index * (per_round // shard.num_processes))


def _size_of(inputs: Any) -> int:
    """Samples in a batch that another rank has sent, which holds tensors."""
    try:
        return find_batch_size(inputs) or 0
    except (TypeError, ValueError, IndexError):  # no tensor at the first place: the batch cannot be judged
        return 0
