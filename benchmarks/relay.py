"""Runs several trainings in one process, which take turns: one block of steps each.

If whole trainings run one after the other on a shared machine, their times differ by more than the cost of reporting.
Here each training has its own thread, and only one runs at a time. A block has as many steps as there are between two
log events, so each block contains one log event. Each round has a random order: a training that always came after the
one that leaves the most garbage was 1 to 2 % slower than the same training in another place.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping
from typing import Any

from transformers import Trainer, TrainerCallback

from benchmarks.side_by_side import Times


class Relay:
    """Runs trainers in turns.

    Args:
        trainers: name → trainer, ready to train. All need the same number of steps and the same ``logging_steps``.
    """

    def __init__(self, trainers: Mapping[str, Trainer]) -> None:
        self._trainers = dict(trainers)
        self._random = random.Random(0)
        self._at_work = [*trainers]
        #: Trainings that have not had their turn in this round; the last one is next.
        self._coming: list[str] = []
        self._holder = ""
        self._changed = threading.Condition()
        self._begins: dict[str, float] = {}
        self._error: BaseException | None = None
        #: Name → seconds of each block.
        self.times: Times = {name: [] for name in trainers}

    def run(self) -> Times:
        """Train all to the end; return the times without the first two blocks of each, in which the caches warm up."""
        for name, trainer in self._trainers.items():
            trainer.add_callback(_PassOn(self, name))
        threads = [threading.Thread(target=self._train, args=(name,)) for name in self._trainers]
        self._next()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._error is not None:
            raise self._error
        return {name: turns[2:] for name, turns in self.times.items()}

    def pass_on(self, name: str) -> None:
        """End a block: store its time, let the others run, and begin the next block."""
        self.times[name].append(time.perf_counter() - self._begins[name])
        self._next()
        self._wait(name)

    def _train(self, name: str) -> None:
        self._wait(name)
        try:
            self._trainers[name].train()
        except BaseException as error:  # raised again in `run`
            self._error = error
        finally:
            with self._changed:
                self._at_work.remove(name)
                self._coming = [other for other in self._coming if other != name]
            self._next()

    def _wait(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._holder == name)
        self._begins[name] = time.perf_counter()

    def _next(self) -> None:
        with self._changed:
            if not self._coming:
                self._coming = self._random.sample(self._at_work, len(self._at_work))
            self._holder = self._coming.pop() if self._coming else ""
            self._changed.notify_all()


class _PassOn(TrainerCallback):
    def __init__(self, relay: Relay, name: str) -> None:
        self._relay = relay
        self._name = name

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % args.logging_steps == 0 and state.global_step < state.max_steps:
            self._relay.pass_on(self._name)
