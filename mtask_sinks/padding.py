"""Padding: the batches that a sampler repeats so that every rank has as many as the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from accelerate.utils import find_batch_size

if TYPE_CHECKING:
    from accelerate import Accelerator


def is_padding(accelerator: Accelerator, inputs: Any) -> bool:
    """Whether all of a batch was seen before, by this rank or another.

    In the last batch of an epoch, `accelerate` lets ranks without data of their own start again from the beginning of
    the dataset. It knows how many samples of the last batch of all ranks together are real (``remainder``), and that
    those of the lowest ranks come first; `Accelerator.gather_for_metrics` cuts off the rest by the same rule. A batch
    of which only a part is real cannot be told apart inside a model: it counts.
    """
    state = accelerator.gradient_state
    if accelerator.num_processes == 1 or not state.end_of_dataloader or state.remainder <= 0:
        return False
    size = find_batch_size(inputs)
    return size is not None and accelerator.process_index * size >= state.remainder
