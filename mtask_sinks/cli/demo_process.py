"""Runs the training of the demo in a process of its own, and shows it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

# A process that is asked to stop gets this many seconds to end its run in the backends.
_STOP_SECONDS = 30.0
# So many lines of the log show why a training failed.
_LAST_LINES = 20


class DemoProcess:
    """The process that trains.

    On a terminal, all of its output goes to a log file, because `watch` shows the training. In a pipe, the lines of the
    log events go to standard output, and only messages go to the log file.

    Args:
        run_dir: directory of the run.
        max_steps, seed, sinks: as in `mtask_sinks.demo.training.train`.
        environment: the environment of the process.
        to_log: whether the lines of the log events go to the log file too.
    """

    def __init__(
        self,
        run_dir: Path,
        max_steps: int,
        seed: int,
        sinks: Sequence[str],
        environment: Mapping[str, str],
        to_log: bool,
    ) -> None:
        self.log = run_dir / "training.log"
        words = [sys.executable, "-m", "mtask_sinks.demo", str(run_dir), str(max_steps), str(seed), ",".join(sinks)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603  # our own module
                words,
                env={**environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=log if to_log else None,
                stderr=log,
            )
        self._journal = run_dir / "metrics.jsonl"

    def is_over(self) -> bool:
        """Return whether the training has ended."""
        return self._process.poll() is not None

    def wait(self) -> None:
        """Wait until the training ends."""
        self._process.wait()

    def wait_for_metrics(self) -> None:
        """Wait until there is something to show."""
        while not self.is_over() and not self._journal.exists():
            time.sleep(0.1)

    @property
    def has_failed(self) -> bool:
        """Whether the training has ended with an error."""
        return bool(self._process.poll())

    def stop(self) -> None:
        """Interrupt the training, as Ctrl-C does, and wait until it has ended its run in the backends.

        Windows cannot interrupt a single process. There, the training ends at once, and its run counts as killed.
        """
        if self.is_over():
            return
        try:
            self._process.send_signal(signal.SIGINT)
        except ValueError:
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        self._process.kill()
        self._process.wait()

    def end_of_log(self) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LAST_LINES:])


def show_on_terminal(process: DemoProcess, run_dir: Path, console: Console) -> None:
    """Show the training until it ends, or until the user presses q or Ctrl-C."""
    from mtask_sinks.cli.watch_screen import WatchedTrainings, show_on_screen

    with console.status("Loading torch and the text, building the model …"):
        process.wait_for_metrics()
    if not process.is_over():
        show_on_screen(WatchedTrainings(run_dir), console, 1.0, process.is_over)
