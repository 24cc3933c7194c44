"""What TaskHealth accepts and refuses."""

from __future__ import annotations

import pytest
from torch import nn

from mtask_sinks import TaskHealth


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"losses": []}, TypeError, "pass a key or a pattern"),
        ({"losses": [3]}, TypeError, "pass a key or a pattern"),
        ({"losses": 100}, TypeError, "pass a key or a pattern"),  # the steps, in the wrong place
        ({"every": 0}, ValueError, "pass a number of optimizer steps"),
        ({"every": 1.5}, ValueError, "pass a number of optimizer steps"),
        ({"every": True}, ValueError, "pass a number of optimizer steps"),
        ({"shared": 3}, TypeError, "pass the name of a module"),
    ],
)
def test_refusals(given, error, words):
    with pytest.raises(error, match=words):
        TaskHealth(**given)


def test_losses_and_shared_parameters():
    health = TaskHealth(["mlm/loss", "aux_*"], nn.Linear(1, 1), 10)
    assert [health.is_loss(key) for key in ("mlm/loss", "nsp/loss", "aux_loss")] == [True, False, True]
