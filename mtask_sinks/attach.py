"""Attaching to the runs that the Trainer's own reporting callbacks open, and keeping those callbacks harmless."""

from __future__ import annotations

import logging
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from mtask_sinks.notices import Notices

logger = logging.getLogger(__name__)

_EVENTS = [name for name in vars(TrainerCallback) if name.startswith("on_")]


class Attachment:
    """The run of one backend that is not ours: who opened it, how a sink finds it, how it ends if training fails.

    The base class serves backends of which nothing is known.
    """

    def __init__(self, callback: TrainerCallback | None = None, output_dir: str | None = None) -> None:
        self.callback = callback
        self.output_dir = output_dir
        self._run_id: str | None = None
        self._foreign: set[str] = set()

    def begin(self, is_training: bool) -> None:
        """Before the callback's turn: what is open now was opened by somebody else. A training begins a new run."""
        current = self._current()
        if current is not None and current != self._run_id:
            self._foreign.add(current)
        if is_training:
            self._run_id = current

    def run_id(self) -> str | None:
        """How a sink finds the run; ``None`` while there is none."""
        self._run_id = self._current() or self._run_id
        return self._run_id

    def resume(self, step: int) -> None:
        """After the callback's turn, when a training goes on from a checkpoint at ``step``."""

    def end(self, has_failed: bool) -> None:
        """After a training; if it failed, end its run as failed, provided it was the callback that opened it."""
        current = self._current()
        if has_failed and current is not None and current not in self._foreign and self.callback is not None:
            self._end_as_failed()

    def reopened(self) -> AbstractContextManager[None]:
        """For what the callback logs after training: into the same run, though it was ended."""
        return nullcontext()

    def _current(self) -> str | None:
        return None

    def _end_as_failed(self) -> None:
        """End the open run."""


class TensorBoardAttachment(Attachment):
    """The directory that the callback writes to."""

    def begin(self, is_training: bool) -> None:
        # transformers 5 chooses the directory when training begins; an evaluation before that would write to ./runs.
        if getattr(self.callback, "logging_dir", "") is None and self.output_dir is not None:
            from transformers.integrations.integration_utils import default_logdir

            vars(self.callback)["logging_dir"] = str(Path(self.output_dir, default_logdir()))
        super().begin(is_training)

    def resume(self, step: int) -> None:
        # Here and not in the sink's file: that one is opened later, and an event in it would purge what the callback
        # has written until then.
        file_writer = getattr(getattr(self.callback, "tb_writer", None), "file_writer", None)
        if file_writer is not None:
            from mtask_sinks.sinks.tensorboard import restart_events

            for event in restart_events(step):
                file_writer.add_event(event)

    def _current(self) -> str | None:
        writer = getattr(self.callback, "tb_writer", None)
        log_dir = getattr(writer, "log_dir", None) or getattr(writer, "logdir", None)
        return None if log_dir is None else str(log_dir)


class MLflowAttachment(Attachment):
    """The active run of this thread, the callback's or the user's.

    The callback sets up once and for all, and when it is deleted it ends whatever run is active then. Here it sets up
    for each training, which so gets a run with a name and parameters, and lets go of the run when that training ends.
    """

    def begin(self, is_training: bool) -> None:
        super().begin(is_training)
        if is_training and self.callback is not None and self._current() is None:
            vars(self.callback)["_initialized"] = False

    def end(self, has_failed: bool) -> None:
        super().end(has_failed)
        if self.callback is not None:
            vars(self.callback)["_auto_end_run"] = False

    def _current(self) -> str | None:
        mlflow = sys.modules.get("mlflow")
        # Not there yet while another thread, that of a sink, imports it.
        active_run = getattr(mlflow, "active_run", None)
        run = active_run() if active_run is not None else None
        return None if run is None else str(run.info.run_id)

    def _end_as_failed(self) -> None:
        import mlflow

        mlflow.end_run("FAILED")

    @contextmanager
    def reopened(self) -> Iterator[None]:
        if self.callback is None or self._run_id is None or self._current() is not None:
            yield
            return
        import mlflow

        # Without this the callback's log_metrics would silently begin a second run.
        before = mlflow.get_run(self._run_id).info.status
        mlflow.start_run(run_id=self._run_id)
        try:
            yield
        finally:
            mlflow.end_run(before)


class WandbAttachment(Attachment):
    """The process's open run, the callback's or the user's."""

    def _current(self) -> str | None:
        run = getattr(sys.modules.get("wandb"), "run", None)
        return None if run is None else str(run.id)

    def run_id(self) -> str | None:
        # A finished W&B run takes nothing more: unlike the others it is there only while it is open.
        self._run_id = self._current()
        return self._run_id

    def _end_as_failed(self) -> None:
        import wandb

        wandb.finish(exit_code=1)
        # The callback would go on as if its run were there; now it sets up anew.
        vars(self.callback)["_initialized"] = False


_ATTACHMENTS: dict[str, type[Attachment]] = {
    "mlflow": MLflowAttachment,
    "tensorboard": TensorBoardAttachment,
    "wandb": WandbAttachment,
}


def attachment_for(name: str, callbacks: Sequence[TrainerCallback], output_dir: str | None) -> Attachment:
    """The attachment for a backend, with its reporting callback if the trainer has one."""
    callback = next((callback for callback in callbacks if backend_of(callback) == name), None)
    return _ATTACHMENTS.get(name, Attachment)(callback, output_dir)


def backend_of(callback: TrainerCallback) -> str | None:
    """The name in `report_to` of a reporting callback of transformers; ``None`` for any other callback."""
    return next((name for name, kind in INTEGRATION_TO_CALLBACK.items() if type(callback) is kind), None)


def guard(
    callback: TrainerCallback,
    view: Callable[[Mapping[str, Any]], dict[str, Any]],
    around: Callable[[], AbstractContextManager[None]],
    notices: Notices,
) -> None:
    """Keep a reporting callback from stopping the training, and show it only its part of the logs.

    The instance gets guarded event methods; it stays the same object of the same class, so that ``pop_callback`` and
    the like go on to work.

    Args:
        callback: one of transformers' reporting callbacks.
        view: the part of the logs or metrics that this callback may see.
        around: a context for each event that carries logs or metrics.
        notices: where failures are counted.
    """
    for event in _EVENTS:
        setattr(callback, event, _GuardedEvent(callback, event, view, around, notices))


class _GuardedEvent:
    def __init__(
        self,
        callback: TrainerCallback,
        event: str,
        view: Callable[[Mapping[str, Any]], dict[str, Any]],
        around: Callable[[], AbstractContextManager[None]],
        notices: Notices,
    ) -> None:
        self._callback = weakref.ref(callback)  # whose attribute this is: no cycle, it is freed as ever
        self._event = event
        self._view = view
        self._around = around
        self._notices = notices

    def __call__(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        callback = self._callback()
        seen = {name: self._view(kwargs[name]) for name in ("logs", "metrics") if kwargs.get(name) is not None}
        try:
            with self._around() if seen else nullcontext():
                # Not the attribute of the instance, which is this very object.
                method = getattr(type(callback), self._event)
                return method(callback, args, state, control, **{**kwargs, **seen})
        except Exception as error:
            name = type(callback).__name__
            message = "%s failed in %s (%s: %s); training goes on. Further failures are counted, not logged."
            self._notices.add(
                f"callback: {name}", message, name, self._event, type(error).__name__, error, exc_info=True
            )
            return None
