"""MLflow."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from mtask_sinks.errors import NotReady, Rejected
from mtask_sinks.keys import MAX_KEY_LENGTH, backend_name, digest
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.health import check_url, check_writable, without_user
from mtask_sinks.sinks.plugins import require_backend
from mtask_sinks.sinks.timeouts import one_quick_try
from mtask_sinks.snapshot import RunInfo, Snapshot

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

# MLflow's limits: parameters a request, characters a parameter.
_PARAMS_A_BATCH = 100
_PARAM_LENGTH = 6000

# What the making of a run heeds, besides where it is made.
_VARIABLES = ("MLFLOW_EXPERIMENT_NAME", "MLFLOW_TAGS", "MLFLOW_FLATTEN_PARAMS", "MLFLOW_MAX_LOG_PARAMS")

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}

#: Tag of a run that the sink opened: the training it is of. An answer to the request that makes a run may get lost;
#: the next try finds the run by this.
RUN_TAG = "mtask_sinks.run"

# A store in a file of this machine.
_SQLITE = "sqlite:///"

# What MLflow says of data that it will never accept.
_REFUSALS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")


class MLflowSink(Sink):
    """Metrics of an MLflow run, grouped per task.

    >>> sink = MLflowSink()                         # metrics: mlm/train/loss, mlm/eval/loss, nsp/train/loss, ...

    Writes each snapshot with one ``log_batch``, under the time at which it was made: MLflow keeps a point once, however
    often it is sent. Writes into the run of the Trainer's own callback or of the user if there is one; otherwise opens
    a run with the training's name and parameters. Ends the run as finished, failed or killed, unless it is the user's.

    Args:
        tracking_uri: where the store is; by default what MLflow is set to (``MLFLOW_TRACKING_URI``).
        experiment: name of the experiment of a run that the sink opens; by default ``MLFLOW_EXPERIMENT_NAME``.

    A run that the sink opens heeds the variables that the Trainer's callback heeds: ``MLFLOW_RUN_ID``, ``MLFLOW_TAGS``,
    ``MLFLOW_FLATTEN_PARAMS``, ``MLFLOW_MAX_LOG_PARAMS``.

    MLflow stores infinity as the largest float64. It keeps every point that comes with another time. So, when a
    training goes on from a checkpoint in the run that it wrote to before (``MLFLOW_RUN_ID``), the sink asks the store
    once a metric for the steps beyond the checkpoint, and leaves out those that are there. These keep the values of the
    first time.
    """

    name = "mlflow"

    def __init__(self, tracking_uri: str | None = None, *, experiment: str | None = None) -> None:
        require_backend(self.name)
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._run = RunInfo()
        self._run_id: str | None = None
        self._opened: MlflowClient | None = None
        self._lacks_params = False
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
        existing = run.existing(self.name)
        if run.id != self._run.id or self._run_id is None or existing not in (None, self._run_id):
            self._run_id, self._lacks_params = None, existing is None
            self._run_id = self._begin(run) if existing is None else existing
            self._stored.clear()
        self._run = run
        if self._lacks_params:
            self._log_params(self._run_id, run.params)
            self._lacks_params = False

    def write(self, snapshot: Snapshot) -> None:
        from mlflow.entities import Metric

        run_id = self._run_id
        if run_id is None:
            raise RuntimeError("MLflowSink is not open")
        values: dict[str, Any] = {backend_name(key, snapshot.phase): value for key, value in snapshot.metrics.items()}
        if self.name not in self._run.logged:
            values |= {_log_name(log): value for log, value in snapshot.logs.items() if _is_number(value)}
        milliseconds = int(snapshot.time * 1000)
        metrics = [
            Metric(name, float(value), milliseconds, snapshot.step)
            for name, value in values.items()
            if not self._is_stored(run_id, name, snapshot.step)
        ]
        if metrics and self._refusal(run_id, metrics) is not None:
            # One metric that MLflow refuses makes it refuse all: those that it takes go alone.
            refusals = [refusal for metric in metrics if (refusal := self._refusal(run_id, [metric])) is not None]
            if refusals:
                raise Rejected(f"{len(refusals)} of {len(metrics)} metrics refused: {refusals[0]}")

    def close(self, status: Status) -> None:
        if self.name in self._run.attached or self._run_id is None:
            return
        if self.name in self._run.continued:
            # What whoever opened it could not send: the Trainer's callback sends parameters once, in the background.
            self._log_params(self._run_id, self._run.params)
            for key, text in _tags().items():
                self._client.set_tag(self._run_id, key, text)
        self._client.set_terminated(self._run_id, _STATUS[status])

    def target(self) -> str | None:
        return self._run_id

    def environment(self) -> Mapping[str, str]:
        import mlflow

        uri = self._tracking_uri or mlflow.get_tracking_uri()
        found = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        return found if urlsplit(uri).password else {"MLFLOW_TRACKING_URI": uri, **found}

    def check(self, run: RunInfo, seconds: float) -> str | None:
        import mlflow

        uri = self._tracking_uri or mlflow.get_tracking_uri()
        shown = without_user(uri)
        file = Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None
        if file is not None and not file.exists():  # to open it would make it
            check_writable(file.parent)
            return f"{shown} is not there yet and can be made"
        if uri.startswith(("http://", "https://")):
            status = check_url(f"{uri.rstrip('/')}/health", seconds)
            if status != 200:
                raise NotReady(f"{shown}/health answers with {status}: is it an MLflow server?")
        with one_quick_try():
            mlflow.MlflowClient(uri).search_experiments(max_results=1)
        if file is not None and not os.access(file, os.W_OK):
            raise NotReady(f"{shown} cannot be written")
        return f"{shown} answers"

    def _refusal(self, run_id: str, metrics: list[Metric]) -> str | None:
        """Send metrics; returns why MLflow will never take them, if that is so, and raises for all other failures."""
        from mlflow import MlflowException

        try:
            self._client.log_batch(run_id, metrics=metrics, synchronous=True)
        except MlflowException as error:
            if error.error_code not in _REFUSALS:
                raise
            return str(error)
        return None

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
        found = self._client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run.id}'") if run.id else []
        if found:
            return str(found[0].info.run_id)
        tags = {**resolve_tags(), **_tags(), RUN_TAG: run.id}
        return str(self._client.create_run(experiment_id, run_name=run.name, tags=tags).info.run_id)

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        there = self._client.get_run(run_id).data.params  # MLflow refuses to change one, and the whole request with it
        params = _flat(params) if os.environ.get("MLFLOW_FLATTEN_PARAMS", "").upper() in ("TRUE", "1") else params
        texts = {key: str(value) for key, value in params.items()}
        short = {key: text for key, text in texts.items() if len(text) <= _PARAM_LENGTH}
        limit = os.environ.get("MLFLOW_MAX_LOG_PARAMS", "")
        wanted = list(short.items())[: int(limit) if limit.isdigit() else None]
        entries = [Param(key, text) for key, text in wanted if key not in there]
        for start in range(0, len(entries), _PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=entries[start : start + _PARAMS_A_BATCH])


def _tags() -> dict[str, str]:
    tags: dict[str, str] = json.loads(os.environ.get("MLFLOW_TAGS") or "{}")
    return tags


def _is_number(value: Any) -> bool:
    if not isinstance(value, (int, float)):
        return False
    try:
        float(value)
    except OverflowError:  # an integer beyond all floats
        return False
    return True


def _log_name(name: str) -> str:
    """What MLflow calls one of the Trainer's logs: its own name if MLflow takes that, else one that it takes.

    Like the Trainer's callback, with ``_`` for what MLflow does not allow. What would still be refused (``a//b``,
    ``../a``, too long), and with it all other values of the row, ends in a hash.
    """
    cleaned = re.sub(r"[^0-9A-Za-z_\-\. :/]", "_", name)
    if posixpath.normpath(cleaned) == cleaned and not cleaned.startswith(("/", "..")) and len(cleaned) < MAX_KEY_LENGTH:
        return cleaned
    return f"{re.sub('[./]+', '_', cleaned)[: MAX_KEY_LENGTH - 9]}-{digest(name)}"


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested parameters under joined names, as transformers joins them: ``outer.inner``."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
