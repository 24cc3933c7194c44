"""Loads the cursor of one worker from its file, and saves it there."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Literal

from mtask_sinks._util.log import get_logger
from mtask_sinks.delivery.cursor import Cursor, cursor_path, load_cursor
from mtask_sinks.delivery.own_record import OWN_RUNS, OwnRecord
from mtask_sinks.delivery.progress import Progress
from mtask_sinks.delivery.run_targets import RunTargets
from mtask_sinks.delivery.shared_cursor import SharedCursor, Standing
from mtask_sinks.journal.stream import JournalStream

logger = get_logger(__name__)

ReplayScope = Literal["left", "all", "new"]

# Numbers for the workers of this process, for `SharedCursor`. `id(worker)` is not suitable: Python may use it again.
_numbers = itertools.count()


class SavedCursor:
    """Tells a worker where to begin, and saves how far it has got.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo
    >>> from mtask_sinks.journal.writer import Journal
    >>> journal = Journal(f"{tempfile.mkdtemp()}/metrics.jsonl", eager=True)
    >>> journal.begin(RunInfo(id="1")); journal.close()
    >>> SavedCursor(journal.stream, "mlflow", "left").position == journal.stream.end_position  # no cursor: later items
    True
    >>> SavedCursor(journal.stream, "mlflow", "all").position
    0

    Args:
        stream: the stream of the journal.
        sink: name of the sink.
        what: as for `Worker`.
        is_shared: whether other workers of this process may save the same cursor.
        is_over: tells whether the worker will never have items to deliver again, unless somebody starts it again.

    Attributes:
        cursor: the cursor that the worker continues.
        position: the position from which the worker delivers.
    """

    def __init__(
        self,
        stream: JournalStream,
        sink: str,
        what: ReplayScope,
        *,
        is_shared: bool = False,
        is_over: Callable[[], bool] = lambda: True,
    ) -> None:
        self._stream = stream
        self._sink = sink
        self._is_shared = is_shared
        self._is_over = is_over
        self._number = next(_numbers)
        self._own = OwnRecord()
        self.cursor, self.position = _find_start(stream, self._path, what)
        shared = SharedCursor.find(self._path, stream.fingerprint) if is_shared else None
        if shared is not None:
            self.cursor.targets, self.position = shared.targets, stream.end_position

    @property
    def _path(self) -> Path | None:
        """Where the cursor is; ``None`` without a file. The journal may move to another file."""
        return None if self._stream.path is None else cursor_path(self._stream.path, self._sink)

    def save(self, progress: Progress, targets: RunTargets) -> None:
        """Save the cursor for other processes. This never raises an error of the disk.

        Args:
            progress: how far the worker has got.
            targets: the backend runs that it has opened.
        """
        path = self._path
        if path is None or not self._stream.fingerprint:
            return  # without a fingerprint there is no journal file, so a cursor would have no meaning
        try:
            with self._offset_to_save(path, progress, targets) as offset:
                progress.to_cursor(self._stream.fingerprint, offset).save(path)
            self._remember(self._stream.fingerprint, targets)
        except Exception as error:
            logger.debug("the cursor of sink %s could not be saved: %s", self._sink, error)

    def _offset_to_save(self, path: Path, progress: Progress, targets: RunTargets) -> AbstractContextManager[int]:
        if not self._is_shared:
            return nullcontext(self._stream.offset_of(progress.safe_position))
        shared = SharedCursor.join(path, self._stream.fingerprint, targets.targets)
        return shared.saving(self._number, partial(self._standing, path, progress))

    def _standing(self, path: Path, progress: Progress) -> Standing:
        """Tell other workers of the same cursor how far this one is."""
        if self._path != path:  # the journal has moved to another file, which has its own cursor
            return Standing(0, is_behind=False, is_over=True)
        safe = progress.safe_position
        is_behind = safe < self._stream.end_position
        return Standing(self._stream.offset_of(safe), is_behind, is_over=not is_behind and self._is_over())

    def _remember(self, fingerprint: str, targets: RunTargets) -> None:
        """Record which runs belong to this user. A replay relies on the record, because anybody may write a journal."""
        for target in targets.opened | {run.existing(self._sink) for run in targets.live.values()} - {None}:
            self._own.add(fingerprint, self._sink, str(target))
        for run_id in targets.live:
            self._own.add(fingerprint, OWN_RUNS, run_id)


def _find_start(stream: JournalStream, path: Path | None, what: ReplayScope) -> tuple[Cursor, int]:
    """Return the cursor that a worker continues, and the position from which it delivers."""
    saved = None if path is None else load_cursor(path, stream.fingerprint)
    if what == "left":
        position = None if saved is None else stream.position_of(saved.offset)
        return saved or Cursor(), stream.end_position if position is None else position
    targets = saved.targets if saved is not None and what == "all" else {}
    return Cursor(targets=targets), 0
