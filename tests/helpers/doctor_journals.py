"""Writes journals of a training, and returns what the doctor finds in them."""

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
    """Make log events of the training with these metrics (``a_loss=1.0`` for ``a/loss``) and its ``loss``."""
    metrics = {key.replace("__", "."): value for key, value in keys.items()}
    metrics = {key.replace("_", "/", 1): value for key, value in metrics.items()}
    return [Snapshot(step, metrics=metrics, logs={"loss": 1.0}) for step in steps]


def evaluated(*steps: int, **keys: float) -> list[Snapshot]:
    """Make log events of evaluations in the same way."""
    return [
        Snapshot(snapshot.step, "eval", snapshot.metrics, logs={"eval_loss": 1.0}) for snapshot in train(*steps, **keys)
    ]


def journal(
    directory: Path, snapshots: list[Snapshot], status: str | None = "finished", delivered: bool = True
) -> Path:
    """Write the journal of a training. If ``delivered``, TensorBoard has received all of it."""
    path = write(directory, (RUN, snapshots, status))
    if delivered:
        cursor(path, "tensorboard", offset=path.stat().st_size)
    return path


def cursor(path: Path, sink: str, offset: int, **changes: Any) -> None:
    """Write the cursor of a sink that has delivered the journal up to ``offset``."""
    where = cursor_path(path, sink)
    where.parent.mkdir(exist_ok=True)
    first_line = path.read_bytes().splitlines(keepends=True)[0]
    Cursor(fingerprint=fingerprint_of(first_line), offset=offset, **changes).save(where)


def of(directory, check: str, which: str = "") -> list[tuple[str, str]]:
    """Return place and text of all findings of one check."""
    findings = examine_path(f"{directory}{which}").findings
    return [(each.where, f"{each.what} {each.remedy}") for each in findings if each.check == check]


def only(directory: Path, check: str, which: str = "") -> tuple[str, str]:
    """Return place and text of the only finding of one check."""
    (found,) = of(directory, check, which)
    return found
