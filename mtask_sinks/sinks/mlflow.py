"""MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mtask_sinks.keys import backend_name
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.plugins import require_backend
from mtask_sinks.snapshot import RunInfo, Snapshot

if TYPE_CHECKING:
    from mlflow import MlflowClient

# MLflow's limits: parameters a request, characters a parameter.
_PARAMS_A_BATCH = 100
_PARAM_LENGTH = 6000


class MLflowSink(Sink):
    """Metrics of an MLflow run, grouped per task.

    >>> sink = MLflowSink()                         # metrics: mlm/train/loss, mlm/eval/loss, nsp/train/loss, ...

    Writes each snapshot with one ``log_batch``, under the time at which it was made: MLflow keeps a point once, however
    often it is sent. Writes into the run of the Trainer's own callback or of the user if there is one; otherwise opens
    a run with the training's name and parameters, and ends it as finished or failed.

    Args:
        tracking_uri: where the store is; by default what MLflow is set to (``MLFLOW_TRACKING_URI``).
        experiment: name of the experiment of a run that the sink opens; by default ``MLFLOW_EXPERIMENT_NAME``.

    MLflow stores infinity as the largest float64. It keeps every point that comes with another time. So, when a
    training goes on from a checkpoint in the run that it wrote to before (``MLFLOW_RUN_ID``), the sink asks the store
    once a metric for the steps beyond the checkpoint, and leaves out those that are there. These keep the values of the
    first time. Metrics of the Trainer's own callback are not the sink's, and do stand there twice.
    """

    name = "mlflow"

    def __init__(self, tracking_uri: str | None = None, *, experiment: str | None = None) -> None:
        require_backend(self.name)
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._run = RunInfo()
        self._run_id: str | None = None
        self._is_owner = False
        self._opened: MlflowClient | None = None
        #: Metric → steps beyond the checkpoint that the store has from before.
        self._stored: dict[str, frozenset[int]] = {}

    @property
    def _client(self) -> MlflowClient:
        if self._opened is None:
            raise RuntimeError("MLflowSink is not open")
        return self._opened

    def open(self, run: RunInfo) -> None:
        from mlflow import MlflowClient

        self._opened = MlflowClient(self._tracking_uri)
        is_continued = run.id == self._run.id and self._run_id is not None
        if is_continued:
            self._run = run
            return
        self._is_owner = self.name not in run.attached
        self._run_id = self._begin(run) if self._is_owner else run.attached[self.name]
        self._run = run
        self._stored.clear()
        if self._is_owner:
            self._log_params(self._run_id, run.params)

    def write(self, snapshot: Snapshot) -> None:
        from mlflow.entities import Metric

        values: dict[str, Any] = {backend_name(key, snapshot.phase): value for key, value in snapshot.metrics.items()}
        if self._is_owner:
            values |= {log: value for log, value in snapshot.logs.items() if isinstance(value, (int, float))}
        if self._run_id is None:
            return
        milliseconds = int(snapshot.time * 1000)
        metrics = [
            Metric(name, value, milliseconds, snapshot.step)
            for name, value in values.items()
            if not self._is_stored(self._run_id, name, snapshot.step)
        ]
        if metrics:
            self._client.log_batch(self._run_id, metrics=metrics, synchronous=True)

    def close(self, status: Status) -> None:
        if self._is_owner and self._run_id is not None:
            self._client.set_terminated(self._run_id, "FINISHED" if status == "finished" else "FAILED")

    def _is_stored(self, run_id: str, name: str, step: int) -> bool:
        """Whether the training wrote this point before it was resumed."""
        resumed_at = self._run.step
        if not resumed_at or step <= resumed_at:
            return False
        if name not in self._stored:
            history = self._client.get_metric_history(run_id, name)
            steps = frozenset(point.step for point in history if point.step > resumed_at)
            # All metrics of a phase have the same steps, as a rule: they share one set.
            self._stored[name] = next((known for known in self._stored.values() if known == steps), steps)
        return step in self._stored[name]

    def _begin(self, run: RunInfo) -> str:
        """A run of our own, without making it the process's active one; ``MLFLOW_RUN_ID`` continues an earlier one."""
        from mlflow.tracking.context.registry import resolve_tags

        if continued := os.environ.get("MLFLOW_RUN_ID"):
            self._client.set_terminated(continued, "RUNNING")
            os.environ.pop("MLFLOW_RUN_ID", None)  # as MLflow does: a second training is a second run
            return continued
        name = self._experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "Default"
        experiment = self._client.get_experiment_by_name(name)
        experiment_id = experiment.experiment_id if experiment else self._client.create_experiment(name)
        run_id: str = self._client.create_run(experiment_id, run_name=run.name, tags=resolve_tags()).info.run_id
        return run_id

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        there = self._client.get_run(run_id).data.params  # MLflow refuses to change one, and the whole request with it
        texts = {key: str(value) for key, value in params.items() if key not in there}
        entries = [Param(key, text) for key, text in texts.items() if len(text) <= _PARAM_LENGTH]
        for start in range(0, len(entries), _PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=entries[start : start + _PARAMS_A_BATCH])
