"""Delivers a journal, or the rest of it, after the training, from any machine that can read the file."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace

from mtask_sinks.delivery.counts import SinkCounts
from mtask_sinks.delivery.cursor import cursor_path, load_cursor
from mtask_sinks.delivery.pipeline import end_killed
from mtask_sinks.delivery.worker import ReplayScope, Worker
from mtask_sinks.errors import StillAtWorkError
from mtask_sinks.journal.stream import JournalStream
from mtask_sinks.journal.writer import Journal, journal_path
from mtask_sinks.sinks.base import Sink

# Seconds between two checks of how far the workers are.
_LOOK_SECONDS = 0.5


def replay(
    path: str | os.PathLike[str], sinks: Sequence[Sink], *, what: ReplayScope = "left", patience: float = 60.0
) -> dict[str, SinkCounts]:
    """Deliver to each sink the snapshots of a journal that the sink lacks.

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
        sinks: the sinks. A sink with a cursor beside the journal continues from there, in the backend runs to which it
            wrote before. Any other sink gets the whole journal, in new backend runs. A resumed training becomes one
            backend run; if the training computed a step twice, only the later value counts.
        what: ``left`` is described above. ``all`` delivers the whole journal to all sinks, into the same backend runs
            as before; a repetition changes nothing. ``new`` delivers the whole journal into new backend runs.
        patience: seconds without any progress after which the replay gives up.

    If a run has no end because its process was killed, the replay ends it as killed, in the backends and in the
    journal.

    Returns:
        Sink's name → numbers of its snapshots.

    Raises:
        FileNotFoundError: there is no journal.
        StillAtWorkError: the process of the last run still runs on this machine.
    """
    file = journal_path(path)
    if not file.is_file():
        raise FileNotFoundError(f"there is no journal {file}. Name the file, or the output directory of a training.")
    journal = Journal(file, eager=True)
    stream = journal.stream
    last = stream.open_run_at(stream.end_position)
    if last is not None and last.is_at_work():
        raise StillAtWorkError(
            f"the training that writes {file} is still running (process {last.process[1]}) and delivers the journal "
            "itself. Wait until it ends."
        )
    end_killed(journal)
    known = {sink.name for sink in sinks if load_cursor(cursor_path(file, sink.name), stream.fingerprint)}
    workers = [Worker(sink, stream, what=what if sink.name in known or what != "left" else "all") for sink in sinks]
    for worker in workers:
        worker.finish()
    _wait(stream, workers, patience)
    journal.close()
    return {worker.sink.name: _counts(worker) for worker in workers}


def _counts(worker: Worker) -> SinkCounts:
    """Return the worker's counts. The state is not ``up`` if items are left, even if only the end of a run is left."""
    counts = worker.counts
    return replace(counts, state="down") if worker.is_alive() and counts.state == "up" else counts


def _wait(stream: JournalStream, workers: Sequence[Worker], patience: float) -> None:
    """Wait until every thread has delivered all items and ended, or until no worker moves for ``patience`` seconds."""
    positions, since = [worker.position for worker in workers], time.monotonic()
    while any(worker.is_alive() for worker in workers) and time.monotonic() - since < patience:
        with stream.reader_advanced:
            stream.reader_advanced.wait(_LOOK_SECONDS)
        now = [worker.position for worker in workers]
        if now != positions:
            positions, since = now, time.monotonic()
