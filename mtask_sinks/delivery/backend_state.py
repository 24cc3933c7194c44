"""Decides from a sink's calls whether its backend is up, down or hung."""

from __future__ import annotations

import time


class BackendState:
    """The state of a backend: up, down after calls failed too often, or hung while a call does not return.

    >>> backend = BackendState(hung_after=60.0)
    >>> backend.begin_call(); backend.end_call(); backend.state
    'up'
    >>> backend.go_down(); backend.state
    'down'
    >>> backend.recover() is None, backend.state, backend.recover() is None
    (False, 'up', True)

    The training's thread calls `notice_hang`; the worker's thread calls all other methods.

    Args:
        hung_after: seconds after which a call that has not returned counts as hung.
    """

    def __init__(self, hung_after: float) -> None:
        self._hung_after = hung_after
        self._down_since: float | None = None
        #: Start of the current call; ``None`` if there is no call now.
        self._called_at: float | None = None
        self._is_hang_noticed = False

    @property
    def state(self) -> str:
        """``up``, ``down`` or ``hung``."""
        return "hung" if self._is_hung() else "up" if self._down_since is None else "down"

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
