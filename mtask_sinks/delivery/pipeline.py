"""Writes snapshots to the journal, from which each sink gets them without slowing down the training."""

from __future__ import annotations

import atexit
import logging
import os
import shlex
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from mtask_sinks.delivery.counts import SinkCounts
from mtask_sinks.delivery.worker import Worker
from mtask_sinks.journal.writer import FILE_NAME, Journal
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.snapshot import RunInfo, Snapshot

logger = logging.getLogger(__name__)

#: How many seconds a training waits for its sinks when it ends.
DRAIN_SECONDS = 30.0

# Seconds of this wait after which a message names the sinks that are behind.
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

    The journal is ``metrics.jsonl`` in the output directory of the run. Without an output directory, the snapshots stay
    in memory, up to a limit. Each sink has its own thread, which follows the journal. So calls return immediately, and
    a sink that is slow, fails or hangs delays nobody and loses nothing. `close` waits for all sinks together, for a
    limited time. If it could not deliver some snapshots, it logs the command that delivers them later.

    In a forked process (a worker of a data loader), all calls do nothing.

    Args:
        sinks: the sinks. Each needs its own name.
        drain_seconds: the longest time that `close` waits.

    Attributes:
        sinks: as given.
        exit_status: the status of the run if the interpreter exits before `close`.

    Raises:
        ValueError: two sinks have the same name.
    """

    def __init__(self, sinks: Sequence[Sink], drain_seconds: float = DRAIN_SECONDS) -> None:
        names = [sink.name for sink in sinks]
        if len({*names}) < len(names):
            raise ValueError(f"two sinks have the same name: {', '.join(names)}. Give each sink class its own name.")
        self.sinks = list(sinks)
        self._drain_seconds = drain_seconds
        self._journal: Journal | None = None
        self._workers: list[Worker] = []
        self._run: RunInfo | None = None
        #: Run's id → status at its end. A run may continue after its end.
        self._ended: dict[str, Status] = {}
        self._process = os.getpid()
        self.exit_status: Status = "finished"

    @property
    def counts(self) -> dict[str, SinkCounts]:
        """Sink's name → numbers of its snapshots: delivered, rejected, pending."""
        return {worker.sink.name: worker.counts for worker in self._workers}

    def open(self, run: RunInfo, begun_at: float | None = None) -> None:
        """Begin or continue a run, in the journal and on every sink.

        Args:
            run: the run.
            begun_at: when the run began, in seconds since 1970 (UTC); by default now.
        """
        journal = self._journal_for(run)
        if self._run is not None and self._run.id != run.id:
            journal.end(self._run.id, self._ended.get(self._run.id, "finished"))
        for worker in self._workers:
            worker.expect_run(run)
        journal.begin(run, begun_at)
        for worker in self._workers:
            worker.start()
        self._run = run
        _close_at_exit(self)

    def write(self, snapshot: Snapshot) -> None:
        """Write a snapshot to the journal, from which every sink gets it."""
        if self._journal is None or self._is_forked():
            return
        for worker in self._workers:
            worker.expect_snapshot()
        self._journal.append(snapshot)

    def close(self, status: Status, seconds: float | None = None) -> None:
        """Wait until every sink has finished and closed. Log a warning for each sink that did not get all snapshots.

        Args:
            status: how the run ended.
            seconds: the longest time to wait, if less than ``drain_seconds``.
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
        """Close at the exit of the interpreter, if nobody has called `close`."""
        if self._run is not None:
            self.close(self._ended.get(self._run.id, self.exit_status))

    def confirm(self) -> None:
        """Save the cursors after the backends' exit handlers: some backends send their last data only there."""
        if not self._is_forked():
            for worker in self._workers:
                worker.confirm()

    def _journal_for(self, run: RunInfo) -> Journal:
        # Absolute, because the process writes the last lines at its end, when its working directory may have changed.
        path = None if run.output_dir is None else Path(run.output_dir, FILE_NAME).absolute()
        if self._journal is None or self._journal.path != path or self._is_forked():
            self._process = os.getpid()
            self._run = None
            self._journal = Journal(path, eager=bool(self.sinks))
            self._workers = [Worker(sink, self._journal.stream) for sink in self.sinks]
            end_killed(self._journal)
        return self._journal

    def _drain(self, journal: Journal, seconds: float) -> None:
        position, deadline = journal.stream.end_position, time.monotonic() + seconds
        for worker in self._workers:
            worker.finish()
        try:
            if not self._wait(journal, position, min(_QUIET_SECONDS, seconds)) and seconds > _QUIET_SECONDS:
                waiting = ", ".join(worker.sink.name for worker in self._workers if not worker.is_done(position))
                message = (
                    "the training has ended and waits up to %g s for sinks that are behind: %s. Ctrl-C ends the wait; "
                    "you can deliver the missing snapshots later."
                )
                logger.warning(message, seconds, waiting)
                self._wait(journal, position, deadline - time.monotonic())
        finally:
            for worker in self._workers:
                worker.stop_hurrying()
                self._say_what_is_left(worker, journal, position, seconds)

    def _wait(self, journal: Journal, position: int, seconds: float) -> bool:
        advanced = journal.stream.reader_advanced
        with advanced:
            return advanced.wait_for(
                lambda: all(worker.is_done(position) for worker in self._workers), max(seconds, 0.0)
            )

    def _say_what_is_left(self, worker: Worker, journal: Journal, position: int, seconds: float) -> None:
        counts, name = worker.counts, worker.sink.name
        if counts.rejected:
            message = (
                "sink %s: %d of %d snapshots were rejected, because its backend will never accept them. Last error: %s"
            )
            logger.warning(message, name, counts.rejected, counts.given, counts.error)
        if worker.is_done(position):
            if counts.pending:
                message = "sink %s: %d snapshots are lost, because the journal could not be written or was removed."
                logger.warning(message, name, counts.pending)
            return
        message = "sink %s (%s%s) received %d of %d snapshots; %d did not arrive within %g s.%s"
        error = f", {counts.error}" if counts.error else ""
        later = "" if journal.path is None else f" To deliver them, run: {_command(worker.sink, journal.path)}"
        numbers = (counts.delivered, counts.given, counts.pending, seconds)
        logger.warning(message, name, counts.state, error, *numbers, later)

    def _is_forked(self) -> bool:
        return self._process != os.getpid()


def end_killed(journal: Journal) -> None:
    """Record that the journal's last run was killed, if it has no end and its process no longer exists."""
    last = journal.stream.open_run_at(journal.stream.end_position)
    if last is not None and not last.is_at_work():
        journal.end(last.run.id, "killed")


def _command(sink: Sink, path: Path) -> str:
    variables = [f"{name}={shlex.quote(value)}" for name, value in sink.environment().items()]
    return " ".join([*variables, "mtask-sinks", "replay", shlex.quote(str(path)), "--to", sink.name])


# Keeps deliveries alive until they are closed: a trainer that only evaluates may be deleted long before the exit.
_open_deliveries: set[Delivery] = set()
_all_deliveries: weakref.WeakSet[Delivery] = weakref.WeakSet()


def _close_at_exit(delivery: Delivery) -> None:
    """Close a delivery at the exit of the interpreter, if nobody has closed it.

    Each call registers the exit handler again. Exit handlers run last in, first out, so it runs before the handlers
    that the backends have registered.
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


# Registered first, so it runs last: after the handlers that backends register when their runs begin.
atexit.register(_confirm_all)
