"""Weights & Biases."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from mtask_sinks.keys import backend_name, trainer_log_name
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.plugins import require_backend
from mtask_sinks.snapshot import RunInfo, Snapshot

if TYPE_CHECKING:
    from wandb import Run

#: The x axis of every chart, as the Trainer's own callback calls it.
STEP = "train/global_step"


class WandbSink(Sink):
    """History of a W&B run, one section a task.

    >>> sink = WandbSink()                          # charts: mlm/train/loss, mlm/eval/loss, nsp/train/loss, ...

    Writes each snapshot as one row with ``train/global_step`` in it, never with ``step=``, which would drop rows or
    merge them with those of the Trainer's own callback. Writes into the process's open run if there is one; otherwise
    opens a run with the training's name and parameters, and finishes it, with exit code 1 if the training failed.

    Args:
        project: project of a run that the sink opens; by default ``WANDB_PROJECT``, else ``huggingface``.
        **init: further arguments of ``wandb.init`` for a run that the sink opens.
    """

    name = "wandb"

    def __init__(self, project: str | None = None, **init: Any) -> None:
        require_backend(self.name)
        self._init = {**init, "project": project or os.environ.get("WANDB_PROJECT", "huggingface")}
        self._run = RunInfo()
        self._run_id: str | None = None
        self._is_owner = False
        self._opened: Run | None = None

    def open(self, run: RunInfo) -> None:
        import wandb

        is_continued = run.id == self._run.id and self._run_id is not None
        if not is_continued:
            self._is_owner = self.name not in run.attached
        if not self._is_owner:
            self._opened = _open_run(run.attached[self.name])
        elif is_continued:
            self._opened = wandb.init(**{**self._init, "id": self._run_id, "resume": "allow"})
        else:
            config = dict(run.params)
            self._opened = wandb.init(**{"name": run.name, "config": config, "reinit": "create_new", **self._init})
            self._opened.define_metric(STEP)
            self._opened.define_metric("*", step_metric=STEP, step_sync=True)
        self._run, self._run_id = run, self._opened.id

    def write(self, snapshot: Snapshot) -> None:
        row: dict[str, Any] = {backend_name(key, snapshot.phase): value for key, value in snapshot.metrics.items()}
        if self._is_owner:
            row |= {trainer_log_name(log): value for log, value in snapshot.logs.items()}
        if row and self._opened is not None:
            self._opened.log({**row, STEP: snapshot.step})

    def close(self, status: Status) -> None:
        opened, self._opened = self._opened, None
        if self._is_owner and opened is not None:
            opened.finish(exit_code=0 if status == "finished" else 1)


def _open_run(run_id: str) -> Run:
    import wandb

    if wandb.run is None or wandb.run.id != run_id:
        raise RuntimeError(f"the W&B run {run_id} is no longer open in this process")
    return wandb.run
