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

# Of each phase, the step of the row. W&B's summary keeps the last value of every column, so it tells a resumed training
# which rows are there. The step above does not: the Trainer's callback writes it too, before or after this sink.
_WRITTEN = "_mtask_sinks/"


class WandbSink(Sink):
    """History of a W&B run, one section a task.

    >>> sink = WandbSink()                          # charts: mlm/train/loss, mlm/eval/loss, nsp/train/loss, ...

    Writes each snapshot as one row with ``train/global_step`` in it, never with ``step=``, which would drop rows or
    merge them with those of the Trainer's own callback. Writes into the process's open run if there is one; otherwise
    opens a run with the training's name and parameters, and finishes it, with exit code 1 if the training failed.

    When a training goes on from a checkpoint in the W&B run that it wrote to before (``WANDB_RUN_ID`` with
    ``WANDB_RESUME``), rows that the server has from before are left out, so none of this sink's stands there twice. It
    knows them by a hidden column a phase, ``_mtask_sinks/<phase>``: the step of the row. What that cannot do:

    * rows that the client had not sent when the process was killed (it sends every 15 s, or every
      ``WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL``) come again if they are beyond the checkpoint, and are lost if not;
    * offline the client knows nothing of what the server has: all rows are written, and stand twice once synced;
    * rows of the Trainer's own callback are not the sink's, and do stand there twice.

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
        #: Phase → step of the last row that the run had before.
        self._written: dict[str, int] = {}

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
        if not is_continued:
            self._written = _written(self._opened) if self._opened.resumed else {}
        self._run, self._run_id = run, self._opened.id

    def write(self, snapshot: Snapshot) -> None:
        row: dict[str, Any] = {backend_name(key, snapshot.phase): value for key, value in snapshot.metrics.items()}
        if self._is_owner:
            row |= {trainer_log_name(log): value for log, value in snapshot.logs.items()}
        if row and self._opened is not None and not self._is_written(snapshot):
            self._opened.log({**row, STEP: snapshot.step, _WRITTEN + snapshot.phase: snapshot.step})

    def _is_written(self, snapshot: Snapshot) -> bool:
        """Whether the training wrote this row before it was resumed."""
        resumed_at = self._run.step
        return bool(resumed_at) and resumed_at < snapshot.step <= self._written.get(snapshot.phase, 0)

    def close(self, status: Status) -> None:
        opened, self._opened = self._opened, None
        if self._is_owner and opened is not None:
            opened.finish(exit_code=0 if status == "finished" else 1)


def _written(run: Run) -> dict[str, int]:
    return {name.removeprefix(_WRITTEN): step for name, step in dict(run.summary).items() if name.startswith(_WRITTEN)}


def _open_run(run_id: str) -> Run:
    import wandb

    if wandb.run is None or wandb.run.id != run_id:
        raise RuntimeError(f"the W&B run {run_id} is no longer open in this process")
    return wandb.run
