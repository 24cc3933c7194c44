"""Delivery: brings snapshots to the journal and from there to the sinks, out of the training's way."""

from __future__ import annotations

import atexit
import logging
import os
import shlex
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from mtask_sinks.delivery.worker import Counts, Worker
from mtask_sinks.journal.writer import FILE_NAME, Journal
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.snapshot import RunInfo, Snapshot

logger = logging.getLogger(__name__)

#: Seconds that the end of a training waits for its sinks.
DRAIN_SECONDS = 30.0

# Seconds after which a wait for the end says what it waits for.
_QUIET_SECONDS = 2.0


class Delivery:
    """Writes every snapshot to the journal and hands it to every sink.

    >>> from mtask_sinks.sinks import MemorySink
    >>> sink = MemorySink()
    >>> delivery = Delivery([sink])
    >>> delivery.open(RunInfo(id="1"))
    >>> delivery.write(Snapshot(step=1, metrics={"mlm/loss": 2.5}))
    >>> delivery.close("finished")
    >>> sink.series("mlm/loss"), delivery.counts["memory"].delivered
    ([(1, 2.5)], 1)

    The journal is ``metrics.jsonl`` in the output directory of the run; without one snapshots are kept in memory alone,
    bounded. Calls return at once: each sink has a thread of its own that follows the journal, so one that is slow,
    fails or hangs holds up nobody and loses nothing. `close` waits for all sinks together, for a bounded time, and says
    what is left and how to deliver it later.

    In a forked process (a worker of a data loader) all of this does nothing.
    """

    def __init__(self, sinks: Sequence[Sink], drain_seconds: float = DRAIN_SECONDS) -> None:
        names = [sink.name for sink in sinks]
        if len({*names}) < len(names):
            raise ValueError(f"two sinks have one name: {', '.join(names)}. Give each sink class a name of its own.")
        self.sinks = list(sinks)
        self._drain_seconds = drain_seconds
        self._journal: Journal | None = None
        self._workers: list[Worker] = []
        self._run: RunInfo | None = None
        #: Run's id → how it ended, for what comes after its end.
        self._ended: dict[str, Status] = {}
        self._process = os.getpid()
        #: How a run ends that the interpreter's exit ends.
        self.exit_status: Status = "finished"

    @property
    def counts(self) -> dict[str, Counts]:
        """Counts by name of the sink."""
        return {worker.sink.name: worker.counts for worker in self._workers}

    def open(self, run: RunInfo, begun_at: float | None = None) -> None:
        """Begin or continue a run, in the journal and on every sink; it began at a time (seconds since 1970) or now."""
        journal = self._journal_of(run)
        if self._run is not None and self._run.id != run.id:
            journal.end(self._run.id, self._ended.get(self._run.id, "finished"))
        for worker in self._workers:
            worker.expect(run)
        journal.begin(run, begun_at)
        for worker in self._workers:
            worker.begin()
        self._run = run
        _close_at_exit(self)

    def write(self, snapshot: Snapshot) -> None:
        """Give the journal and every sink a snapshot."""
        if self._journal is None or self._is_forked():
            return
        for worker in self._workers:
            worker.give()
        self._journal.append(snapshot)

    def close(self, status: Status, seconds: float | None = None) -> None:
        """Let every sink finish what it has and close, and wait for that; says what is left undone.

        Args:
            status: how the run ended.
            seconds: to wait at most, if less than ever.
        """
        run, journal = self._run, self._journal
        if run is None or journal is None or self._is_forked():
            return
        self._run = None
        _open_deliveries.discard(self)
        self._ended[run.id] = status
        journal.end(run.id, status)
        journal.close()
        self._drain(journal, self._drain_seconds if seconds is None else min(seconds, self._drain_seconds))

    def at_exit(self) -> None:
        """Close when the interpreter exits, if nobody did."""
        if self._run is not None:
            self.close(self._ended.get(self._run.id, self.exit_status))

    def confirm(self) -> None:
        """Note what has survived, after the backends' own ends at the exit of the interpreter."""
        if not self._is_forked():
            for worker in self._workers:
                worker.confirm()

    def _journal_of(self, run: RunInfo) -> Journal:
        # Absolute: the last lines are written when the process ends, wherever it works by then.
        path = None if run.output_dir is None else Path(run.output_dir, FILE_NAME).absolute()
        if self._journal is None or self._journal.path != path or self._is_forked():
            self._process = os.getpid()
            self._run = None
            self._journal = Journal(path, eager=bool(self.sinks))
            self._workers = [Worker(sink, self._journal) for sink in self.sinks]
            end_killed(self._journal)
        return self._journal

    def _drain(self, journal: Journal, seconds: float) -> None:
        position, deadline = journal.end_position, time.monotonic() + seconds
        for worker in self._workers:
            worker.finish()
        try:
            if not self._wait(journal, position, min(_QUIET_SECONDS, seconds)) and seconds > _QUIET_SECONDS:
                waiting = ", ".join(worker.sink.name for worker in self._workers if not worker.is_done(position))
                message = "waiting up to %g s for %s; Ctrl-C ends the wait, and what is not delivered can be later."
                logger.warning(message, seconds, waiting)
                self._wait(journal, position, deadline - time.monotonic())
        finally:
            for worker in self._workers:
                worker.relax()
                self._say_what_is_left(worker, journal, position, seconds)

    def _wait(self, journal: Journal, position: int, seconds: float) -> bool:
        with journal.progress:
            return journal.progress.wait_for(
                lambda: all(worker.is_done(position) for worker in self._workers), max(seconds, 0.0)
            )

    def _say_what_is_left(self, worker: Worker, journal: Journal, position: int, seconds: float) -> None:
        counts, name = worker.counts, worker.sink.name
        if counts.failed:
            message = "sink %s: %d of %d snapshots were set aside, which it will never accept. The first: %s"
            logger.warning(message, name, counts.failed, counts.given, counts.error)
        if worker.is_done(position):
            if counts.pending:
                message = "sink %s: %d snapshots are lost: the journal could not be written, or was removed."
                logger.warning(message, name, counts.pending)
            return
        message = "sink %s (%s%s): of %d snapshots %d were delivered, %d were not within %g s.%s"
        error = f", {counts.error}" if counts.error else ""
        later = "" if journal.path is None else f" To deliver what is left: {_command(worker.sink, journal.path)}"
        numbers = (counts.given, counts.delivered, counts.pending, seconds)
        logger.warning(message, name, counts.state, error, *numbers, later)

    def _is_forked(self) -> bool:
        return self._process != os.getpid()


def end_killed(journal: Journal) -> None:
    """Say of the journal's last run that it was killed, if it has not ended and its process is gone."""
    last = journal.begun_before(journal.end_position)
    if last is not None and not last.is_at_work():
        journal.end(last.run.id, "killed")


def _command(sink: Sink, path: Path) -> str:
    variables = [f"{name}={shlex.quote(value)}" for name, value in sink.environment().items()]
    return " ".join([*variables, "mtask-sinks", "replay", shlex.quote(str(path)), "--to", sink.name])


# Held until it is closed: a trainer that only evaluates may be gone long before the exit.
_open_deliveries: set[Delivery] = set()
_all_deliveries: weakref.WeakSet[Delivery] = weakref.WeakSet()


def _close_at_exit(delivery: Delivery) -> None:
    """Close when the interpreter exits, if nobody did.

    Registered anew at every opening: exit handlers run last in, first out, and a backend's own must run after this.
    """
    _open_deliveries.add(delivery)
    _all_deliveries.add(delivery)
    atexit.unregister(_close_all)
    atexit.register(_close_all)


def _close_all() -> None:
    for delivery in list(_open_deliveries):
        delivery.at_exit()


def _confirm_all() -> None:
    for delivery in list(_all_deliveries):
        delivery.confirm()


# The first to be registered is the last to be called, after what backends registered when their runs began.
atexit.register(_confirm_all)
