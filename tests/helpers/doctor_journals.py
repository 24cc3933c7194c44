"""Journals of a training, and what the doctor finds in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from helpers.journals import write
from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.delivery.cursor import Cursor, cursor_path
from mtask_sinks.doctor.examination import examine_path
from mtask_sinks.journal.records import fingerprint_of

RUN = RunInfo(id="1", name="bert")


def train(*steps: int, **keys: float) -> list[Snapshot]:
    """Log events of the training with these metrics, ``a_loss=1.0`` for ``a/loss``; and its ``loss``, as ever."""
    metrics = {key.replace("__", "."): value for key, value in keys.items()}
    metrics = {key.replace("_", "/", 1): value for key, value in metrics.items()}
    return [Snapshot(step, metrics=metrics, logs={"loss": 1.0}) for step in steps]


def evaluated(*steps: int, **keys: float) -> list[Snapshot]:
    """Likewise of evaluations."""
    return [
        Snapshot(snapshot.step, "eval", snapshot.metrics, logs={"eval_loss": 1.0}) for snapshot in train(*steps, **keys)
    ]


def journal(
    directory: Path, snapshots: list[Snapshot], status: str | None = "finished", delivered: bool = True
) -> Path:
    """The journal of a training; TensorBoard has all of it, if it was delivered."""
    path = write(directory, (RUN, snapshots, status))
    if delivered:
        cursor(path, "tensorboard", offset=path.stat().st_size)
    return path


def cursor(path: Path, sink: str, offset: int, **changes: Any) -> None:
    """A sink has delivered a journal up to there."""
    where = cursor_path(path, sink)
    where.parent.mkdir(exist_ok=True)
    first_line = path.read_bytes().splitlines(keepends=True)[0]
    Cursor(fingerprint=fingerprint_of(first_line), offset=offset, **changes).save(where)


def of(directory, check: str, which: str = "") -> list[tuple[str, str]]:
    """Where it found something, and what."""
    findings = examine_path(f"{directory}{which}").findings
    return [(each.where, f"{each.what} {each.remedy}") for each in findings if each.check == check]


def only(directory: Path, check: str, which: str = "") -> tuple[str, str]:
    """Likewise, of the one finding that there is."""
    (found,) = of(directory, check, which)
    return found
