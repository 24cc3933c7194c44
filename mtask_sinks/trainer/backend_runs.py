"""Finds the runs that the Trainer's own reporting callbacks open, so that the sinks can write to them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK
from transformers.utils.import_utils import ENV_VARS_TRUE_VALUES

from mtask_sinks import sinks
from mtask_sinks._util.built_anew import BuiltAnew
from mtask_sinks._util.schemes import has_scheme
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.timeouts import fail_fast


class BackendRun(BuiltAnew):
    """The run of one backend, which the Trainer's reporting callback or the user opens.

    The callback opens the run, and records its name, parameters and artifacts. Only the sink writes values to it,
    including the Trainer's own. If the backend is away, the sink delivers the values later; the callback would lose
    them or hold up the training. This base class serves backends that have no class of their own.

    Args:
        callback: reporting callback of the backend; ``None`` if the trainer has none.
        sink: the sink that writes to the run.

    Attributes:
        numbers_rows: whether the backend counts rows itself. Then the sink must send one row per log event, when the
            Trainer would call the callback. With a later or additional row, the backend's counter could pass the
            ``step=`` of the user's own next row, which the backend would then drop.
        has_failed: whether the callback's setup failed. Then nobody calls it any more, and the sink opens a run itself.
    """

    numbers_rows: ClassVar[bool] = False

    def __init__(self, callback: TrainerCallback | None, sink: Sink) -> None:
        self.callback = callback
        self.sink = sink
        self.has_failed = False
        self._run_id: str | None = None
        self._foreign: set[str] = set()

    def _settings(self) -> dict[str, Any]:
        return {"callback": self.callback, "sink": self.sink}

    def begin(self, is_training: bool, output_dir: str | None) -> None:
        """Call this before the callback's turn. A run that is open now belongs to somebody else, or is from before."""
        current = self._current()
        if current is not None and current != self._run_id:
            self._foreign.add(current)
        if is_training:
            self._run_id, self.has_failed = current, False

    def arguments(self, args: Any, state: Any) -> Any:
        """Return the training arguments for the callback."""
        return args

    def prepare(self, args: Any, state: Any) -> None:
        """Before the callback's setup, open the run for it, if the user's sink has settings for the run."""

    def set_up(self, args: Any, state: Any, control: Any, model: Any) -> None:
        """Let the callback open its run, if it has none yet. A plain Trainer's callback does so at its first log."""

    def take_over(self) -> None:
        """After the callback's setup, keep the callback from doing what the sink does from now on."""

    def run_id(self) -> str | None:
        """Return the identifier of the run; ``None`` while there is no run."""
        self._run_id = self._current() or self._run_id
        return self._run_id

    def resume(self, step: int) -> None:
        """Call this after the callback's turn when a training goes on from a checkpoint at ``step``."""

    def is_ended_by_sink(self) -> bool:
        """Whether the sink ends the run, and nobody else."""
        return False

    def end(self, status: Status, is_reachable: bool) -> None:
        """After a training, end its run with that status if nobody else does.

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

    def __init__(self, callback: TrainerCallback | None, sink: Sink) -> None:
        super().__init__(callback, sink)
        #: A writer, and the absolute path of its directory.
        self._found: tuple[Any, str] | None = None

    def begin(self, is_training: bool, output_dir: str | None) -> None:
        # transformers 5 chooses the directory when training begins; an evaluation before that would write to ./runs.
        if getattr(self.callback, "logging_dir", "") is None and output_dir is not None:
            from transformers.integrations.integration_utils import default_logdir

            vars(self.callback)["logging_dir"] = str(Path(output_dir, default_logdir()))
        super().begin(is_training, output_dir)

    def set_up(self, args: Any, state: Any, control: Any, model: Any) -> None:
        if self.callback is not None and self.run_id() is None:
            type(self.callback).on_log(self.callback, args, state, control, logs={})  # opens its writer, logs nothing

    def resume(self, step: int) -> None:
        # The event that purges later steps goes to a file of its own, now. The sink's file is opened later, so there
        # the event would also purge what others have written until then. The callback's file does not fit either:
        # TensorBoard may read it before the files of a process that was just killed.
        log_dir = self._current()
        if log_dir is not None:
            from mtask_sinks.sinks.tensorboard.restart import write_restart

            write_restart(Path(log_dir), step)

    def end(self, status: Status, is_reachable: bool) -> None:
        # The callback closes its writer in `on_train_end`, which nobody calls after an error. If the writer stayed
        # open, the callback would use it for the next trial of a search, too. A writer that the user gave the callback
        # stays, so a training after this one writes to the same directory.
        if status != "finished" and self._is_the_callbacks(self._current()):
            vars(self.callback)["tb_writer"].close()
            vars(self.callback)["tb_writer"] = None

    def _current(self) -> str | None:
        writer = getattr(self.callback, "tb_writer", None)
        log_dir = getattr(writer, "log_dir", None) or getattr(writer, "logdir", None)
        if log_dir is None:
            return None
        if self._found is None or self._found[0] is not writer:
            # The working directory may change later.
            self._found = writer, str(log_dir) if has_scheme(log_dir) else str(Path(log_dir).absolute())
        return self._found[1]


class MLflowRun(BackendRun):
    """The active run of this thread, which is the callback's or the user's.

    By itself, the callback sets up only once, and ends the active run, whichever that is, when Python deletes the
    callback. Here it sets up for each training, so each training gets a run with a name and parameters. The sink ends
    the callback's run after it has delivered everything. The callback itself would end it in ``on_train_end``, before
    that, and raise if the server is away. With ``MLFLOW_NESTED_RUN`` the callback opens its run inside the active one.
    A run that the user opens during a training, such as a nested one, belongs to the user.

    If the sink has a tracking store of its own, MLflow uses that store too while the training lasts, unless the user
    has a run open in another store. Then the sink cannot write to that run, so it opens one itself.
    """

    def __init__(self, callback: TrainerCallback | None, sink: Sink) -> None:
        super().__init__(callback, sink)
        self._is_training = False
        #: Whether the run of the training is known. Then a run that becomes active later does not count.
        self._is_settled = False
        #: MLflow's tracking store before `prepare` has changed it.
        self._store_before: _Store | None = None

    def begin(self, is_training: bool, output_dir: str | None) -> None:
        super().begin(is_training, output_dir)
        self._is_training = is_training
        self._is_settled = is_training and self._run_id is not None
        if is_training and self.callback is not None:
            current = self._current()
            is_nested = getattr(self.callback, "_nested_run", False)
            if current is None or (is_nested and current in self._foreign):
                vars(self.callback)["_initialized"] = False

    def arguments(self, args: Any, state: Any) -> Any:
        if state.trial_name is None:
            return args
        named = copy(args)  # unlike those of other backends, this callback does not look at the name of a trial
        named.run_name = state.trial_name
        return named

    def prepare(self, args: Any, state: Any) -> None:
        if not (isinstance(self.sink, sinks.MLflowSink) and _is_about_to_set_up(self.callback, state)):
            return
        import mlflow

        if mlflow.active_run() is not None:
            return
        if self.sink.tracking_uri is not None:
            self._store_before = self._store_before or _Store.now()
            mlflow.set_tracking_uri(self.sink.tracking_uri)
        if os.environ.get("MLFLOW_NESTED_RUN", "").upper() not in ENV_VARS_TRUE_VALUES:  # else it opens one inside
            self.sink.start_active_run(args.run_name)

    def set_up(self, args: Any, state: Any, control: Any, model: Any) -> None:
        _set_up(self.callback, args, state, model)

    def take_over(self) -> None:
        if self.callback is not None:
            # The callback has just opened a run; with MLFLOW_NESTED_RUN, that run is inside of another one.
            if vars(self.callback).get("_auto_end_run"):
                self._is_settled = False
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
        try:
            self._end_active_run(status, is_reachable)
        finally:
            before, self._store_before = self._store_before, None
            if before is not None:
                before.restore()

    def _end_active_run(self, status: Status, is_reachable: bool) -> None:
        current = self._current()
        if current != self._run_id or not self._is_the_callbacks(current):
            return
        import mlflow

        # The run is then no longer active in this process, even if no server answers. The sink sends the status again.
        with fail_fast() if not is_reachable else nullcontext():
            mlflow.end_run("FINISHED" if status == "finished" else "FAILED")

    def _current(self) -> str | None:
        mlflow = sys.modules.get("mlflow")
        # The function may be missing while the thread of a sink imports the module.
        active_run = getattr(mlflow, "active_run", None)
        run = active_run() if active_run is not None else None
        if mlflow is None or run is None:
            return None
        if isinstance(self.sink, sinks.MLflowSink) and not self.sink.uses_store(mlflow.get_tracking_uri()):
            return None
        return str(run.info.run_id)


class WandbRun(BackendRun):
    """The process's open run, which is the callback's or the user's."""

    numbers_rows = True

    def prepare(self, args: Any, state: Any) -> None:
        # In a search, the callback would finish this run and open another one for the trial.
        if state.is_hyper_param_search or not _is_about_to_set_up(self.callback, state):
            return
        if isinstance(self.sink, sinks.WandbSink) and self._current() is None:
            self.sink.start_active_run(name=args.run_name)

    def set_up(self, args: Any, state: Any, control: Any, model: Any) -> None:
        _set_up(self.callback, args, state, model)

    def run_id(self) -> str | None:
        # W&B accepts nothing more for a finished run, so a run counts only while it is open.
        self._run_id = self._current()
        return self._run_id

    def end(self, status: Status, is_reachable: bool) -> None:
        # After a successful training the run stays open, so the user can log more to it.
        if status == "finished" or not self._is_the_callbacks(self._current()):
            return
        import wandb

        wandb.finish(exit_code=1)
        # Otherwise the callback would go on as if its run were open. Now it sets up a new one.
        vars(self.callback)["_initialized"] = False

    def _current(self) -> str | None:
        run = getattr(sys.modules.get("wandb"), "run", None)
        if run is None:
            return None
        from mtask_sinks.sinks.wandb_client import path_of

        return path_of(run)


class _Store(NamedTuple):
    """Which tracking store MLflow uses.

    Attributes:
        uri: what ``mlflow.set_tracking_uri`` has set; ``None`` if nothing, or the value of the variable.
        variable: the value of ``MLFLOW_TRACKING_URI``; ``None`` if it is not set.
    """

    uri: str | None
    variable: str | None

    @classmethod
    def now(cls) -> _Store:
        import mlflow

        variable = os.environ.get("MLFLOW_TRACKING_URI")
        uri = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else None  # type: ignore[no-untyped-call]
        return cls(None if uri == variable else uri, variable)

    def restore(self) -> None:
        import mlflow

        mlflow.set_tracking_uri(self.uri)  # type: ignore[arg-type]  # it accepts None
        os.environ.pop("MLFLOW_TRACKING_URI", None)  # the call before has changed it
        if self.variable is not None:
            os.environ["MLFLOW_TRACKING_URI"] = self.variable


def _is_about_to_set_up(callback: Any, state: Any) -> bool:
    """Whether the callback would open a run in its next turn, if none is open."""
    return callback is not None and not callback._initialized and bool(state.is_world_process_zero)


def _set_up(callback: Any, args: Any, state: Any, model: Any) -> None:
    if callback is not None and not callback._initialized:
        callback.setup(args, state, model)


_KINDS: dict[str, type[BackendRun]] = {
    "mlflow": MLflowRun,
    "tensorboard": TensorBoardRun,
    "wandb": WandbRun,
}


def find_backend_run(sink: Sink, callbacks: Sequence[TrainerCallback]) -> BackendRun:
    """Return the run of a sink's backend, with its reporting callback if the trainer has one.

    Of several callbacks for TensorBoard, it is the one to which the user gave a writer.
    """
    own = [callback for callback in callbacks if backend_of(callback) == sink.name]
    callback = next((each for each in own if getattr(each, "tb_writer", None) is not None), own[0] if own else None)
    return _KINDS.get(sink.name, BackendRun)(callback, sink)


def backend_of(callback: TrainerCallback) -> str | None:
    """Return the ``report_to`` name of one of transformers' reporting callbacks; ``None`` for any other callback."""
    return next((name for name, kind in INTEGRATION_TO_CALLBACK.items() if type(callback) is kind), None)


def backends_logged_by(callbacks: Sequence[TrainerCallback]) -> frozenset[str]:
    """Return the backends to which a user's own subclass of a transformers callback logs."""
    return frozenset(
        name
        for name, kind in INTEGRATION_TO_CALLBACK.items()
        if any(isinstance(callback, kind) and type(callback) is not kind for callback in callbacks)
    )
