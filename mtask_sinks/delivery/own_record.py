"""Remembers where this user's own processes have delivered a journal to, in the user's state directory."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.state_directory import state_directory

logger = get_logger(__name__)

_FILE_NAME = "targets.jsonl"

#: Used in place of a sink's name, for the ids of the runs that processes of this user wrote to the journal.
OWN_RUNS = "(own runs)"


class OwnRecord:
    """The backend runs to which this user's own processes have delivered: one line per journal, sink and backend run.

    >>> import tempfile
    >>> record, delivered = OwnRecord(Path(tempfile.mkdtemp())), ("0a1b", "mlflow", "f00d")
    >>> record.holds(*delivered), record.add(*delivered), record.holds(*delivered)
    (False, True, True)

    A journal and the cursors beside it may come from somebody else, who could name any run of any server in them. So a
    replay believes such a name only if this record has it too.

    Args:
        directory: the directory of the file; by default the user's state directory.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._added: set[tuple[str, str, str]] = set()

    def add(self, fingerprint: str, sink: str, target: str) -> bool:
        """Remember that a process of this user delivers a journal to a backend run.

        Args:
            fingerprint: the fingerprint of the journal.
            sink: name of the sink.
            target: identifier of the backend's run, see `Sink.target`.

        Returns:
            Whether the record has it now. If the disk does not accept the line, the function returns ``False``.
        """
        if (fingerprint, sink, target) in self._added or self.holds(fingerprint, sink, target):
            self._added.add((fingerprint, sink, target))
            return True
        line = json.dumps({"journal": fingerprint, "sink": sink, "target": target}).encode() + b"\n"
        try:
            path = self._path()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
            try:
                os.write(file, line)  # one write, because other processes may add lines now
            finally:
                os.close(file)
        except OSError as error:
            logger.debug("the backend run of sink %s cannot be recorded: %s", sink, error)
            return False
        self._added.add((fingerprint, sink, target))
        return True

    def holds(self, fingerprint: str, sink: str, target: str) -> bool:
        """Return whether a process of this user has delivered this journal to this backend run."""
        wanted = {"journal": fingerprint, "sink": sink, "target": target}
        return bool(fingerprint) and any(line == wanted for line in self._lines(fingerprint))

    def _lines(self, fingerprint: str) -> Iterator[object]:
        """Yield the lines about one journal. This decodes no others, because the file grows with every training."""
        try:
            file = os.open(self._path(), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        except OSError:
            return
        with os.fdopen(file, "rb") as lines:
            if not _is_mine(os.fstat(lines.fileno())):
                return
            for line in lines:
                if fingerprint.encode() not in line:
                    continue
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    continue

    def _path(self) -> Path:
        return (self._directory or state_directory()) / _FILE_NAME


def _is_mine(status: os.stat_result) -> bool:
    """Return whether only this user can write the file. On Windows, the permissions of the directory ensure that."""
    if os.name == "nt":
        return True
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022
