"""Whether the epochs of all ranks end at the same step. `tests/distributed` trains on real ranks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from helpers.toy import numbers
from transformers.trainer_pt_utils import IterableDatasetShard

from mtask_sinks.trainer.common_epochs import why_epochs_differ


class Stream(torch.utils.data.IterableDataset):
    """Numbers without a length."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def __iter__(self):
        yield from numbers(*self.values)


def asked(loaders, micro_batches: int = 1) -> list[str | None]:
    """What each rank finds. Every rank knows the steps of the others, as after a gather."""
    found: list[torch.Tensor] = []

    def ask(loader, gather) -> str | None:
        accelerator = SimpleNamespace(num_processes=len(loaders), device="cpu", gather=gather)
        return why_epochs_differ(accelerator, loader, micro_batches)

    for loader in loaders:
        ask(loader, lambda own: found.append(own) or own)
    everyones = torch.cat(found) if found else torch.zeros(0)
    return [ask(loader, lambda own: everyones) for loader in loaders]


def prepared(data, size: int = 2, **settings):
    loader = torch.utils.data.DataLoader(data)
    return [
        prepare_data_loader(loader, "cpu", num_processes=size, process_index=rank, put_on_device=True, **settings)
        for rank in range(size)
    ]


@pytest.mark.parametrize(
    "loaders",
    [
        prepared(numbers(*range(5))),
        prepared(numbers(*range(4)), even_batches=False),
        prepared(Stream(*range(5)), dispatch_batches=False),
        prepared(Stream(*range(5)), dispatch_batches=True),
        [torch.utils.data.DataLoader(IterableDatasetShard(Stream(*range(5)), 1, False, 2, rank)) for rank in (0, 1)],
        [None, None],  # a training loop of the user's own
        [torch.utils.data.DataLoader(Stream(1))],  # one rank
    ],
)
def test_loaders_that_give_all_ranks_as_many_batches(loaders) -> None:
    assert asked(loaders) == [None] * len(loaders)


def test_loaders_that_give_some_ranks_more_batches() -> None:
    reasons = asked(prepared(numbers(*range(5)), even_batches=False))
    assert reasons == ["an epoch has 2 steps on one rank and 3 on another"] * 2
    reason, same = asked([torch.utils.data.DataLoader(Stream(*range(size))) for size in (5, 3)])
    assert reason == same
    assert reason.startswith("the data have no length")


def test_the_last_step_of_an_epoch_may_have_fewer_micro_batches() -> None:
    assert asked(prepared(numbers(*range(5)), even_batches=False), micro_batches=4) == [None, None]
