"""A real TensorBoard server on loopback, in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers.event_files import read_scalars, run_dirs
from helpers.local_server import HOST, Reserved

#: Seconds within which it must answer. On an idle machine it takes 3.
LIMIT = 120.0


@contextmanager
def tensorboard_server(logdir: Path, log: Path) -> Iterator[str]:
    """Start a server for a directory, and yield its address once it has read all scalars. Ends it in any case.

    Args:
        logdir: the directory that it shows.
        log: file for its output.
    """
    reserved = Reserved()
    url = f"http://{HOST}:{reserved.port}"
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--host", HOST]
    command += ["--port", str(reserved.port), "--reload_interval", "1"]
    with log.open("ab") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said)
    try:
        _wait_until_it_has_read(logdir, url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(LIMIT)
        reserved.release()


def _wait_until_it_has_read(logdir: Path, url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a page shows all tags: it does not ask for those that the server reads later."""
    written = {run.relative_to(logdir).as_posix(): read_scalars(run).keys() for run in run_dirs(logdir)}
    end = time.monotonic() + LIMIT
    while True:
        with suppress(OSError), urllib.request.urlopen(f"{url}/data/plugin/scalars/tags", timeout=5) as answer:
            read = json.load(answer)
            if all(tags <= read.get(run, {}).keys() for run, tags in written.items()):
                return
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"no TensorBoard server:\n{log.read_text()[-3000:]}")
        time.sleep(0.1)
