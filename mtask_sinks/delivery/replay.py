"""Delivers a journal, or the rest of it, after the training, from any machine that can read the file."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import get_args

from mtask_sinks._util.interrupts import InterruptsDeferred
from mtask_sinks._util.log import get_logger
from mtask_sinks.delivery.counts import SinkCounts, added
from mtask_sinks.delivery.cursor import Cursor, check_names, cursor_path, load_cursor
from mtask_sinks.delivery.own_record import OWN_RUNS, OwnRecord
from mtask_sinks.delivery.saved_cursor import ReplayScope
from mtask_sinks.delivery.trust import check_trust
from mtask_sinks.delivery.worker import Worker
from mtask_sinks.errors import StillAtWorkError
from mtask_sinks.journal.claim import open_if_free
from mtask_sinks.journal.paths import check_readable, journals_at
from mtask_sinks.journal.records import Begin
from mtask_sinks.journal.stream import JournalStream
from mtask_sinks.journal.writer import Journal
from mtask_sinks.sinks.base import Sink, check_are_sinks

logger = get_logger(__name__)

# How many seconds pass between two checks of the workers' positions.
_LOOK_SECONDS = 0.1


def replay(
    path: str | os.PathLike[str],
    sinks: Sequence[Sink],
    *,
    what: ReplayScope = "left",
    patience: float = 60.0,
    trust: bool = False,
    force: bool = False,
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
        path: a journal, or the output directory of a training, of which all journals are delivered.
        sinks: the sinks. A sink with a cursor beside the journal continues from there, in the backend runs to which it
            wrote before. Any other sink gets the whole journal, in new backend runs. A resumed training becomes one
            backend run; if the training computed a step twice, only the later value counts.
        what: ``left`` is described above. ``all`` delivers the whole journal to all sinks, into the same backend runs
            as before; doing that twice changes nothing. ``new`` delivers the whole journal into new backend runs.
        patience: seconds without any progress after which the replay gives up.
        trust: whether the journal may choose where the replay writes. Without it, the replay writes to new backend
            runs, to the directory of the journal, and to backend runs to which processes of this user have delivered
            this journal.
        force: whether to treat the process of the last run as ended, although a process with the same id still runs on
            this machine. If that process is the training after all, its sinks deliver too.

    If a run has no end because its process was killed, the replay ends it as killed, in the backends and in the
    journal.

    Returns:
        Sink's name → numbers of its snapshots.

    Raises:
        TypeError: ``sinks`` is no list of sinks, or a sink has no name.
        NoJournalError: there is no journal. It is a `FileNotFoundError`.
        OSError: a journal cannot be read. Then nothing is delivered.
        NoTrainingError: no line of a journal can be read. Then nothing is delivered either.
        StillAtWorkError: the process of the last run still runs on this machine.
        UntrustedJournalError: the journal names another place to write to.
        ValueError: two sinks have the same name, or a sink's name cannot be that of a file, or ``what`` has another
            value.
    """
    if what not in get_args(ReplayScope):
        raise ValueError(f"what={what!r} is not allowed. Use 'left', 'all' or 'new'.")
    check_are_sinks(sinks)
    check_names([sink.name for sink in sinks])
    files = journals_at(path)
    for file in files:  # one that cannot be read would look empty, as if it were delivered
        check_readable(file)
    import numpy  # noqa: F401  # here, because the import may fail if the threads of two backends do it at the same time

    hung: set[str] = set()
    each = [_replay_file(file, sinks, what, patience, trust, force, hung) for file in files]
    return {name: added([counts[name] for counts in each]) for name in each[0]}


def _refuse_twice(file: Path, stream: JournalStream, last: Begin, cursors: Mapping[str, Cursor]) -> None:
    """Raise an error if the process of a training that has ended still delivers the journal to one of the sinks."""
    if last.process[1] == os.getpid() or not last.is_at_work():
        return
    for name, cursor in cursors.items():
        is_of_run = last.sinks is None or name in last.sinks
        if is_of_run and cursor.offset < stream.offset_of(stream.end_position):
            raise StillAtWorkError(
                f"the training that wrote {file} has ended, but its process {last.process[1]} is still running, "
                f"and delivers to sink {name} what it lacks, as soon as its backend answers. Wait, or end that "
                "process (such as a notebook). If you know that it delivers nothing, run the same command with --force "
                "(in Python: force=True)."
            )


def _replay_file(
    file: Path, sinks: Sequence[Sink], what: ReplayScope, patience: float, trust: bool, force: bool, hung: set[str]
) -> dict[str, SinkCounts]:
    """Deliver one journal, but not to the sinks in ``hung``.

    If a call of a sink does not return, this adds the sink to ``hung``.
    """
    journal = Journal(file, eager=True)
    stream = journal.stream
    last = stream.open_run_at(stream.end_position)
    if last is not None and last.is_at_work():
        if not force:
            raise StillAtWorkError(
                f"the training that writes {file} is still running (process {last.process[1]}) and delivers the "
                "journal itself. Wait until it ends. If you know that this process is another program, run the same "
                "command with --force (in Python: force=True)."
            )
        message = (
            "process %d is running, and %s says that it is the training. Because of --force, the replay treats the "
            "training as killed. If it still runs, its sinks deliver the same snapshots, and W&B may show them twice."
        )
        logger.warning(message, last.process[1], file)
    begins = [record for _, record in stream.run_records if isinstance(record, Begin)]
    found = {sink.name: load_cursor(cursor_path(file, sink.name), stream.fingerprint) for sink in sinks}
    cursors = {name: cursor for name, cursor in found.items() if cursor is not None}
    if begins and not force:
        _refuse_twice(file, stream, begins[-1], cursors)
    if not trust:
        check_trust(file, stream, sinks, use_targets=what != "new")
    run_ids = {begin.run.id for begin in begins}
    trust_ids = trust or all(OwnRecord().holds(stream.fingerprint, OWN_RUNS, run_id) for run_id in run_ids)
    with _locked(file, force):
        journal.end_killed(take_for_ended=force)
        workers = [
            Worker(sink, stream, what=what if sink.name in cursors or what != "left" else "all", trust_ids=trust_ids)
            for sink in sinks
        ]
        at_work = [worker for worker in workers if worker.sink.name not in hung]
        try:
            for worker in at_work:
                worker.finish()
            _wait(stream, at_work, patience)
        finally:
            hung |= {worker.sink.name for worker in at_work if not worker.abandon()}
            journal.close()
    stream.left_out.warn(file)
    return {worker.sink.name: _counts(worker, stream.end_position) for worker in workers}


@contextmanager
def _locked(file: Path, force: bool) -> Iterator[None]:
    """Keep other replays and trainings from the journal inside a ``with`` block, if the file system has locks."""
    try:
        lock, writer = open_if_free(file)
    except OSError:  # such as a file that may not be changed
        lock, writer = None, ""
    if writer and not force:
        raise StillAtWorkError(
            f"{writer} has locked {file}: a training that writes it, or another replay. Wait until it ends. If you "
            "know that it delivers nothing, run the same command with --force (in Python: force=True)."
        )
    try:
        yield
    finally:
        if lock is not None:
            lock.close()


def _counts(worker: Worker, position: int) -> SinkCounts:
    """Return the worker's counts. The state is ``down`` if items are left, even if only the end of a run is left.

    Items are also left if somebody removed or shortened the journal during the replay.
    """
    counts = worker.counts
    is_done = worker.is_done(position) and not counts.pending
    return counts if is_done or counts.is_in_trouble else replace(counts, state="down")


def _wait(stream: JournalStream, workers: Sequence[Worker], patience: float) -> None:
    """Wait until every thread has delivered all items and ended, or until no worker moves for ``patience`` seconds."""
    positions, since = [worker.position for worker in workers], time.monotonic()
    while any(worker.is_alive() for worker in workers) and time.monotonic() - since < patience:
        with InterruptsDeferred(), stream.reader_advanced:
            stream.reader_advanced.wait(_LOOK_SECONDS)
        now = [worker.position for worker in workers]
        if now != positions:
            positions, since = now, time.monotonic()
