"""Manages sub-runs: the directories to which a sink writes. TensorBoard shows each directory as one run."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from mtask_sinks.sinks.tensorboard.event_file import EventFile, read_events
from mtask_sinks.snapshot import Snapshot

#: Ending of the names of the run's own event files. Other writers may use the same directory.
RUN_SUFFIX = ".mtask"
#: Ending of the file names in the sub-run of a task. The same directory may contain other runs.
SUBRUN_SUFFIX = f".task{RUN_SUFFIX}"


class SubRun:
    """One directory with its open event file, and the events that earlier files hold.

    Args:
        directory: the directory; the first file creates it.
        suffix: ending of the file names: `RUN_SUFFIX` or `SUBRUN_SUFFIX`.

    Attributes:
        has_snapshot: whether the file already contains the current snapshot. If another sub-run cannot be written, the
            sink gets the same snapshot again.
    """

    def __init__(self, directory: Path, suffix: str) -> None:
        self.directory = directory
        self.has_snapshot = False
        self._suffix = suffix
        self._file: EventFile | None = None
        self._has_begun = False
        #: Step and time of each event in earlier files, and their tags; ``None`` before somebody asks for them.
        self._stored: tuple[set[tuple[int, float]], dict[str, None]] | None = None

    def open_file(self, first_events: Iterable[Any]) -> None:
        """Create an event file unless one is open.

        Args:
            first_events: events at the beginning of the first file. Later files (of an evaluation after training) do
                not repeat them.

        Raises:
            OSError: the file cannot be written. This method removes the file again.
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
            raise RuntimeError(f"no event file is open in {self.directory}. Call open_file() first.")
        self._file.add(event)
        self.has_snapshot = True

    def close_file(self) -> None:
        """Close the file, if one is open. The next file does not begin with the first events again."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def is_damaged(self) -> bool:
        """Return whether somebody removed, replaced or shortened the open file."""
        return self._file is not None and not self._file.is_unchanged()

    def has_stored(self, snapshot: Snapshot) -> bool:
        """Return whether the directory held an event of this step and time when this object first looked."""
        return (snapshot.step, snapshot.time) in self._read_stored()[0]

    def stored_tags(self) -> Collection[str]:
        """Return the tags of the events that the directory held when this object first looked, in their order."""
        return self._read_stored()[1]

    def _read_stored(self) -> tuple[set[tuple[int, float]], dict[str, None]]:
        if self._stored is None:
            times: set[tuple[int, float]] = set()
            tags: dict[str, None] = {}
            for event in read_events(self.directory, self._suffix):
                if event.HasField("summary"):
                    times.add((event.step, event.wall_time))
                    tags.update((value.tag, None) for value in event.summary.value)
            self._stored = times, tags
        return self._stored
