"""The runs that the Trainer's own reporting callbacks open, for the sinks that write into them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from pathlib import Path
from typing import Any, ClassVar

from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from mtask_sinks._util.built_anew import BuiltAnew
from mtask_sinks.sinks.base import Status
from mtask_sinks.sinks.timeouts import fail_fast


class BackendRun(BuiltAnew):
    """The run of one backend that a reporting callback of the Trainer opened, or the user.

    The callback opens the run, with its name, parameters and artifacts. The sink alone writes values to it, the
    Trainer's own too: it delivers them however long the backend is away, where the callback would lose them or hold up
    the training. This base class serves backends of which nothing is known.

    Args:
        callback: reporting callback of the backend; ``None`` if the trainer has none.
        output_dir: of the training.

    Attributes:
        numbers_rows: whether the backend numbers rows as they come. Then one row must come per log event, in the
            callback's turn: another place or number would make the user's own rows, which have numbers, too late.
        has_failed: whether the callback could not set up. Then it is called no more, and the sink opens a run itself.
    """

    numbers_rows: ClassVar[bool] = False

    def __init__(self, callback: TrainerCallback | None = None, output_dir: str | None = None) -> None:
        self.callback = callback
        self.output_dir = output_dir
        self.has_failed = False
        self._run_id: str | None = None
        self._foreign: set[str] = set()

    def _settings(self) -> dict[str, Any]:
        return {"callback": self.callback, "output_dir": self.output_dir}

    def begin(self, is_training: bool) -> None:
        """Call this before the callback's turn: a run that is open now is somebody else's. A training begins anew."""
        current = self._current()
        if current is not None and current != self._run_id:
            self._foreign.add(current)
        if is_training:
            self._run_id, self.has_failed = current, False

    def arguments(self, args: Any, state: Any) -> Any:
        """The training arguments as the callback is to see them."""
        return args

    def set_up(self, args: Any, state: Any, control: Any, model: Any) -> None:
        """Let the callback open its run, if it has not, as it would to log something."""

    def take_over(self) -> None:
        """The callback has set up: take over what the sink does from now on."""

    def run_id(self) -> str | None:
        """How a sink finds the run; ``None`` while there is none."""
        self._run_id = self._current() or self._run_id
        return self._run_id

    def resume(self, step: int) -> None:
        """Call this after the callback's turn when a training goes on from a checkpoint at ``step``."""

    def is_ended_by_sink(self) -> bool:
        """Whether the sink ends the run, and nobody else."""
        return False

    def end(self, status: Status, is_reachable: bool) -> None:
        """After a training, let go of its run, and end it with that status if nobody else does.

        Args:
            status: how the training ended.
            is_reachable: whether the sink could deliver everything.
        """

    def _current(self) -> str | None:
        return None

    def _is_the_callbacks(self, run_id: str | None) -> bool:
        return run_id is not None and run_id not in self._foreign and self.callback is not None


class TensorBoardRun(BackendRun):
    """The directory that the callback writes to."""

    def begin(self, is_training: bool) -> None:
        # transformers 5 chooses the directory when training begins; an evaluation before that would write to ./runs.
        if getattr(self.callback, "logging_dir", "") is None and self.output_dir is not None:
            from transformers.integrations.integration_utils import default_logdir

            vars(self.callback)["logging_dir"] = str(Path(self.output_dir, default_logdir()))
        super().begin(is_training)

    def set_up(self, args: Any, state: Any, control: Any, model: Any) -> None:
        if self.callback is not None and self.run_id() is None:
            type(self.callback).on_log(self.callback, args, state, control, logs={})  # opens its writer, logs nothing

    def resume(self, step: int) -> None:
        # In a file of its own, now: in the sink's file, which is opened later, it would purge what others have written
        # until then; and the callback's file may be read before those of a process that was killed just now.
        log_dir = self._current()
        if log_dir is not None:
            from mtask_sinks.sinks.tensorboard.restart import write_restart

            write_restart(Path(log_dir), step)

    def _current(self) -> str | None:
        writer = getattr(self.callback, "tb_writer", None)
        log_dir = getattr(writer, "log_dir", None) or getattr(writer, "logdir", None)
        return None if log_dir is None else str(Path(log_dir).absolute())


class MLflowRun(BackendRun):
    """The active run of this thread, which is the callback's or the user's.

    Left alone, the callback sets up only once, and ends whatever run is active when it is deleted. Here it sets up for
    each training, so that each gets a run with a name and parameters. The sink ends the callback's run when everything
    is delivered; the callback would end it before that, and raise if the server is away. A run that the user opens in
    mid-training, such as a nested one, is the user's alone.
    """

    def __init__(self, callback: TrainerCallback | None = None, output_dir: str | None = None) -> None:
        super().__init__(callback, output_dir)
        self._is_training = False
        #: Whether the run of the training is known, whatever run becomes active later.
        self._is_settled = False

    def begin(self, is_training: bool) -> None:
        super().begin(is_training)
        self._is_training = is_training
        self._is_settled = is_training and self._run_id is not None
        if is_training and self.callback is not None and self._current() is None:
            vars(self.callback)["_initialized"] = False

    def arguments(self, args: Any, state: Any) -> Any:
        if state.trial_name is None:
            return args
        named = copy(args)  # unlike those of other backends, this callback does not look at the name of a trial
        named.run_name = state.trial_name
        return named

    def set_up(self, args: Any, state: Any, control: Any, model: Any) -> None:
        _set_up(self.callback, args, state, model)

    def take_over(self) -> None:
        if self.callback is not None:
            vars(self.callback)["_auto_end_run"] = False
        self.run_id()

    def run_id(self) -> str | None:
        if not self._is_settled:
            self._is_settled = self._is_training
            super().run_id()
        return self._run_id

    def is_ended_by_sink(self) -> bool:
        return self._is_the_callbacks(self._run_id)

    def end(self, status: Status, is_reachable: bool) -> None:
        self._is_training = self._is_settled = False
        current = self._current()
        if current != self._run_id or not self._is_the_callbacks(current):
            return
        import mlflow

        # It is no longer the process's active run, whether or not the server answers; the sink says so again.
        with fail_fast() if not is_reachable else nullcontext():
            mlflow.end_run("FINISHED" if status == "finished" else "FAILED")

    def _current(self) -> str | None:
        mlflow = sys.modules.get("mlflow")
        # Not there yet while another thread, that of a sink, imports it.
        active_run = getattr(mlflow, "active_run", None)
        run = active_run() if active_run is not None else None
        return None if run is None else str(run.info.run_id)


class WandbRun(BackendRun):
    """The process's open run, which is the callback's or the user's."""

    numbers_rows = True

    def set_up(self, args: Any, state: Any, control: Any, model: Any) -> None:
        _set_up(self.callback, args, state, model)

    def run_id(self) -> str | None:
        # A finished W&B run takes nothing more: unlike the others it exists only while it is open.
        self._run_id = self._current()
        return self._run_id

    def end(self, status: Status, is_reachable: bool) -> None:
        # After a training that went well the run stays open: what the user logs then belongs to it.
        if status == "finished" or not self._is_the_callbacks(self._current()):
            return
        import wandb

        wandb.finish(exit_code=1)
        # The callback would go on as if its run were there; now it sets up anew.
        vars(self.callback)["_initialized"] = False

    def _current(self) -> str | None:
        run = getattr(sys.modules.get("wandb"), "run", None)
        return None if run is None else str(run.id)


def _set_up(callback: Any, args: Any, state: Any, model: Any) -> None:
    if callback is not None and not callback._initialized:
        callback.setup(args, state, model)


_KINDS: dict[str, type[BackendRun]] = {
    "mlflow": MLflowRun,
    "tensorboard": TensorBoardRun,
    "wandb": WandbRun,
}


def find_backend_run(name: str, callbacks: Sequence[TrainerCallback], output_dir: str | None) -> BackendRun:
    """The run of a backend, with its reporting callback if the trainer has one."""
    callback = next((callback for callback in callbacks if backend_of(callback) == name), None)
    return _KINDS.get(name, BackendRun)(callback, output_dir)


def backend_of(callback: TrainerCallback) -> str | None:
    """The name in `report_to` of a reporting callback of transformers; ``None`` for any other callback."""
    return next((name for name, kind in INTEGRATION_TO_CALLBACK.items() if type(callback) is kind), None)


def backends_logged_by(callbacks: Sequence[TrainerCallback]) -> frozenset[str]:
    """Backends to which a class derived from one of transformers' callbacks logs, as its author wants it to."""
    return frozenset(
        name
        for name, kind in INTEGRATION_TO_CALLBACK.items()
        if any(isinstance(callback, kind) and type(callback) is not kind for callback in callbacks)
    )
