"""Trainings in their own processes. A test can stop one at a step, and kill it with all processes that it started.

The processes are forked from one that has already imported everything, because that takes longer than a training.
"""

from __future__ import annotations

import atexit
import gc
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from helpers.faulty import LIMIT

# Includes what W&B, MLflow and TensorBoard import when a run begins, which takes more than a second.
_PRELOADED = (
    *(
        "alembic.command",
        "git",
        "mlflow",
        "mlflow.store.tracking.sqlalchemy_store",
        "mtask_sinks.trainer.mixin",
        "pytest",
    ),
    *("tensorboard.backend.event_processing.event_accumulator", "tensorboard.data.server_ingester"),
    *("torch.utils.tensorboard", "transformers.integrations", "transformers.trainer", "wandb.sdk.launch"),
)
#: Seconds to wait for the first process. On a busy machine, the imports of the one that it is forked from take 30.
STARTED = 300.0

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(list(_PRELOADED))


class TrainingProcess:
    """A training of `helpers.faulty` that writes to a directory and continues from the last checkpoint there.

    Args:
        directory: its output directory. The file ``log`` in it gets the output of the process.
        environment: variables to set. Variables of the backends in this process are not passed on.
        hold_at: step at whose end it waits for `go_on`.
        raises: it raises in the fifth step.
        wide: it reports a lot.
        settings: of `helpers.faulty.trainer_of`.
    """

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        *,
        hold_at: int = 0,
        raises: bool = False,
        wide: bool = False,
        **settings: Any,
    ) -> None:
        if sys.platform != "linux":
            pytest.skip("what a process has started is looked up as Linux shows it")
        directory.mkdir(parents=True, exist_ok=True)
        self._log = directory / "log"
        self._pipe, theirs = FORKSERVER.Pipe()
        model = "Breaks" if raises else "Wide" if wide else "TwoTasks"
        self._process = FORKSERVER.Process(
            target=_train, args=(str(directory), dict(environment), theirs, hold_at, model, settings), daemon=True
        )
        self._process.start()
        theirs.close()

    def wait_for_step(self, step: int) -> None:
        """Wait until the training has made this many steps."""
        end = time.monotonic() + STARTED
        with suppress(EOFError):
            while self._pipe.poll(max(0.0, end - time.monotonic())):
                if self._pipe.recv() >= step:
                    return
        raise AssertionError(f"it did not come to step {step}; it said:\n{self.said()}")

    def go_on(self) -> None:
        """Let it continue after the step at which it waits."""
        self._pipe.send("go on")

    def kill(self) -> None:
        """Kill it (SIGKILL) with all processes that it started, such as W&B's, as if the machine went down."""
        pid = self._process.pid
        if pid is not None and self._process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)  # so that it starts no further process
                for child in _children(pid):
                    os.kill(child, signal.SIGKILL)
        self._process.kill()
        self._process.join(LIMIT)
        self._pipe.close()

    def finish(self, expect: int = 0) -> None:
        """Wait until it has ended."""
        try:
            self._process.join(2 * LIMIT)
            code = self._process.exitcode
            assert code == expect, f"it ended with {code}, not {expect}; it said:\n{self.said()}"
        finally:
            self.kill()

    def said(self) -> str:
        """Return the output of the processes in this directory so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def last_checkpoint(directory: Path) -> str | None:
    """Return the newest complete checkpoint. The state is the last file of a checkpoint."""
    for path in sorted(directory.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1])):
        with suppress(OSError, ValueError):
            json.loads((path / "trainer_state.json").read_text())
            return str(path)
    return None


def _train(
    directory: str,
    environment: dict[str, str],
    pipe: Connection,
    hold_at: int,
    model: str,
    settings: dict[str, Any],
) -> None:
    log = os.open(Path(directory, "log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_", "TENSORBOARD_"))]:
        del os.environ[name]
    # Do not let W&B save the list of installed packages, which takes 0.2 s.
    os.environ.update({"WANDB_X_SAVE_REQUIREMENTS": "false", **environment})
    from transformers import TrainerCallback

    from helpers import faulty

    gc.freeze()  # accelerate collects garbage when the training begins; exempt the imported objects

    class Tells(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            pipe.send(state.global_step)
            if state.global_step == hold_at:
                pipe.recv()

    report_to = settings.pop("report_to", ["tensorboard", "mlflow", "wandb"])
    try:
        made = getattr(faulty, model)()
        trainer = faulty.trainer_of(Path(directory), report_to, model=made, callbacks=[Tells()], **settings)
        trainer.train(resume_from_checkpoint=last_checkpoint(Path(directory)))
    finally:
        # Run the exit handlers, which multiprocessing skips in its processes.
        atexit._run_exitfuncs()
