"""Saves how far one sink has got in a journal, in a file beside the journal."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

#: The cursors of ``metrics.jsonl`` are in the directory ``metrics.delivery``.
DIRECTORY_SUFFIX = ".delivery"

# Number of rejected snapshots whose reason the cursor keeps. It only counts the others.
_MAX_REASONS = 100


@dataclass
class Cursor:
    """The data that another process needs to continue the delivery to a sink.

    >>> import tempfile
    >>> path = cursor_path(Path(tempfile.mkdtemp(), "metrics.jsonl"), "wandb")
    >>> cursor = Cursor(fingerprint="0a1b", offset=1200, delivered=4)
    >>> cursor.reject(step=50, phase="train", error="Rejected: too long")
    >>> cursor.save(path)
    >>> load_cursor(path, "0a1b") == cursor, load_cursor(path, "of another journal")
    (True, None)

    Attributes:
        fingerprint: the fingerprint of the journal.
        offset: how many bytes of the journal's file are delivered.
        targets: run's id → identifier of the backend's run, see `Sink.target`.
        delivered: number of snapshots that the process which wrote this cursor has delivered.
        rejected: number of snapshots that the backend will never accept.
        reasons: step, phase and error of the first rejected snapshots.
        pending: number of snapshots that waited when this cursor was written.
        state: state of the sink when this cursor was written.
        error: the last error, if the backend was not up.
    """

    fingerprint: str = ""
    offset: int = 0
    targets: dict[str, str] = field(default_factory=dict)
    delivered: int = 0
    rejected: int = 0
    reasons: list[dict[str, str | int]] = field(default_factory=list)
    pending: int = 0
    state: str = "up"
    error: str | None = None

    def reject(self, step: int, phase: str, error: str) -> None:
        """Count a snapshot that the backend will never accept."""
        self.rejected += 1
        if len(self.reasons) < _MAX_REASONS:
            self.reasons.append({"step": step, "phase": phase, "error": error})

    def save(self, path: Path) -> None:
        """Write the file so that a reader never sees a part of it.

        Raises:
            OSError: the disk does not accept the file.
        """
        path.parent.mkdir(exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        new.write_text(json.dumps(asdict(self), indent=1) + "\n")
        new.replace(path)


def cursor_path(journal: Path, sink: str) -> Path:
    """Return the path of a sink's cursor."""
    return journal.with_suffix(DIRECTORY_SUFFIX) / f"{sink}.json"


def load_cursor(path: Path, fingerprint: str) -> Cursor | None:
    """Return the cursor in a file; ``None`` if there is no cursor, or if it belongs to another journal."""
    try:
        record = json.loads(path.read_text())
        if "failed" in record:  # the older name of `rejected`
            record["rejected"] = record["failed"]
        cursor = Cursor(**{f.name: record[f.name] for f in fields(Cursor)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return cursor if cursor.fingerprint == fingerprint else None
