"""Replay: delivers a journal, or what is left of it, after the training and from any machine."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

from mtask_sinks.delivery.cursor import cursor_path, load_cursor
from mtask_sinks.delivery.pipeline import end_killed
from mtask_sinks.delivery.worker import Counts, What, Worker
from mtask_sinks.errors import StillAtWorkError
from mtask_sinks.journal.writer import Journal, journal_path
from mtask_sinks.sinks.base import Sink

# Seconds between two looks at how far the workers are.
_LOOK_SECONDS = 0.5


def replay(
    path: str | os.PathLike[str], sinks: Sequence[Sink], *, what: What = "left", patience: float = 60.0
) -> dict[str, Counts]:
    """Deliver what a journal has and a sink has not; returns what became of it, by name of the sink.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo, Snapshot
    >>> from mtask_sinks.sinks import MemorySink
    >>> directory = tempfile.mkdtemp()
    >>> journal = Journal(f"{directory}/metrics.jsonl")
    >>> journal.begin(RunInfo(id="1")); journal.append(Snapshot(step=10, metrics={"mlm/loss": 2.5}))
    >>> journal.end("1", "finished"); journal.close()
    >>> sink = MemorySink()
    >>> replay(directory, [sink])["memory"].delivered, sink.series("mlm/loss")
    (1, [(10, 2.5)])
    >>> replay(directory, [sink])["memory"].given           # nothing is left
    0

    Args:
        path: the journal, or the output directory of a training.
        sinks: one that has a cursor beside the journal goes on from there, into the backend's runs that it wrote to;
            any other one gets all of it, in runs of its own. A resumed training becomes one run there, in which each
            step stands once, as the training counted it at last.
        what: ``left`` is described above; ``all`` delivers all of it to all sinks, into the same runs as before: twice
            is as good as once; ``new`` delivers all of it into new runs.
        patience: seconds without any progress after which what is left is given up.

    A run that has no end, because its process was killed, ends as killed, here and in the journal.

    Raises:
        FileNotFoundError: there is no journal.
        StillAtWorkError: the process of the last run is there, on this machine.
    """
    file = journal_path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no journal {file}. Name the file, or the output directory of a training.")
    journal = Journal(file, eager=True)
    last = journal.begun_before(journal.end_position)
    if last is not None and last.is_at_work():
        raise StillAtWorkError(
            f"the training that writes {file} is at work (process {last.process[1]}) and delivers it itself. Wait for "
            "it to end."
        )
    end_killed(journal)
    known = {sink.name for sink in sinks if load_cursor(cursor_path(file, sink.name), journal.fingerprint)}
    workers = [Worker(sink, journal, what=what if sink.name in known or what != "left" else "all") for sink in sinks]
    for worker in workers:
        worker.finish()
    _wait(journal, workers, patience)
    journal.close()
    return {worker.sink.name: _counts(worker) for worker in workers}


def _counts(worker: Worker) -> Counts:
    """As they stand; not ``up`` if the worker is not done, were it only with the end of a run."""
    counts = worker.counts
    return replace(counts, state="down") if worker.is_alive() and counts.state == "up" else counts


def _wait(journal: Journal, workers: Sequence[Worker], patience: float) -> None:
    """Until all is delivered and every thread has ended, or nothing moves any more."""
    positions, since = [worker.position for worker in workers], time.monotonic()
    while any(worker.is_alive() for worker in workers) and time.monotonic() - since < patience:
        with journal.progress:
            journal.progress.wait(_LOOK_SECONDS)
        now = [worker.position for worker in workers]
        if now != positions:
            positions, since = now, time.monotonic()
