"""Whether the backends of sinks answer now, found out in bounded time."""

from __future__ import annotations

import re
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mtask_sinks.errors import NotReady
from mtask_sinks.sinks.plugins import make_sink
from mtask_sinks.snapshot import RunInfo


@dataclass(frozen=True)
class Answer:
    """Of one backend.

    Attributes:
        is_ready: whether a training could write to it now; ``None`` if its sink has no way to ask.
        detail: where it is, or what is wrong.
    """

    is_ready: bool | None
    detail: str


def check_sinks(names: Iterable[str], run: RunInfo, seconds: float) -> dict[str, Answer]:
    """Ask the backend of each sink, all at once; one that has not answered after so many seconds is not ready.

    Args:
        names: of sinks, as for `make_sink`.
        run: the training that would write: where and under which name.
        seconds: for all of them together, the loading of their packages included.
    """
    answers: dict[str, Answer] = {}
    # Daemons: a client that hangs must not keep the process from ending.
    threads = {name: threading.Thread(target=_check, args=(name, run, seconds, answers), daemon=True) for name in names}
    for thread in threads.values():
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads.values():
        thread.join(max(end - time.monotonic(), 0.0))
    late = Answer(False, f"no answer within {seconds:g} s")
    return {name: answers.get(name, late) for name in threads}


def check_writable(directory: Path) -> Path:
    """The directory, or the first of its parents that is there; `NotReady` unless files can be made in it."""
    there = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"\0")
    except OSError as error:
        raise NotReady(f"{there} cannot be written: {error.strerror or error}") from error
    return there


def check_url(url: str, seconds: float) -> int:
    """Ask for a page; the HTTP status, or `NotReady` if nothing answers, or a server that has failed."""
    url = without_user(url)  # urllib would look it up as part of the host's name
    request = urllib.request.Request(url, headers={"User-Agent": "mtask-sinks"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=seconds) as response:  # noqa: S310
            return int(response.status)
    except urllib.error.HTTPError as error:
        if error.code >= 500:
            raise NotReady(f"{url} answers with {error.code} {error.reason}") from None
        return error.code
    except (OSError, ValueError) as error:
        raise NotReady(f"{url}: {getattr(error, 'reason', error)}") from None


def without_user(url: str) -> str:
    """An address without name and password.

    >>> without_user("https://me:secret@host:5000/mlflow")
    'https://host:5000/mlflow'
    """
    return re.sub(r"(?<=://)[^/@]+@", "", url)


def _check(name: str, run: RunInfo, seconds: float, answers: dict[str, Answer]) -> None:
    try:
        where = make_sink(name).check(run, seconds)
        answers[name] = Answer(None, "has no check") if where is None else Answer(True, where)
    except NotReady as error:
        answers[name] = Answer(False, str(error))
    except Exception as error:  # of a client or a plug-in: whatever it is, a training would meet it too
        first = str(error).partition("\n")[0]
        answers[name] = Answer(False, first if isinstance(error, (ImportError, RuntimeError)) else _text(error))


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
