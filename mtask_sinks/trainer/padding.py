"""Padding: the batches that `accelerate` repeats so that every rank has as many as the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from accelerate.data_loader import BatchSamplerShard, DataLoaderDispatcher
from accelerate.state import GradientState
from accelerate.utils import find_batch_size
from torch.utils.data import BatchSampler

if TYPE_CHECKING:
    from accelerate import Accelerator


class _LastRound(NamedTuple):
    """The last batches of an evaluation, one per rank, seen from one rank.

    Attributes:
        real: how many samples in all these batches are new.
        before: how many samples the batches of lower ranks have. The new samples come first.
    """

    real: int
    before: int


class Padding:
    """Knows which batches of an evaluation hold only padding.

    `accelerate` tells which of its loaders is read now. If an evaluation reads a loader that `accelerate` did not
    prepare, that is still the loader of the training around it, or one that somebody did not read to its end. It says
    nothing about the batches of the evaluation, unless the evaluation reads this loader anew.
    """

    def __init__(self) -> None:
        #: The loaders that were read when the evaluation began, once for each time that somebody began to read them;
        #: ``None`` outside of an evaluation.
        self._around: list[Any] | None = None

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Wrap an evaluation. Blocks nest."""
        outside, self._around = self._around, [*GradientState().dataloader_references]
        try:
            yield
        finally:
            self._around = outside

    def is_padding(self, accelerator: Accelerator, inputs: Any) -> bool:
        """Whether this rank's batch holds only samples that some rank has already seen.

        If some ranks have no data left at the end of a dataset, `accelerate` gives them samples from its beginning. The
        new samples of that last round belong to the lowest ranks. A batch with some new samples counts in full, because
        a model cannot tell them apart. A batch also counts if the number of new samples is unknown.
        """
        state = accelerator.gradient_state
        if accelerator.num_processes == 1 or not state.end_of_dataloader:
            return False
        loader: Any = state.active_dataloader
        if self._around is None or state.dataloader_references.count(loader) <= self._around.count(loader):
            return False
        if isinstance(loader, DataLoaderDispatcher):
            last = _LastRound(state.remainder, accelerator.process_index * _size_of(inputs))
        else:
            last = _last_round(loader)
        return 0 < last.real <= last.before


def _last_round(loader: Any) -> _LastRound:
    """The last round of a loader whose ranks take their batches from one sampler.

    Only the sampler knows how many samples are new. `accelerate` computes its remainder from the length of the dataset,
    but the sampler may repeat or drop rows. A batch sampler with its own ``__iter__`` does not tell the number. With
    ``even_batches=False`` all samples are new, and the last batches of the ranks may be of different rounds.
    """
    shard: Any = getattr(loader, "batch_sampler", None)
    if not isinstance(shard, BatchSamplerShard) or shard.drop_last or not shard.even_batches:
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
    """Return the number of samples in a batch of tensors that another rank has sent."""
    try:
        return find_batch_size(inputs) or 0
    except (TypeError, ValueError, IndexError):  # no tensor at the first place: the batch cannot be judged
        return 0
