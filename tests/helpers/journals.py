"""Writes journals as other processes leave them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks.journal.writer import Journal


def losses(*steps: int, phase: str = "train", at: float = 1000.0, factor: float = 10.0) -> list[Snapshot]:
    """Make snapshots in which the loss of task ``a`` is ``factor * step``, from four reports, at time ``at + step``."""
    return [Snapshot(s, phase, {"a/loss": factor * s}, epoch=s / 10, time=at + s, counts={"a/loss": 4}) for s in steps]


def write(directory: Path, *runs: tuple[RunInfo, list[Snapshot], str | None]) -> Path:
    """Write or continue the journal in a directory. A run without a status has not ended."""
    path = directory / "metrics.jsonl"
    for run, snapshots, status in runs:
        journal = Journal(path, eager=True)
        journal.begin(run)
        for snapshot in snapshots:
            journal.append(snapshot)
        if status is not None:
            journal.end(run.id, status)
        journal.close()
    return path


def as_of_process(path: Path, host: str, process: int) -> None:
    """Change a journal so that this process wrote every run."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        if record["record"] == "run":
            record |= {"process": [host, process, "token"], "started": None}
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def ended_process() -> int:
    """Return the id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(60)
    return process.pid
