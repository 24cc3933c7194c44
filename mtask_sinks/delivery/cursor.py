"""Cursor: how far one sink has got in a journal, kept beside the journal."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

#: The cursors of `metrics.jsonl` are in the directory `metrics.delivery`.
DIRECTORY_SUFFIX = ".delivery"

# Reasons that are kept; further ones are counted.
_MAX_REASONS = 100


@dataclass
class Cursor:
    """What another process must know to go on with the delivery to a sink.

    Attributes:
        fingerprint: of the journal's file.
        offset: bytes of the file that are delivered.
        targets: run's id → how the sink finds the backend's run, see `Sink.target`.
        delivered: snapshots.
        failed: snapshots set aside, which the backend will never accept.
        reasons: step, phase and error of the first of these.
        pending: snapshots that waited when this was written.
        state: of the sink, when this was written.
        error: the last one, if the backend could not be reached.
    """

    fingerprint: str = ""
    offset: int = 0
    targets: dict[str, str] = field(default_factory=dict)
    delivered: int = 0
    failed: int = 0
    reasons: list[dict[str, str | int]] = field(default_factory=list)
    pending: int = 0
    state: str = "up"
    error: str | None = None

    def set_aside(self, step: int, phase: str, error: str) -> None:
        """Count a snapshot that the backend will never accept."""
        self.failed += 1
        if len(self.reasons) < _MAX_REASONS:
            self.reasons.append({"step": step, "phase": phase, "error": error})

    def save(self, path: Path) -> None:
        """Write it so that a reader never sees half of it; raises `OSError`."""
        path.parent.mkdir(exist_ok=True)
        new = path.with_name(f"{path.name}.{os.getpid()}.new")
        new.write_text(json.dumps(asdict(self), indent=1) + "\n")
        new.replace(path)


def cursor_path(journal: Path, sink: str) -> Path:
    """Where the cursor of a sink is kept."""
    return journal.with_suffix(DIRECTORY_SUFFIX) / f"{sink}.json"


def load_cursor(path: Path, fingerprint: str) -> Cursor | None:
    """The cursor kept there; ``None`` if there is none, or one that belongs to another journal."""
    try:
        record = json.loads(path.read_text())
        cursor = Cursor(**{f.name: record[f.name] for f in fields(Cursor)})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return cursor if cursor.fingerprint == fingerprint else None
