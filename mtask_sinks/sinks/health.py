"""Asks the backends of sinks whether they answer now, within a time limit."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mtask_sinks._util.masking import MASK, mask
from mtask_sinks.errors import NotReady
from mtask_sinks.sinks.base import THREAD_NAME
from mtask_sinks.sinks.lookup import make_sink
from mtask_sinks.snapshot import RunInfo


@dataclass(frozen=True)
class Answer:
    """The result of one backend's check.

    Attributes:
        is_ready: whether a training could write to the backend now; ``None`` if its sink has no check.
        detail: the place of the backend, or the problem.
    """

    is_ready: bool | None
    detail: str


def check_sinks(names: Iterable[str], run: RunInfo, seconds: float) -> dict[str, Answer]:
    """Ask the backends of all these sinks at the same time. A backend that does not answer in time is not ready.

    Args:
        names: names of sinks, as for `make_sink`.
        run: the training that would write, with its directory and name.
        seconds: time limit for all checks together, including the import of the backends' packages.
    """
    answers: dict[str, Answer] = {}
    # Daemon threads, so that a client that hangs does not keep the process alive.
    threads = {
        name: threading.Thread(
            target=_check, args=(name, run, seconds, answers), name=f"{THREAD_NAME}{name}", daemon=True
        )
        for name in names
    }
    for thread in threads.values():
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads.values():
        thread.join(max(end - time.monotonic(), 0.0))
    late = Answer(False, f"did not answer within {seconds:g} s")
    return {name: answers.get(name, late) for name in threads}


def check_writable(directory: Path) -> Path:
    """Check that files can be created in a directory or in its nearest existing parent. Return the checked directory.

    Raises:
        NotReady: no file can be created there.
    """
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"\0")
    except OSError as error:
        raise NotReady(f"{existing} cannot be written: {error.strerror or error}") from error
    return existing


def check_url(url: str, seconds: float) -> None:
    """Request a page.

    Raises:
        NotReady: no server answers, or the server reports a failure of its own (status 500 or higher).
    """
    url = without_user(url)  # urllib would treat user and password as part of the host name
    request = urllib.request.Request(url, headers={"User-Agent": "mtask-sinks"})  # noqa: S310
    try:
        urllib.request.urlopen(request, timeout=seconds).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise NotReady(f"{url} answers with {error.code} {error.reason}") from None
    except (OSError, ValueError) as error:
        raise NotReady(f"{url} cannot be reached: {getattr(error, 'reason', error)}") from None


def check_connection(url: str, seconds: float) -> None:
    """Connect to the server of an address and hang up. Do nothing if a proxy stands between.

    Unlike `check_url`, this needs no certificate that Python knows: a client may know others.

    Raises:
        NotReady: no server accepts the connection.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    try:
        socket.create_connection((host, parts.port or (80 if parts.scheme == "http" else 443)), seconds).close()
    except OSError as error:
        raise NotReady(f"{without_user(url)} cannot be reached: {error}") from None


def without_user(url: str) -> str:
    """Return the address without user name and password.

    >>> without_user("https://me:secret@host:5000/mlflow")
    'https://host:5000/mlflow'
    """
    return mask(url).replace(f"://{MASK}@", "://")


def _check(name: str, run: RunInfo, seconds: float, answers: dict[str, Answer]) -> None:
    try:
        where = make_sink(name).check(run, seconds)
        answers[name] = Answer(None, "has no check") if where is None else Answer(True, mask(where))
    except NotReady as error:
        answers[name] = Answer(False, mask(str(error)))
    except Exception as error:  # raised by a client or a plug-in; a training would get the same error
        first_line = mask(str(error)).partition("\n")[0]
        explains_itself = isinstance(error, (ImportError, RuntimeError))
        answers[name] = Answer(False, first_line if explains_itself else f"{type(error).__name__}: {first_line}")
