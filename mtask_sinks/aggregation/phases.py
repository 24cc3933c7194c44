"""Knows the window of each phase, and the window to which each thread reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock, get_ident

from mtask_sinks.aggregation.window import Window


class Phases:
    """The windows of a registry by phase, and the window to which each thread reports.

    A thread reports to the phase that it entered last and has not left. If it is in no phase, it reports to the window
    of the thread that runs the training, because nn.DataParallel's threads belong to that thread. If that thread is in
    no phase either, this is the window of ``train``.

    Attributes:
        windows: phase → its window.
        current: the window of the thread that runs the training, and of all threads that entered no phase.
        elsewhere: thread → its window, for the other threads that are inside a phase. Almost always empty.
    """

    def __init__(self) -> None:
        self.windows = {"train": Window()}
        self.current = self.windows["train"]
        self.elsewhere: dict[int, Window] = {}
        #: The threads that run the training, the innermost block first; the last one is the thread that made this.
        self._run_training = [get_ident()]
        self._entered: dict[int, list[Window]] = {}
        self._lock = RLock()

    @property
    def is_training_thread(self) -> bool:
        """Whether this thread runs the training."""
        return get_ident() == self._run_training[0]

    def has(self, phase: str) -> bool:
        """Return whether a phase has a window already."""
        return phase in self.windows

    def window(self, phase: str) -> Window:
        """Return the window of a phase; make it if there is none yet."""
        found = self.windows.get(phase)
        return self.windows.setdefault(phase, Window()) if found is None else found

    def window_of_this_thread(self) -> Window:
        """Return the window to which this thread reports: `current`, as long as `elsewhere` is empty."""
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
                self._entered[thread].remove(window)  # if several blocks have this window, the innermost
                self._choose()

    @contextmanager
    def set_aside(self, phase: str) -> Iterator[None]:
        """Give a phase a new window inside a ``with`` block. After it, the phase has its window from before again."""
        before = self.windows.pop(phase, None)
        try:
            yield
        finally:
            if before is not None:
                self.windows[phase] = before

    @contextmanager
    def run_by_this_thread(self) -> Iterator[None]:
        """Make this thread the one that runs the training, inside a ``with`` block. Blocks may end in any order."""
        thread = get_ident()
        with self._lock:
            self._run_training.insert(0, thread)
            self._choose()
        try:
            yield
        finally:
            with self._lock:
                self._run_training.remove(thread)  # if this thread has several blocks, the innermost
                self._choose()

    def _choose(self) -> None:
        self._entered = {thread: windows for thread, windows in self._entered.items() if windows}
        innermost = {thread: windows[0] for thread, windows in self._entered.items()}
        self.current = innermost.pop(self._run_training[0], self.windows["train"])
        self.elsewhere = innermost
