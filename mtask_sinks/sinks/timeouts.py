"""Limits how long the backends' clients try to reach a server, unless the user has set other limits."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

#: Environment variables. The trainer sets those of its backends that are not set yet, before transformers' callbacks
#: first use the network. With MLflow's defaults, each call to a server that does not answer blocks for 247 s (closed
#: port) to 1,207 s (the server accepts and never answers). With W&B's defaults, the client waits 90 s for a run to
#: begin, and without limit for a run to finish (measured with mlflow 3.17 and wandb 0.31). The last variable makes
#: W&B's client write its file every second instead of every 15 s, so a killed process loses at most one second of data.
#: Without jitter, MLflow's client draws no numbers from Python's ``random``. A sink's thread calls the client at times
#: that vary, so such draws would change the random numbers of the training.
NETWORK_LIMITS: Mapping[str, str] = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "WANDB_INIT_TIMEOUT": "20",
    "WANDB_FINISH_TIMEOUT": "20",
    "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1",
}


def limit_network(backends: Iterable[str]) -> None:
    """Set the variables of `NETWORK_LIMITS` that belong to these backends. Keep each variable that is already set.

    If W&B also stores models (``WANDB_LOG_MODEL``), a run may take as long to finish as it needs to upload them.
    """
    prefixes = tuple(f"{backend.upper()}_" for backend in backends)
    stores_models = os.environ.get("WANDB_LOG_MODEL", "false").lower() not in ("false", "0", "")
    for name, value in NETWORK_LIMITS.items():
        if name.startswith(prefixes) and not (stores_models and name == "WANDB_FINISH_TIMEOUT"):
            os.environ.setdefault(name, value)


@contextmanager
def fail_fast(seconds: float = 2.0) -> Iterator[None]:
    """Inside this block, MLflow's client tries each call to a server once, for at most so many seconds, rounded up.

    >>> with fail_fast():
    ...     os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    '2'
    """
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": str(math.ceil(seconds))}
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
