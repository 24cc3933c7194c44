"""A tracker of transformers that has no sink here and fails is named when the training ends."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.toy import Toy, arguments, numbers
from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from mtask_sinks import HfMultiTaskTrainer

JOURNAL = "They cannot be delivered later, but the journal has them."


class Tracker(TrainerCallback):
    """Stands for one of transformers' callbacks whose package is not installed here."""

    fails_in = frozenset[tuple[str, int]]()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._fail("on_train_begin", state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._fail("on_log", state.global_step)

    def _fail(self, event: str, step: int) -> None:
        if (event, step) in self.fails_in:
            raise ConnectionError("no route")


@pytest.mark.parametrize(
    ("fails_in", "said"),
    [
        (
            {("on_log", step) for step in (1, 2, 3)},
            f"swanlab got nothing: all 4 log events failed (ConnectionError: no route). {JOURNAL}",
        ),
        ({("on_log", 2)}, f"swanlab lacks 1 of 4 log events (ConnectionError: no route). {JOURNAL}"),
        (
            {("on_train_begin", 0)},
            "swanlab may lack values, because its callback failed at the beginning (ConnectionError: no route). "
            f"{JOURNAL}",
        ),
        (set(), None),
    ],
)
def test_a_tracker_that_failed_is_named_at_the_end(tmp_path, monkeypatch, caplog, fails_in, said: str | None) -> None:
    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "swanlab", Tracker)
    monkeypatch.setattr(Tracker, "fails_in", fails_in)
    args = arguments(tmp_path, logging_steps=1)
    trainer = HfMultiTaskTrainer(Toy(), args, train_dataset=numbers(1, 2, 3), callbacks=[Tracker()])
    trainer.train()
    assert trainer.state.global_step == 3
    named = [record.getMessage() for record in caplog.records if record.getMessage().startswith("swanlab")]
    assert named == ([] if said is None else [said])
