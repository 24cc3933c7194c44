"""The backends of one trainer: the runs that its sinks write to, and the trackers that have no sink."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.delivery.counts import SinkCounts
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.timeouts import limit_network
from mtask_sinks.trainer.backend_runs import BackendRun, backend_of, backends_logged_by, find_backend_run
from mtask_sinks.trainer.guarded_callbacks import guard
from mtask_sinks.trainer.tracker_log import TrackerLog

if TYPE_CHECKING:
    from transformers import TrainerCallback

logger = get_logger(__name__)


class Backends:
    """Begins, resumes and ends the backend runs of a trainer, and guards transformers' callbacks for these backends.

    Args:
        sinks: the sinks of the trainer.
        callbacks: the trainer's callbacks.
        limits_network: whether clients of backends get shorter timeouts than their own.
        warn_once: counts failures.
        take_turn: called in place of a callback whose backend numbers its rows; see `guard`.

    Attributes:
        runs: backend → the run to which its sink writes.
        logged: the backends to which a user's own callback writes the Trainer's logs.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        callbacks: Sequence[TrainerCallback],
        limits_network: bool,
        warn_once: WarnOnce,
        take_turn: Callable[[str, Any], None],
    ) -> None:
        self.runs: dict[str, BackendRun] = {sink.name: find_backend_run(sink, callbacks) for sink in sinks}
        self.logged = backends_logged_by(callbacks)
        self._numbering = [name for name, run in self.runs.items() if run.numbers_rows]
        self._limits_network = limits_network
        self._warn_once = warn_once
        #: The backends that have no sink, but a callback in the transformers library.
        self._trackers: dict[str, TrackerLog] = {}
        for callback in callbacks:
            if (backend := backend_of(callback)) is not None:
                run = self.runs.get(backend) or self._trackers.setdefault(backend, TrackerLog(backend))
                guard(callback, run, warn_once, take_turn)

    @property
    def is_turn_first(self) -> bool:
        """Whether the sinks get a row before the callbacks do.

        Some backends number their rows. The sink of such a backend gets a row at the moment when transformers' callback
        for that backend would get it. If there is no such callback, the sink must get the row before all callbacks.
        """
        return any(self.runs[name].callback is None for name in self._numbering)

    def numbering(self, attached: Container[str]) -> list[str]:
        """Return the backends that number their rows, and whose run is one of those in `attached`."""
        return [name for name in self._numbering if name in attached]

    def begin(self, is_training: bool, output_dir: str | None) -> None:
        """Call this before the callbacks open their runs.

        Args:
            is_training: whether a training begins, or an evaluation outside of one.
            output_dir: the output directory of the trainer, as it is now.
        """
        if self._limits_network:
            limit_network(self.runs)
        for run in self.runs.values():
            run.begin(is_training, output_dir)
        for log in self._trackers.values():
            log.begin()

    def resume(self, step: int) -> None:
        """Call this after the callbacks have opened their runs, if the training goes on from a checkpoint at `step`."""
        for name, run in self.runs.items():
            try:
                run.resume(step)
            except Exception as error:  # such as a full disk; it must not stop the training
                message = "%s may show steps beyond the checkpoint twice: %s"
                self._warn_once(f"resume: {name}", message, name, error)

    def end(self, status: Status, counts: Mapping[str, SinkCounts]) -> None:
        """End the runs that nobody else ends, and say which values the trackers lack.

        Args:
            status: how the training ended.
            counts: sink → how many snapshots it got.
        """
        for name, run in self.runs.items():
            try:
                run.end(status, is_reachable=name not in counts or not counts[name].pending)
            except Exception as error:  # the backend may be down; this error must not hide that of the training
                self._warn_once(f"end: {name}", "the run of %s was not ended: %s", name, error)
        for log in self._trackers.values():
            if (missing := log.missing()) is not None:
                logger.warning("%s They cannot be delivered later, but the journal has them.", missing)
