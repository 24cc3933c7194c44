"""Limits how long the backends' clients try to reach a server, unless the user has set other limits."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

#: Environment variables. The trainer sets each one that is not set yet, before transformers' callbacks first use the
#: network. With MLflow's defaults, each call to a server that does not answer blocks for 247 s (closed port) to 1,207 s
#: (the server accepts and never answers). With W&B's defaults, the client waits 90 s for a run to begin, and without
#: limit for a run to finish (measured with mlflow 3.17 and wandb 0.31). The last variable makes W&B's client write its
#: file every second instead of every 15 s, so a killed process loses at most one second of data. Without jitter,
#: MLflow's client draws no numbers from Python's ``random``. A sink's thread calls the client at times that vary, so
#: such draws would change the random numbers of the training.
NETWORK_LIMITS: Mapping[str, str] = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0",
    "WANDB_INIT_TIMEOUT": "20",
    "WANDB_FINISH_TIMEOUT": "20",
    "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1",
}

_FAIL_FAST = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}


def limit_network() -> None:
    """Set the variables of `NETWORK_LIMITS` in this process, except those that are already set."""
    for name, value in NETWORK_LIMITS.items():
        os.environ.setdefault(name, value)


@contextmanager
def fail_fast() -> Iterator[None]:
    """Inside this block, MLflow's client tries each call to a server once, for at most 2 s.

    >>> with fail_fast():
    ...     os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    '2'
    """
    before = {name: os.environ.get(name) for name in _FAIL_FAST}
    os.environ.update(_FAIL_FAST)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
