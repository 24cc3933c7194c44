"""Writes metrics to MLflow."""

from __future__ import annotations

import json
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtask_sinks._util.built_anew import BuiltAnew
from mtask_sinks._util.log import get_logger
from mtask_sinks._util.masking import mask
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.errors import NoSuchRun, Rejected
from mtask_sinks.keys import MAX_KEY_LENGTH, backend_name, cut_with_hash
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.lookup import require_backend
from mtask_sinks.sinks.mlflow_store import check_store, is_same_store
from mtask_sinks.snapshot import RunInfo, Snapshot

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

logger = get_logger(__name__)

# MLflow's limits: parameters per request, characters per parameter.
_PARAMS_PER_BATCH = 100
_PARAM_LENGTH = 6000

# Variables, in addition to the tracking URI, that another process needs to create the same run.
_VARIABLES = (
    "MLFLOW_EXPERIMENT_NAME",
    "MLFLOW_EXPERIMENT_ID",
    "MLFLOW_TAGS",
    "MLFLOW_FLATTEN_PARAMS",
    "MLFLOW_MAX_LOG_PARAMS",
)

_STATUS = {"finished": "FINISHED", "failed": "FAILED", "killed": "KILLED"}

#: Tag of a run that the sink created. Its value is the id of the training. If MLflow creates the run, but its answer
#: gets lost, the next try finds the run by this tag.
RUN_TAG = "mtask_sinks.run"
# MLflow's tag with the name of a run.
_NAME_TAG = "mlflow.runName"

# MLflow's error codes for data that it will never accept, and for a run or an experiment that it does not have. For a
# deleted run, it uses one of the former.
_REJECTIONS = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
_NOT_FOUND = "RESOURCE_DOES_NOT_EXIST"
# A store in a directory has one file per metric. It cannot hold both "box" and "box/l1".
_NAME_CONFLICTS = (IsADirectoryError, NotADirectoryError, FileExistsError)


class MLflowSink(BuiltAnew, Sink):
    """Writes metrics to an MLflow run, grouped per task.

    >>> sink = MLflowSink()                         # metrics: mlm/train/loss, mlm/eval/loss, nsp/train/loss, ...

    The sink writes each snapshot with one ``log_batch`` and with the snapshot's own time, so MLflow keeps only one
    point if the sink sends it twice. If the Trainer's callback or the user has opened a run, the sink writes to that
    run. Otherwise it creates a run with the training's parameters and name; without a name, that of its output
    directory. At the end it marks the run as finished, failed or killed, unless the user owns the run.

    Args:
        tracking_uri: address of the tracking store; by default MLflow's own setting (``MLFLOW_TRACKING_URI``). Until
            the training ends, ``mlflow`` itself uses this store too, unless a run in another store is open.
        experiment: name of the experiment of the run, whether the sink creates it or the Trainer's callback uses it; by
            default ``MLFLOW_EXPERIMENT_NAME``, else the experiment that ``mlflow.set_experiment`` chose
            (``MLFLOW_EXPERIMENT_ID``; not if ``tracking_uri`` is given), else ``Default``.

    Raises:
        TypeError: an argument is no string.
        MissingBackendError: the package mlflow is not installed.

    When the sink creates a run, it follows the same variables as the Trainer's callback: ``MLFLOW_RUN_ID``,
    ``MLFLOW_TAGS``, ``MLFLOW_FLATTEN_PARAMS``, ``MLFLOW_MAX_LOG_PARAMS``.

    MLflow stores infinity as the largest float64. It keeps two points of the same step if their times differ. So when
    training resumes in the run to which it wrote before (``MLFLOW_RUN_ID``), the sink asks the store once per metric
    for the steps beyond the checkpoint. It leaves out steps that the store has; they keep their first values.
    """

    name = "mlflow"

    def __init__(self, tracking_uri: str | None = None, *, experiment: str | None = None) -> None:
        require_backend(self.name)
        for argument, given in (("tracking_uri", tracking_uri), ("experiment", experiment)):
            if not isinstance(given, str | os.PathLike | None):
                raise TypeError(
                    f"MLflowSink({argument}={given!r}): pass a string, or nothing for MLflow's own setting."
                )
        self._tracking_uri = tracking_uri
        self._experiment = experiment
        self._run = RunInfo()
        self._run_id: str | None = None
        self._opened_client: MlflowClient | None = None
        self._lacks_params = False
        self._warn_once = WarnOnce(logger)
        #: Whether the sink has ended the run.
        self._has_ended = False
        #: Names of metrics that MLflow has refused.
        self._refused: set[str] = set()
        #: Metric → steps beyond the checkpoint for which the store already had a value before training resumed.
        self._stored_steps: dict[str, frozenset[int]] = {}

    def _settings(self) -> dict[str, Any]:
        return {"tracking_uri": self._tracking_uri, "experiment": self._experiment}

    @property
    def tracking_uri(self) -> str | None:
        """The tracking store that the user has given to this sink; ``None`` if it uses MLflow's own setting."""
        return self._tracking_uri

    def uses_store(self, uri: str) -> bool:
        """Return whether the sink writes to the tracking store at this address, if that is MLflow's own setting."""
        return self._tracking_uri is None or is_same_store(self._tracking_uri, uri)

    def start_active_run(self, name: str | None) -> None:
        """Start a run in the experiment of this sink, as the active run of this thread. MLflow must use its store.

        A sink without settings leaves this to the Trainer's callback.
        """
        if self._tracking_uri is None and self._experiment is None:
            return
        import mlflow

        is_continued = bool(os.environ.get("MLFLOW_RUN_ID"))
        experiment_id = None if is_continued else self._experiment_id(mlflow.MlflowClient())
        mlflow.start_run(run_name=name, experiment_id=experiment_id)

    @property
    def _client(self) -> MlflowClient:
        if self._opened_client is None:
            raise RuntimeError("MLflowSink is not open. Call open() first.")
        return self._opened_client

    def open(self, run: RunInfo) -> None:
        from mlflow import MlflowClient

        if self._opened_client is None or run.id != self._run.id:
            # Not for the same run: `mlflow.set_tracking_uri` may have changed MLflow's own setting.
            self._opened_client = MlflowClient(self._tracking_uri)
        existing, before = run.existing(self.name), self._run_id
        if run.id != self._run.id or self._run_id is None or existing not in (None, self._run_id):
            self._run_id, self._lacks_params = None, existing is None
            self._run_id = self._create_run(run) if existing is None else existing
            self._stored_steps.clear()
            self._has_ended = self._has_ended and self._run_id == before  # the same run of MLflow may go on
        if self._has_ended and run.is_training:  # the training goes on, in another run of some other backend
            with self._missing_run(self._run_id):
                self._opened_client.update_run(self._run_id, status="RUNNING")
        self._run, self._has_ended = run, False
        if self._lacks_params:
            self._log_params(self._run_id, run.params)
            self._lacks_params = False

    def write(self, snapshot: Snapshot) -> None:
        from mlflow.entities import Metric

        run_id = self._run_id
        if run_id is None:
            raise RuntimeError("MLflowSink is not open. Call open() first.")
        values: dict[str, Any] = {backend_name(key, snapshot.phase): value for key, value in snapshot.metrics.items()}
        if self.name not in self._run.logged:
            values |= {_log_name(log): value for log, value in snapshot.logs.items() if _is_number(value)}
        milliseconds = int(snapshot.time * 1000)
        with self._missing_run(run_id):
            metrics = [
                Metric(name, float(value), milliseconds, snapshot.step)
                for name, value in values.items()
                if not self._is_stored(run_id, name, snapshot.step)
            ]
            self._send_metrics(run_id, metrics)

    def _send_metrics(self, run_id: str, metrics: list[Metric]) -> None:
        # MLflow rejects a whole batch because of one metric. So a metric that it has refused before comes alone. If
        # MLflow rejects the batch, each metric comes alone, so that the valid ones arrive.
        alone = [metric for metric in metrics if metric.key in self._refused]
        together = [metric for metric in metrics if metric.key not in self._refused]
        if together and self._send(run_id, metrics=together) is not None:
            alone = metrics
        refused = {each.key: reason for each in alone if (reason := self._send(run_id, metrics=[each])) is not None}
        if refused:
            self._refused |= refused.keys()
            reason = next(iter(refused.values()))
            raise Rejected(f"MLflow refused {len(refused)} of {len(metrics)} metrics: {reason}")

    def close(self, status: Status) -> None:
        if self.name in self._run.attached or self._run_id is None:
            return
        with self._missing_run(self._run_id):
            if self.name in self._run.continued:
                # The run may lack parameters, because the Trainer's callback sends them once, in the background.
                self._log_params(self._run_id, self._run.params)
                for key, text in _tags().items():
                    self._client.set_tag(self._run_id, key, text)
            self._client.set_terminated(self._run_id, _STATUS[status])
        self._has_ended = True

    def target(self) -> str | None:
        return self._run_id

    def environment(self) -> Mapping[str, str]:
        uri = self._uri()
        found = {name: os.environ[name] for name in _VARIABLES if os.environ.get(name)}
        if self._tracking_uri is not None or self._experiment is not None:
            found.pop("MLFLOW_EXPERIMENT_ID", None)  # the sink does not use it
        if self._experiment is not None:
            found["MLFLOW_EXPERIMENT_NAME"] = self._experiment
        return {name: mask(value) for name, value in {"MLFLOW_TRACKING_URI": uri, **found}.items()}

    def check(self, run: RunInfo, seconds: float) -> str | None:
        return check_store(self._uri(), seconds)

    def _uri(self) -> str:
        import mlflow

        return self._tracking_uri or mlflow.get_tracking_uri()

    def _send(self, run_id: str, *, metrics: Sequence[Metric] = (), params: Sequence[Param] = ()) -> str | None:
        """Send a batch. Return MLflow's reason if it will never accept the batch; raise for every other failure."""
        from mlflow import MlflowException

        try:
            self._client.log_batch(run_id, metrics=metrics, params=params, synchronous=True)
        except MlflowException as error:
            if error.error_code not in _REJECTIONS and not isinstance(error.__context__, _NAME_CONFLICTS):
                raise
            self._check_not_deleted(run_id)
            return str(error)
        return None

    @contextmanager
    def _missing_run(self, run_id: str) -> Iterator[None]:
        """Raise `NoSuchRun` if MLflow refuses a request inside a ``with`` block because it does not have the run."""
        from mlflow import MlflowException

        try:
            yield
        except MlflowException as error:
            if error.error_code == _NOT_FOUND:
                raise NoSuchRun(f"{mask(self._uri())} has no MLflow run {run_id}") from error
            if error.error_code in _REJECTIONS:
                self._check_not_deleted(run_id)
            raise

    def _check_not_deleted(self, run_id: str) -> None:
        if self._client.get_run(run_id).info.lifecycle_stage == "deleted":
            raise NoSuchRun(
                f"the MLflow run {run_id} is deleted, alone or with its experiment. The rest of its values can "
                f"arrive only if you restore it: mlflow runs restore --run-id {run_id}"
            )

    def _is_stored(self, run_id: str, name: str, step: int) -> bool:
        """Return whether the training wrote this point before it was resumed."""
        resumed_at = self._run.step
        if not resumed_at or step <= resumed_at:
            return False
        if name not in self._stored_steps:
            history = self._client.get_metric_history(run_id, name)
            steps = frozenset(point.step for point in history if point.step > resumed_at)
            # The metrics of a phase usually have the same steps, so they share one set.
            self._stored_steps[name] = next((known for known in self._stored_steps.values() if known == steps), steps)
        return step in self._stored_steps[name]

    def _create_run(self, run: RunInfo) -> str:
        """Create a run without making it the active run of the process. ``MLFLOW_RUN_ID`` continues an earlier run."""
        from mlflow.tracking.context.registry import resolve_tags

        if continued := os.environ.get("MLFLOW_RUN_ID"):
            self._client.set_terminated(continued, "RUNNING")
            os.environ.pop("MLFLOW_RUN_ID", None)  # as MLflow does, so that a second training is a second run
            return continued
        experiment_id = self._experiment_id(self._client)
        found = self._client.search_runs([experiment_id], f"tags.`{RUN_TAG}` = '{run.id}'") if run.id else []
        if found:
            return str(found[0].info.run_id)
        tags = {**resolve_tags(), **_tags(), RUN_TAG: run.id}
        name = run.name
        if not name and _NAME_TAG not in tags:
            # Never none: for a run in a local store, MLflow draws a name from Python's `random`, here in a thread, so a
            # training that uses `random` could not be repeated.
            name = Path(run.output_dir or "").name or run.id or "training"
        return str(self._client.create_run(experiment_id, run_name=name, tags=tags).info.run_id)

    def _experiment_id(self, client: MlflowClient) -> str:
        """Return the id of the experiment for a new run. If the experiment is given by name and missing, create it."""
        from mlflow import MlflowException

        name = self._experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        chosen = os.environ.get("MLFLOW_EXPERIMENT_ID")
        if not name and chosen and self._tracking_uri is None:
            try:
                return str(client.get_experiment(chosen).experiment_id)
            except MlflowException as error:
                if error.error_code != _NOT_FOUND:
                    raise
                message = (
                    "there is no experiment %r (MLFLOW_EXPERIMENT_ID) in %s. The run is in the experiment Default."
                )
                self._warn_once("experiment", message, chosen, mask(self._uri()))
        experiment = client.get_experiment_by_name(name or "Default")
        return str(experiment.experiment_id if experiment else client.create_experiment(name or "Default"))

    def _log_params(self, run_id: str, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        # MLflow rejects a whole request if the request changes an existing parameter.
        existing = self._client.get_run(run_id).data.params
        params = _flat(params) if os.environ.get("MLFLOW_FLATTEN_PARAMS", "").upper() in ("TRUE", "1") else params
        texts = {key: str(value) for key, value in params.items()}
        short = {key: text for key, text in texts.items() if len(text) <= _PARAM_LENGTH}
        limit = os.environ.get("MLFLOW_MAX_LOG_PARAMS", "")
        wanted = list(short.items())[: int(limit) if limit.isdecimal() else None]
        entries = [Param(key, text) for key, text in wanted if key not in existing]
        for start in range(0, len(entries), _PARAMS_PER_BATCH):
            batch = entries[start : start + _PARAMS_PER_BATCH]
            if self._send(run_id, params=batch) is None:
                continue
            refused = {each.key: reason for each in batch if (reason := self._send(run_id, params=[each])) is not None}
            for name, reason in refused.items():
                self._warn_once("params", "MLflow refused the parameter %r, which is left out: %s", name, reason)


def _tags() -> dict[str, str]:
    tags: dict[str, str] = json.loads(os.environ.get("MLFLOW_TAGS") or "{}")
    return tags


def _is_number(value: Any) -> bool:
    if not isinstance(value, (int, float)):
        return False
    try:
        float(value)
    except OverflowError:  # an integer beyond the range of floats
        return False
    return True


def _log_name(name: str) -> str:
    """Return the metric's name for one of the Trainer's logs: the log's name if MLflow accepts it, else a similar one.

    >>> _log_name("eval_loss"), _log_name("top 5%"), _log_name("a//b"), _log_name("eval_größe_loss")
    ('eval_loss', 'top 5_', 'a_b-586cec69', 'eval_größe_loss')

    Like the Trainer's callback, this puts ``_`` in place of characters that MLflow does not allow. But it keeps letters
    of every alphabet, which MLflow allows: without them, two evaluation sets could get one name. MLflow would still
    reject some names (``a//b``, ``../a``, too long). So this changes these names and appends a hash.
    """
    cleaned = re.sub(r"[^\w\-. :/]", "_", name)
    is_short = len(cleaned.encode()) <= MAX_KEY_LENGTH
    if posixpath.normpath(cleaned) == cleaned and not cleaned.startswith(("/", "..")) and is_short:
        return cleaned
    return cut_with_hash(re.sub("[./]+", "_", cleaned), MAX_KEY_LENGTH, of=name)


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested parameters as one dict, with joined names as transformers makes them.

    >>> _flat({"optimizer": {"lr": 0.1}, "seed": 0})
    {'optimizer.lr': 0.1, 'seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
