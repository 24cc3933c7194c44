"""Writes snapshots to the journal, from which each sink gets them without slowing down the training."""

from __future__ import annotations

import os
import time
import weakref
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from mtask_sinks._util.formatting import counted
from mtask_sinks._util.frozen import copied_values
from mtask_sinks._util.interrupts import InterruptsDeferred
from mtask_sinks._util.log import get_logger
from mtask_sinks._util.plain_number import plain_number
from mtask_sinks._util.schemes import has_scheme
from mtask_sinks.delivery import open_deliveries
from mtask_sinks.delivery.counts import SinkCounts
from mtask_sinks.delivery.cursor import check_names
from mtask_sinks.delivery.ending import Ending, wait_for_endings
from mtask_sinks.delivery.patience import Patience
from mtask_sinks.delivery.publisher import Publisher, check_publishing
from mtask_sinks.delivery.worker import Worker
from mtask_sinks.journal.paths import FILE_NAME
from mtask_sinks.journal.writer import Journal
from mtask_sinks.note import Note
from mtask_sinks.sinks.base import Sink, Status, check_are_sinks
from mtask_sinks.snapshot import RunInfo, Snapshot

logger = get_logger(__name__)

#: By default, the longest time in seconds that a training waits for its sinks when it ends.
DRAIN_SECONDS = 30.0

#: Some backends number the rows in the order of their arrival. If a run of such a backend is open in this process, your
#: own code can write to it too. To keep the order, a log event then waits for the sink, for at most this many seconds.
TURN_SECONDS = 1.0

#: The longest time in seconds that an evaluation outside of a training waits for its sinks when it ends.
FLUSH_SECONDS = 5.0


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
    in memory, up to a limit. Each sink has its own thread, which follows the journal. So `write` returns immediately,
    and a sink that is slow, fails or hangs gets all snapshots of the journal later. `close` waits for all sinks
    together, for a limited time. If it could not deliver some snapshots, it logs the command that delivers them later.

    In a forked process (a worker of a data loader), all calls do nothing, except `open`, which begins a new journal.

    Args:
        sinks: the sinks. Each needs its own name.
        drain_seconds: the longest time that `close` waits; ``math.inf`` for no limit. `flush` waits as long, but at
            most 5 s.
        publish: URL of a directory to which the journal is copied, see `Publisher`; ``None`` for no copy.

    Attributes:
        sinks, drain_seconds: as given.
        exit_status: the status of the run if the interpreter exits before `close`.

    Raises:
        TypeError: ``sinks`` is no list of sinks, or a sink has no name.
        ValueError: two sinks have the same name, a sink's name cannot be that of a file, ``drain_seconds`` is below 0,
            or ``publish`` is no URL.
        ImportError: ``publish`` needs a package that is not installed.
    """

    def __init__(self, sinks: Sequence[Sink], drain_seconds: float = DRAIN_SECONDS, publish: str | None = None) -> None:
        if publish is not None:
            check_publishing(publish)
        check_are_sinks(sinks)
        check_names([sink.name for sink in sinks])
        if not drain_seconds >= 0:
            raise ValueError(f"drain_seconds={drain_seconds!r}: pass a number of seconds, 0 or more.")
        self.sinks = list(sinks)
        self.drain_seconds = drain_seconds
        self._publish = publish
        self._publisher: Publisher | None = None
        self._journal: Journal | None = None
        self._workers: list[Worker] = []
        self._run: RunInfo | None = None
        #: Run's id → number of its snapshots so far.
        self._written: Counter[str] = Counter()
        #: Run's id → status at its end. A run may continue after its end, for an evaluation.
        self._ended: dict[str, Status] = {}
        self._process = os.getpid()
        self.exit_status: Status = "finished"
        self._owner: weakref.ref[object] | None = None

    def __getstate__(self) -> Any:
        return self.sinks, self.drain_seconds, self._publish

    def __setstate__(self, state: Any) -> None:  # a copy has delivered nothing
        Delivery.__init__(self, *state)

    @property
    def counts(self) -> dict[str, SinkCounts]:
        """Sink's name → how many of its snapshots are delivered, rejected and pending, and its state."""
        return {worker.sink.name: worker.counts for worker in self._workers}

    @property
    def is_open(self) -> bool:
        """Whether a run is open."""
        return self._run is not None

    @property
    def is_left_behind(self) -> bool:
        """Whether nobody will write to the open run any more, and it can end now, without a loss.

        So every sink has all of its snapshots, and no other training writes to its journal.
        """
        journal = self._journal
        if self._owner is None or self._owner() is not None or journal is None or self._is_forked():
            return False
        if not all(worker.is_done(journal.stream.end_position) for worker in self._workers):
            return False
        return journal.is_complete and not journal.is_taken

    def belong_to(self, owner: object) -> None:
        """Let the next delivery that opens a run end the one of this delivery, if the owner no longer exists then."""
        self._owner = weakref.ref(owner)

    def open(self, run: RunInfo, begun_at: float | None = None) -> None:
        """Begin or continue a run, in the journal and on every sink.

        Args:
            run: the run.
            begun_at: when the run began, in seconds since 1970 (UTC); by default now.
        """
        if not isinstance(run, RunInfo):
            raise TypeError(f"open({run!r}): pass RunInfo(id='1', output_dir='out').")
        open_deliveries.end_left_behind(FLUSH_SECONDS)
        journal = self._journal_for(run)
        if self._run is not None and self._run.id != run.id:
            journal.end(self._run.id, self._ended.get(self._run.id, "finished"))
        for worker in self._workers:
            worker.expect_run(run)
        self._run = run
        open_deliveries.close_at_exit(self)  # first, because Ctrl-C may come after each of the next lines
        journal.begin(run, begun_at, [sink.name for sink in self.sinks])
        for worker in self._workers:
            worker.start()
        if self._publisher is not None:
            self._publisher.start()

    def fail_run(self, run_id: str) -> None:
        """Remember that a run has failed, if it is open. The journal records this when the next run begins."""
        if self._run is not None and self._run.id == run_id:
            self._ended[run_id] = "failed"

    def write(self, snapshot: Snapshot) -> None:
        """Write a snapshot to the journal, from which every sink gets it.

        Tensors and arrays with one element among its logs become numbers, so that every backend can show them. Dicts
        and lists among them are copied, so that nobody changes what a late sink gets.

        Raises:
            TypeError: this is no snapshot.
            RuntimeError: no run is open. After `close`, `open` with the same run continues it.
        """
        if not isinstance(snapshot, Snapshot):
            raise TypeError(f"write({snapshot!r}): pass a Snapshot, such as registry.snapshot(step) returns.")
        if self._is_forked():
            return
        if self._journal is None:
            raise RuntimeError("no run was opened, so nothing can be written: call open(RunInfo(id='1', ...)) first.")
        if self._run is None:
            raise RuntimeError("the run was closed, so no sink would get this: write before close(), or open() again.")
        self._written[self._run.id] += 1
        logs = {name: plain_number(copied_values(value)) for name, value in snapshot.logs.items()}
        snapshot = snapshot.with_logs(logs).numbered(self._written[self._run.id])
        for worker in self._workers:
            worker.expect_snapshot()
        self._journal.append(snapshot)

    def wait_for(self, name: str) -> None:
        """Wait until a sink has written all snapshots so far, for up to 1 s.

        Like `flush`, this does not wait for a sink that is down, or for one that was late and has not caught up.
        """
        journal = self._journal
        if journal is None or self._is_forked():
            return
        workers = [worker for worker in self._workers if worker.sink.name == name]
        if self._turns.wait(workers, Worker.has_reached, journal.stream.end_position, TURN_SECONDS):
            message = (
                "sink %s did not take a row within %g s. The training goes on, and the row waits in the journal. From "
                "now on, log events do not wait for this sink. When it has caught up, they wait again."
            )
            logger.warning(message, name, TURN_SECONDS)

    def note(self, note: Note) -> None:
        """Write a note to the journal, from which it goes to every sink that can show notes."""
        if self._journal is not None and not self._is_forked():
            self._journal.note(note)

    def flush(self) -> None:
        """Wait until every sink has written all snapshots so far and flushed them, for up to 5 s.

        This does not wait for a sink that is down, or for one that was late and has not caught up.
        """
        journal, seconds = self._journal, min(FLUSH_SECONDS, self.drain_seconds)
        if journal is None or self._is_forked():
            return
        journal.close()  # so that another trainer can write to the file, until this delivery gets its next snapshot
        if not seconds:
            return
        workers = [worker for worker in self._workers if not worker.is_in_trouble]
        try:
            for worker in workers:
                worker.hurry()
            late = self._patience.wait(workers, Worker.is_done, journal.stream.end_position, seconds)
        finally:
            for worker in workers:
                worker.stop_hurrying()
        for worker in late:
            if pending := worker.counts.pending:
                message = (
                    "sink %s has not received %s within %g s; the program goes on. The journal keeps what is missing. "
                    "If you finish the run of the backend now, the run lacks it."
                )
                logger.warning(message, worker.sink.name, counted(pending, "snapshot"), seconds)
            else:
                message = "sink %s has every snapshot, but has not flushed them within %g s; the program goes on."
                logger.warning(message, worker.sink.name, seconds)

    def close(self, status: Status, seconds: float | None = None) -> None:
        """Wait until every sink has finished and closed. Log a warning for each sink that did not get all snapshots.

        Args:
            status: how the run ended.
            seconds: the longest time to wait, if less than ``drain_seconds``.
        """
        if status not in get_args(Status):
            allowed = ", ".join(map(repr, get_args(Status)))
            raise ValueError(f"close({status!r}): pass how the run ended, one of {allowed}.")
        seconds = self.drain_seconds if seconds is None else min(seconds, self.drain_seconds)
        deadline = time.monotonic() + seconds
        ending = None
        try:
            with InterruptsDeferred():
                ending = self.end(status)
        except KeyboardInterrupt:  # as in `wait_for_endings`, it only ends the wait
            seconds = 0.0
        if ending is not None:
            wait_for_endings([ending], seconds)
            self.wait_for_copy(deadline - time.monotonic())

    def end(self, status: Status | None = None) -> Ending | None:
        """End the run in the journal, and let the sinks finish, without waiting.

        Args:
            status: how the run ended; by default its previous status, or `exit_status` if it has none.

        Returns:
            The end, for `wait_for_endings`; ``None`` if no run is open.
        """
        run, journal = self._run, self._journal
        if run is None or journal is None or self._is_forked():
            return None
        self._run = None
        self._ended[run.id] = status or self._ended.get(run.id, self.exit_status)
        journal.end(run.id, self._ended[run.id])
        journal.close()
        if journal.is_complete:
            open_deliveries.forget(self)
        if self._publisher is not None:
            self._publisher.finish()
        return Ending(self._workers, journal)

    def write_rest(self) -> None:
        """After `end`, try once more to write to the journal what the disk did not accept, and copy the journal."""
        if self._run is not None or self._journal is None or self._journal.is_complete or self._is_forked():
            return  # the end of an open run writes it
        self._journal.retry()
        if self._publisher is not None:
            self._publisher.start()
            self._publisher.finish()
            self.wait_for_copy(self.drain_seconds)

    def wait_for_copy(self, seconds: float) -> None:
        """After `end`, wait until the copy of the journal is complete, if there is one."""
        if self._publisher is not None:
            self._publisher.wait(seconds)

    def confirm(self) -> None:
        """Save how far each sink has delivered the journal.

        Call this after the exit handlers of the backends, because some backends send their last data in these handlers.
        """
        if not self._is_forked():
            for worker in self._workers:
                worker.confirm()

    def _journal_for(self, run: RunInfo) -> Journal:
        """Return the journal of a run. If it is another one than before, end the run before, and begin new workers."""
        # The working directory may change during the training. So a run that opens again keeps its first path.
        path = None if run.output_dir is None else Path(run.output_dir, FILE_NAME).absolute()
        before, open_run = self._journal, self._run
        is_same = open_run is not None and (open_run.id, open_run.output_dir) == (run.id, run.output_dir)
        predecessors: dict[str, Worker] = {}
        if before is not None and not self._is_forked():  # a forked process has none of the threads
            if is_same or before.wanted == path:
                return before
            predecessors = {worker.sink.name: worker for worker in self._workers}
            ending = self.end()  # an evaluation may have opened the run again
            if ending is not None:
                wait_for_endings([ending], min(FLUSH_SECONDS, self.drain_seconds))
            before.close()
        self._process = os.getpid()
        self._run = None
        self._journal = journal = Journal(path, eager=bool(self.sinks), own_file=True)
        self._publisher = None if self._publish is None else Publisher(journal.stream, self._publish)
        _warn_of_scheme(run.output_dir, path)
        self._workers = [
            Worker(sink, journal.stream, shares_cursor=True, predecessor=predecessors.get(sink.name))
            for sink in self.sinks
        ]
        self._patience = Patience(journal.stream.reader_advanced)
        self._turns = Patience(journal.stream.reader_advanced)
        journal.end_killed()
        return journal

    def _is_forked(self) -> bool:
        return self._process != os.getpid()


def _warn_of_scheme(output_dir: str | None, path: Path | None) -> None:
    """Warn if an output directory looks like a place in an object store: the Trainer writes to a local directory."""
    if output_dir is not None and has_scheme(output_dir):
        message = (
            "output_dir=%s looks like a place in an object store, but the Trainer and the journal write to the local "
            "directory %s. Choose a local directory, and let SinkArguments(journal_publish=%s) copy the journal."
        )
        address = output_dir if "://" in output_dir else output_dir.replace(":/", "://", 1)
        logger.warning(message, output_dir, path.parent if path is not None else "", repr(address))
