"""A real TensorBoard server on loopback, in its own process."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers.local_server import HOST, Reserved

#: Seconds within which it must answer. On an idle machine it takes 3.
LIMIT = 120.0


@contextmanager
def tensorboard_server(logdir: Path, log: Path) -> Iterator[str]:
    """Start a server for a directory, and yield its address once it has read a run. Ends it in any case.

    Args:
        logdir: the directory that it shows.
        log: file for its output.
    """
    reserved = Reserved()
    url = f"http://{HOST}:{reserved.port}"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", HOST]
    command += ["--port", str(reserved.port), "--reload_interval", "1"]
    reserved.release()
    with log.open("ab") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        _wait_until_it_answers(f"{url}/data/runs", process, log)
        yield url
    finally:
        process.terminate()
        process.wait(LIMIT)


def _wait_until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + LIMIT
    while True:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5) as answer:
            if answer.read().strip() != b"[]":  # the server has read a run
                return
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"no TensorBoard server:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)
