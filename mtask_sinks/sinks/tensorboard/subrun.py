"""Sub-runs: the directories that a sink writes to, each of which TensorBoard shows as one run."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mtask_sinks.sinks.tensorboard.event_file import EventFile, read_events
from mtask_sinks.snapshot import Snapshot

#: File names of the run's own event files end so; other writers may use the same directory.
RUN_SUFFIX = ".mtask"
#: File names in the sub-run of a task end so; other runs may lie below the same directory.
SUBRUN_SUFFIX = f".task{RUN_SUFFIX}"


class SubRun:
    """One directory, the event file in it that is written to, and the events that earlier files hold.

    Args:
        directory: created with the first file.
        suffix: of the file names: `RUN_SUFFIX` or `SUBRUN_SUFFIX`.

    Attributes:
        has_snapshot: whether the snapshot that is being written is in the file already. If another sub-run cannot be
            written, the sink gets the same snapshot again.
    """

    def __init__(self, directory: Path, suffix: str) -> None:
        self.directory = directory
        self.has_snapshot = False
        self._suffix = suffix
        self._file: EventFile | None = None
        self._has_begun = False
        #: Step and time of each event in earlier files; ``None`` before they were read.
        self._stored: set[tuple[int, float]] | None = None

    def open_file(self, first_events: Iterable[Any]) -> None:
        """Create an event file unless one is open.

        Args:
            first_events: the first file begins with them. Later files (of an evaluation after training) do not.

        Raises:
            OSError: the file cannot be written; it is removed again.
        """
        if self._file is not None:
            return
        file = EventFile(self.directory, self._suffix)
        try:
            for event in () if self._has_begun else first_events:
                file.add(event)
        except OSError:
            file.close()
            file.path.unlink(missing_ok=True)
            raise
        self._file, self._has_begun = file, True

    def write(self, event: Any) -> None:
        """Append the event of the current snapshot to the open file."""
        if self._file is None:
            raise RuntimeError(f"no event file is open in {self.directory}")
        self._file.add(event)
        self.has_snapshot = True

    def close_file(self) -> None:
        """Close the file, if one is open. The next one does not begin with the first events again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def is_removed(self) -> bool:
        """Whether somebody removed the open file."""
        return self._file is not None and not self._file.is_there()

    def has_stored(self, snapshot: Snapshot) -> bool:
        """Whether an event of this step and time was in the directory when this method was first called."""
        if self._stored is None:
            events = read_events(self.directory, self._suffix)
            self._stored = {(event.step, event.wall_time) for event in events if event.HasField("summary")}
        return (snapshot.step, snapshot.time) in self._stored
