"""Decides from a sink's calls whether its backend is starting, up, down, hung or closed."""

from __future__ import annotations

import time

#: The states in which a backend takes no snapshots now. Only `status` uses ``behind``, for sinks of other processes.
TROUBLES = frozenset({"down", "hung", "stopped", "behind"})


class BackendState:
    """The state of a backend.

    >>> backend = BackendState(hung_after=60.0)
    >>> backend.state, backend.answer(), backend.state
    ('starting', None, 'up')
    >>> backend.go_down(); backend.state
    'down'
    >>> backend.recover() is None, backend.state, backend.recover() is None
    (False, 'up', True)
    >>> backend.close(); backend.state
    'closed'

    ``starting`` until the backend has accepted or rejected a first snapshot, then ``up``; ``down`` after calls have
    failed too often; ``hung`` while a call does not return; ``closed`` after the end of a run; ``stopped`` if the
    worker's thread has ended because of an error.

    The training's thread calls `notice_hang`; the worker's thread calls all other methods.

    Args:
        hung_after: seconds after which a call that has not returned counts as hung.
    """

    def __init__(self, hung_after: float) -> None:
        self._hung_after = hung_after
        self._has_answered = False
        self._is_closed = False
        self._is_stopped = False
        self._down_since: float | None = None
        #: Start of the current call; ``None`` if there is no call now.
        self._called_at: float | None = None
        self._is_hang_noticed = False

    @property
    def state(self) -> str:
        """``starting``, ``up``, ``down``, ``hung``, ``closed`` or ``stopped``."""
        if self._is_stopped:
            return "stopped"
        if self._is_hung():
            return "hung"
        if self._down_since is not None:
            return "down"
        if self._is_closed:
            return "closed"
        return "up" if self._has_answered else "starting"

    @property
    def is_in_trouble(self) -> bool:
        """Whether the backend does not take snapshots now, as far as this process knows."""
        return self.state in TROUBLES

    def start(self) -> None:
        """Note that the worker's thread starts."""
        self._is_stopped = False

    def stop(self) -> None:
        """Note that the worker's thread has ended because of an error."""
        self._is_stopped = True

    def open(self) -> None:
        """Note that a run is open."""
        self._is_closed = False

    def answer(self) -> None:
        """Note that the backend has accepted or rejected a snapshot."""
        self._has_answered = True

    def close(self) -> None:
        """Note that the run is closed."""
        self._is_closed = True

    def begin_call(self) -> None:
        """Note that a call of the sink begins."""
        self._called_at = time.monotonic()

    def end_call(self) -> None:
        """Note that the call has returned or raised."""
        self._called_at = None
        self._is_hang_noticed = False

    def notice_hang(self) -> bool:
        """Return whether a call hangs, once per call: later calls of this method return ``False``."""
        is_new = self._is_hung() and not self._is_hang_noticed
        if is_new:
            self._is_hang_noticed = True
        return is_new

    def go_down(self) -> None:
        """Note that the backend is down, because calls have failed too often."""
        self._down_since = time.monotonic()

    def recover(self) -> float | None:
        """Note that a call succeeded. Return how many seconds the backend was down, or ``None`` if it was up."""
        if self._down_since is None:
            return None
        seconds, self._down_since = time.monotonic() - self._down_since, None
        return seconds

    def _is_hung(self) -> bool:
        called_at = self._called_at  # a copy, because the worker's thread may change the attribute
        return called_at is not None and time.monotonic() - called_at > self._hung_after
