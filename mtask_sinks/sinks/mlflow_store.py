"""Checks whether MLflow's tracking store can be used now."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mtask_sinks._util.masking import mask
from mtask_sinks._util.schemes import has_scheme
from mtask_sinks.errors import NotReady
from mtask_sinks.sinks.health import check_connection, check_writable, without_user
from mtask_sinks.sinks.timeouts import fail_fast

_SQLITE = "sqlite:///"
_FILE = "file:"
# How many characters of a server's answer an error quotes. MLflow's client quotes whole pages.
_MAX_PAGE = 200


def is_same_store(one: str, other: str) -> bool:
    """Return whether two tracking URIs are the same place, although they may be written differently.

    >>> is_same_store("sqlite:///mlflow.db", f"sqlite:///{os.getcwd()}/mlflow.db")
    True
    >>> is_same_store("http://host:5000", "http://host:5000/"), is_same_store("./mlruns", "sqlite:///mlruns")
    (True, False)
    """
    return _place(one) == _place(other)


def _place(uri: str) -> str:
    if uri.startswith(_SQLITE):
        return _SQLITE + os.path.realpath(uri.removeprefix(_SQLITE))
    if uri.startswith(_FILE):
        return os.path.realpath(url2pathname(urlsplit(uri).path))
    return uri.rstrip("/") if has_scheme(uri) else os.path.realpath(uri)


def check_store(uri: str, seconds: float) -> str:
    """Check a tracking store without creating anything in it.

    >>> check_store("sqlite:///no-such-file.db", seconds=2.0)
    'sqlite:///no-such-file.db does not exist yet and can be created'

    Args:
        uri: MLflow's tracking URI of the store.
        seconds: time limit for the connection to a server, and for its answer.

    Returns:
        The place of the store, in a few words.

    Raises:
        NotReady: a server does not answer, refuses the user or is not an MLflow server, or a database file cannot be
            written.
        Exception: any exception that MLflow's client raises if it cannot read the store.
    """
    shown = without_user(uri)
    file = Path(uri.removeprefix(_SQLITE)) if uri.startswith(_SQLITE) else None
    if file is not None and not file.exists():  # MLflow's client would create it
        check_writable(file.parent)
        return f"{shown} does not exist yet and can be created"
    if uri.startswith(("http://", "https://")):
        check_connection(uri, seconds)
    import mlflow

    # Only MLflow's client knows the user's password, token and certificate for the server.
    try:
        with fail_fast(seconds):
            mlflow.MlflowClient(uri).search_experiments(max_results=1)
    except mlflow.MlflowException as error:
        reason, quoted, page = mask(str(error)).partition("\n")[0].partition("Response body: ")
        reason += quoted + (page if len(page) <= _MAX_PAGE else f"{page[:_MAX_PAGE]}…")
        raise NotReady(f"{shown} does not answer as an MLflow store does: {reason}") from error
    if file is not None and not os.access(file, os.W_OK):
        raise NotReady(f"{shown} cannot be written")
    return f"{shown} answers"
