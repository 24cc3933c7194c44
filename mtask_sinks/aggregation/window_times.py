"""How long a window took, and over how many steps it went."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

#: What derived metrics call the time of a window in seconds, and its number of steps.
SECONDS, STEPS = "window.seconds", "window.steps"
TIMES = (SECONDS, STEPS)


class WindowTimes:
    """Measures the windows of all phases.

    >>> times = WindowTimes()
    >>> with times.inside("eval"):
    ...     time.sleep(0.01)
    >>> seconds, steps = times.end("eval", 5)
    >>> seconds >= 0.01, steps
    (True, 5)

    Time counts for one phase only: while an evaluation runs, the window of the training stands still. The steps of a
    training's window are optimizer steps, those of other windows are micro-batches of this process.
    """

    def __init__(self) -> None:
        self._phase = "train"
        #: The phases whose time counts now, the innermost first.
        self._entered: list[str] = []
        self._since = time.perf_counter()
        self._spent: dict[str, float] = {}
        #: Phase → the step, or the number of micro-batches, at which its window began.
        self._began: dict[str, int] = {}
        #: The phases whose window has begun. That of the training begins when the one before ends.
        self._open = {"train"}

    @contextmanager
    def inside(self, phase: str, now: int = 0) -> Iterator[None]:
        """Count the time of a ``with`` block for a phase. Blocks may end in any order.

        Args:
            phase: the phase. Its window begins here, if it has not begun.
            now: the micro-batches so far.
        """
        if phase not in self._open:
            self._open.add(phase)
            self._began[phase] = now
        self._entered.insert(0, phase)
        self._switch(phase)
        try:
            yield
        finally:
            self._entered.remove(phase)  # if several blocks are of this phase, the innermost
            self._switch(self._entered[0] if self._entered else "train")

    @contextmanager
    def set_aside(self, phase: str) -> Iterator[None]:
        """Measure another window of a phase inside a ``with`` block. After it, the window from before goes on."""
        spent, began, is_open = self._spent.pop(phase, 0.0), self._began.get(phase, 0), phase in self._open
        self._open.discard(phase)
        try:
            yield
        finally:
            self._spent[phase], self._began[phase] = spent, began
            if is_open:
                self._open.add(phase)

    def is_open(self, phase: str) -> bool:
        """Whether the window of a phase has begun."""
        return phase in self._open

    def end(self, phase: str, now: int | None) -> tuple[float, int]:
        """End the window of a phase, and begin the next one; returns its seconds and steps.

        Args:
            phase: of the window.
            now: the optimizer steps taken so far; for other phases than ``train`` the micro-batches so
                far. ``None`` if it is not known: then these steps count in a later window.
        """
        self._switch(self._phase)
        began = self._began.get(phase, 0)
        self._began[phase] = began if now is None else now
        if phase != "train":
            self._open.discard(phase)
        return self._spent.pop(phase, 0.0), self._began[phase] - began

    def to_json(self, phase: str) -> dict[str, Any]:
        """The open window of a phase as plain data."""
        self._switch(self._phase)
        return {"seconds": self._spent.get(phase, 0.0), "began": self._began.get(phase, 0)}

    def load(self, saved: Mapping[str, Any], phase: str) -> None:
        """Go on with a window that `to_json` saved."""
        self._spent[phase] = saved["seconds"]
        self._began[phase] = saved["began"]
        self._open.add(phase)

    def _switch(self, phase: str) -> None:
        now = time.perf_counter()
        self._spent[self._phase] = self._spent.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now
