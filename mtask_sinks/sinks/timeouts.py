"""Limits on how long the backends' clients try to reach a server, where the user has set none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

#: Set before transformers' callbacks first touch the network, each only if it is not set. By their own defaults an
#: MLflow server that does not answer holds up every call for 247 s (closed port) to 1,207 s (accepts, never answers),
#: and W&B waits 90 s for a run to begin and without end for one to finish (measured with mlflow 3.17 and wandb 0.31).
#: The last one has W&B's client write its file every second and not every 15 s: a killed process loses that much.
NETWORK_LIMITS: Mapping[str, str] = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "WANDB_INIT_TIMEOUT": "20",
    "WANDB_FINISH_TIMEOUT": "20",
    "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1",
}

_QUICK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "2"}


def limit_network() -> None:
    """Set `NETWORK_LIMITS` in this process's environment, except those that are set."""
    for name, value in NETWORK_LIMITS.items():
        os.environ.setdefault(name, value)


@contextmanager
def one_quick_try() -> Iterator[None]:
    """For a call to an MLflow server that is known to be away."""
    before = {name: os.environ.get(name) for name in _QUICK}
    os.environ.update(_QUICK)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
