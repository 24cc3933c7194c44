"""A real MLflow server on loopback, in its own processes. A test can kill, halt and restart it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from helpers.local_server import HOST, Reserved

#: Seconds within which it must answer after a start. On an idle machine it takes 3.
LIMIT = 120.0


class MlflowServer:
    """One server. Its directory, port and store stay the same when it is restarted. It is down at the start.

    Attributes:
        port: the port on which it listens.
        uri: its address for clients.
        store: address of its SQLite store, which can be read without a server.
    """

    def __init__(self, directory: Path, empty_store: Path) -> None:
        self._directory = directory
        self._reserved = Reserved()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = self._reserved.port
        self.uri = f"http://{HOST}:{self.port}"
        self.store = f"sqlite:///{shutil.copy(empty_store, directory / 'store.db')}"

    @property
    def is_up(self) -> bool:
        return self._process is not None

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        if self.is_up:
            return
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", HOST, "--port", str(self.port)]
        command += ["--backend-store-uri", self.store]
        # Leave out the variables that a test has set for a client. Switch off the job runner: it starts slowly, and no
        # test needs it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._directory, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._wait_until_it_answers()

    def kill(self) -> None:
        """Kill all its processes (SIGKILL). The port then refuses connections."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait(LIMIT)
        self._process = None
        self._reserved.wait_until_closed()

    def pause(self) -> None:
        """Halt the server: it accepts connections, but answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let the halted server continue."""
        self._signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill the server, and release the port."""
        self.kill()
        self._reserved.release()

    @property
    def _log(self) -> Path:
        return self._directory / "server.log"

    def _signal(self, number: int) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + LIMIT
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return
            if self._process is None or self._process.poll() is not None or time.monotonic() > end:
                self.kill()
                raise RuntimeError(f"no MLflow server:\n{self._log.read_text()[-3000:]}")
            time.sleep(0.05)


@contextmanager
def mlflow_server(directory: Path, empty_store: Path) -> Iterator[MlflowServer]:
    """Provide a server that is down, with a copy of an empty store. Ends it in any case."""
    server = MlflowServer(directory, empty_store)
    try:
        yield server
    finally:
        server.end()
