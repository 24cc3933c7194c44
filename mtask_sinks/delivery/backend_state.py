"""Whether a sink's backend is up, down or hung, as its calls show."""

from __future__ import annotations

import time


class BackendState:
    """Up; down once calls have failed too often; hung while a call does not return.

    >>> backend = BackendState(hung_after=60.0)
    >>> backend.begin_call(); backend.end_call(); backend.state
    'up'
    >>> backend.go_down(); backend.state
    'down'
    >>> backend.recover() is None, backend.state, backend.recover() is None
    (False, 'up', True)

    The worker's thread calls all methods but `notice_hang`, which the training's thread calls.

    Args:
        hung_after: seconds after which a call that has not returned counts as hung.
    """

    def __init__(self, hung_after: float) -> None:
        self._hung_after = hung_after
        self._down_since: float | None = None
        #: When the call that is under way began.
        self._called_at: float | None = None
        self._is_hang_noticed = False

    @property
    def state(self) -> str:
        """``up``, ``down`` or ``hung``."""
        return "hung" if self._is_hung() else "up" if self._down_since is None else "down"

    def begin_call(self) -> None:
        """A call of the sink begins."""
        self._called_at = time.monotonic()

    def end_call(self) -> None:
        """The call has returned or raised."""
        self._called_at = None
        self._is_hang_noticed = False

    def notice_hang(self) -> bool:
        """Whether a call hangs of which this was not said before."""
        is_new = self._is_hung() and not self._is_hang_noticed
        if is_new:
            self._is_hang_noticed = True
        return is_new

    def go_down(self) -> None:
        """Calls have failed so often that the backend counts as down."""
        self._down_since = time.monotonic()

    def recover(self) -> float | None:
        """A call succeeded. Returns how many seconds the backend was down; ``None`` if it was up."""
        if self._down_since is None:
            return None
        seconds, self._down_since = time.monotonic() - self._down_since, None
        return seconds

    def _is_hung(self) -> bool:
        called_at = self._called_at  # read once: the worker's thread may change it in between
        return called_at is not None and time.monotonic() - called_at > self._hung_after
