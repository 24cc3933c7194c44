"""The window of each phase, and to which of them a thread reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, get_ident

from mtask_sinks.aggregation.window import Window


class Phases:
    """The windows of a registry, by phase, and for each thread the one that its reports go to.

    A thread reports to the phase that it entered last and has not left, otherwise to ``train``. A thread that entered
    none reports to the phase of the thread that runs the training: nn.DataParallel's threads belong to it.

    Attributes:
        windows: by phase.
        current: the window of the thread that runs the training, and of all threads that entered no phase.
        elsewhere: thread → its window, for the other threads that are inside a phase. Almost always empty.
    """

    def __init__(self) -> None:
        self.windows = {"train": Window()}
        self.current = self.windows["train"]
        self.elsewhere: dict[int, Window] = {}
        self._runs_training = get_ident()
        self._entered: dict[int, list[Window]] = {}
        self._lock = RLock()

    @property
    def is_training_thread(self) -> bool:
        """Whether this thread runs the training."""
        return get_ident() == self._runs_training

    def window(self, phase: str) -> Window:
        """The window of a phase, a new one if there is none yet."""
        found = self.windows.get(phase)
        return self.windows.setdefault(phase, Window()) if found is None else found

    def window_of_this_thread(self) -> Window:
        """The window that a report of this thread goes to. Only needed while `elsewhere` is not empty."""
        return self.elsewhere.get(get_ident(), self.current)

    @contextmanager
    def entered(self, window: Window) -> Iterator[None]:
        """Let this thread report to a window inside a ``with`` block. Blocks may end in any order."""
        thread = get_ident()
        with self._lock:
            self._entered[thread] = [window, *self._entered.get(thread, ())]
            self._choose()
        try:
            yield
        finally:
            with self._lock:
                self._entered[thread].remove(window)  # of several blocks on this window, the innermost
                self._choose()

    @contextmanager
    def run_by_this_thread(self) -> Iterator[None]:
        """Say that this thread runs the training, inside a ``with`` block."""
        with self._lock:
            outside, self._runs_training = self._runs_training, get_ident()
            self._choose()
        try:
            yield
        finally:
            with self._lock:
                self._runs_training = outside
                self._choose()

    def _choose(self) -> None:
        self._entered = {thread: windows for thread, windows in self._entered.items() if windows}
        innermost = {thread: windows[0] for thread, windows in self._entered.items()}
        self.current = innermost.pop(self._runs_training, self.windows["train"])
        self.elsewhere = innermost
