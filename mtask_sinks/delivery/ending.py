"""Waits at the end of trainings until the sinks have everything, and logs what did not arrive."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

from mtask_sinks._util.formatting import counted
from mtask_sinks._util.interrupts import wait_for
from mtask_sinks._util.log import get_logger
from mtask_sinks.delivery.last_wait import wait_and_tell
from mtask_sinks.delivery.replay_command import how_to_deliver
from mtask_sinks.delivery.sink_calls import error_text
from mtask_sinks.delivery.worker import Worker
from mtask_sinks.journal.writer import Journal

logger = get_logger(__name__)


class Ending:
    """The end of one delivery: its workers deliver the remaining snapshots, and then end.

    Args:
        workers: the workers.
        journal: the journal, which already has its last line.
    """

    def __init__(self, workers: Sequence[Worker], journal: Journal) -> None:
        self._workers = workers
        self._journal = journal
        self._position = journal.stream.end_position
        for worker in workers:
            worker.finish()

    def missing(self) -> list[Worker]:
        """Return the workers that have not delivered everything."""
        return [worker for worker in self._workers if not worker.is_done(self._position)]

    def wait(self, seconds: float) -> bool:
        """Wait up to ``seconds`` until no worker delivers any more. Return whether that is so."""
        return wait_for(self._journal.stream.reader_advanced, lambda: not self._delivering(), seconds)

    def _delivering(self) -> list[Worker]:
        return [worker for worker in self.missing() if worker.is_alive()]

    def report(self, seconds: float) -> None:
        """Let the workers use their long waits again, and log what has not arrived.

        Args:
            seconds: how long the caller has waited, for the message.
        """
        missing = self.missing()
        for worker in self._workers:
            worker.stop_hurrying()
            counts, name = worker.counts, worker.sink.name
            if counts.rejected:
                message = (
                    "sink %s: %d of %d snapshots were rejected, because its backend will never accept them. Last "
                    "error: %s"
                )
                logger.warning(message, name, counts.rejected, counts.given, counts.error)
            if worker in missing:
                self._report_missing(worker, seconds)
            elif counts.pending:
                message = (
                    "sink %s lost %s, because the journal could not be written, or somebody removed or changed it."
                )
                logger.warning(message, name, counted(counts.pending, "snapshot"))

    def _report_missing(self, worker: Worker, seconds: float) -> None:
        counts, journal = worker.counts, self._journal
        message = "sink %s (%s%s) received %d of %d snapshots; %d did not arrive within %g s.%s"
        if not counts.pending:
            message = "sink %s (%s%s) received %d of %d snapshots; storing them did not end within %g s.%s"
        error = f", {counts.error}" if counts.error else ""
        if not worker.sink.can_replay:  # a webhook, for which a count of snapshots says nothing: it sends alerts
            message = "sink %s (%s%s) has not sent everything within %g s. A replay cannot deliver it later."
            logger.warning(message, worker.sink.name, counts.state, error, seconds)
            return
        try:
            later = self._how_to_deliver(worker)
        except Exception as problem:  # raised by the code of the sink
            later = f" The journal is {journal.path}. (The environment() of the sink failed: {error_text(problem)})"
        numbers = (counts.delivered, counts.given, *([counts.pending] if counts.pending else []), seconds)
        logger.warning(message, worker.sink.name, counts.state, error, *numbers, later)

    def _how_to_deliver(self, worker: Worker) -> str:
        """Return the end of the message: how to deliver later what the journal has."""
        journal = self._journal
        if journal.path is None:
            return ""
        command, position = partial(how_to_deliver, worker.sink, journal.path, journal.stream), worker.position
        stored = None if journal.stream.is_stored(position) else journal.stream.snapshots_stored(position)
        if stored is None or stored >= worker.counts.pending:
            return f" {command()}"
        lacks = f" The journal lacks {worker.counts.pending - stored} of them, because it could not be written, or"
        lacks += " somebody removed or changed it."
        return f"{lacks} {command(what='the others')}" if stored else lacks


def wait_for_endings(endings: Sequence[Ending], seconds: float) -> None:
    """Wait up to ``seconds`` in total until all deliveries have ended, and log what did not arrive.

    Ctrl-C only ends the wait: this function then returns normally. SIGTERM ends the wait and the program.
    """
    begun = time.monotonic()
    waited = seconds

    def wait(left: float) -> bool:
        end = time.monotonic() + left
        return all(ending.wait(end - time.monotonic()) for ending in endings)

    def tell(limit: str) -> None:
        waiting = {worker.sink.name: worker.sink for ending in endings for worker in ending.missing()}
        message = "the training has ended and waits %sfor sinks that are behind: %s. Ctrl-C ends the wait%s."
        later = "; you can deliver the missing snapshots later"
        can_replay = any(sink.can_replay for sink in waiting.values())
        logger.warning(message, limit, ", ".join(waiting), later if can_replay else "")

    try:
        wait_and_tell(wait, seconds, tell)
    except (KeyboardInterrupt, SystemExit) as error:
        waited = round(time.monotonic() - begun, 1)
        if isinstance(error, SystemExit):
            raise
    finally:
        for ending in endings:
            ending.report(waited)
