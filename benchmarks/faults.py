"""Measures trainings while a backend fails, with the default limits. Prints the table of docs/when-a-backend-fails.md.

    python benchmarks/faults.py [BACKEND or FAULT ...]      # ten minutes; needs the tests' packages, and root

For each fault, a training of 40 steps of 50 ms runs in its own process and logs every step. The fault begins at the
start or at step 10 and lasts until the process has ended. Then the script repairs the backend and replays the snapshots
that were not delivered.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.disk import small_disk
from helpers.event_files import read_scalars
from helpers.mlflow_server import MlflowServer, mlflow_server
from helpers.proxy import Proxy, proxy
from helpers.wandb_server import wandb_server
from mlflow import MlflowClient
from rich.console import Console
from rich.table import Table

STEPS, SECONDS_A_STEP, FAULT_AT = 40, 0.05, 10

#: For each fault: its name, the backend, what the script does to the backend, and whether it does so at the start.
FAULTS: list[tuple[str, str, str, bool]] = [
    ("nothing", "mlflow", "heal", True),
    ("closed port, from the start", "mlflow", "refuse", True),
    ("accepts and never answers, from the start", "mlflow", "hang", True),
    ("closed port, in mid-training", "mlflow", "refuse", False),
    ("accepts and never answers, in mid-training", "mlflow", "hang", False),
    ("answers 500", "mlflow", "answer 500", False),
    ("answers 429", "mlflow", "answer 429", False),
    ("applies, and drops every answer", "mlflow", "drop", False),
    ("each answer 1 s late", "mlflow", "delay 1", False),
    ("run deleted, and restored after the training", "mlflow", "delete", False),
    ("nothing", "wandb", "nothing", True),
    ("closed port, from the start", "wandb", "stop", True),
    ("closed port, in mid-training", "wandb", "stop", False),
    ("answers 500", "wandb", "fail 500", False),
    ("client halted until the training ends", "wandb", "halt client", False),
    ("client killed", "wandb", "kill client", False),
    ("wandb.finish() in mid-training", "wandb", "finish", False),
    ("nothing", "tensorboard", "nothing", True),
    ("directory removed", "tensorboard", "remove", False),
    ("disk full", "tensorboard", "fill", False),
]


def train(output_dir: Path, backend: str, environment: dict[str, str], steps: Any) -> None:
    """Train in a process of its own. Send the time of each step to ``steps``; wait while the script makes the fault."""
    os.environ.update(environment)
    log = os.open(output_dir.parent / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    from helpers.toy import InOrder, Toy, arguments, numbers
    from transformers import TrainerCallback

    from mtask_sinks import HfMultiTaskTrainer

    class Paced(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            time.sleep(SECONDS_A_STEP)
            steps.send(("step", time.monotonic()))
            if state.global_step == FAULT_AT:
                if steps.recv() == "finish":  # the script sends this as soon as the fault is there
                    import wandb

                    wandb.finish()
                steps.send(("step", time.monotonic()))

    class Trainer(InOrder, HfMultiTaskTrainer):  # type: ignore[misc]
        pass

    args = arguments(output_dir, report_to=backend, logging_steps=1)
    trainer = Trainer(Toy(), args, train_dataset=numbers(*range(STEPS)), callbacks=[Paced()])
    steps.send(("start", time.monotonic()))
    trainer.train()
    steps.send(("end", time.monotonic()))
    steps.send(("left", trainer.sink_counts[backend].pending))


def run(name: str, backend: str, what: str, at_start: bool, server: MlflowServer) -> list[str]:
    """Train with one fault, repair the backend, replay the rest, and return a row of the table."""
    with tempfile.TemporaryDirectory() as directory, made(backend, Path(directory), server) as (act, environment, held):
        output_dir, board = Path(directory, "out"), Path(directory, "disk", "board")
        with small_disk(Path(directory, "disk")) if what == "fill" else _nothing() as disk:
            output_dir.mkdir()
            board.parent.mkdir(exist_ok=True)
            environment["TENSORBOARD_LOGGING_DIR"] = str(board)
            faults: dict[str, Callable[[], Any]] = {
                "remove": lambda: shutil.rmtree(board),
                "fill": lambda: disk.fill(),
                "nothing": lambda: None,
                "finish": lambda: None,  # the training itself calls wandb.finish()
                "halt client": lambda: halted.append(_signal_client(process.pid, signal.SIGSTOP)),
                "kill client": lambda: _signal_client(process.pid, signal.SIGKILL),
            }
            halted: list[int] = []
            fault = faults.get(what, lambda: act(what))
            if at_start:
                fault()
            context = multiprocessing.get_context("spawn")  # so that it does not inherit the servers' sockets
            ours, theirs = context.Pipe()
            process = context.Process(target=train, args=(output_dir, backend, environment, theirs))
            process.start()
            times: dict[str, list[Any]] = {"start": [], "step": [], "end": [], "left": []}
            while not times["left"]:
                kind, value = ours.recv()
                times[kind].append(value)
                if kind == "step" and len(times["step"]) == FAULT_AT:
                    if not at_start:
                        fault()
                    ours.send(what)
            left_at = time.monotonic()
            for client in halted:
                os.kill(client, signal.SIGCONT)
            process.join(300)
            exit_seconds = time.monotonic() - left_at
            act("heal")
            if what == "fill":
                disk.free()
            replayed = _replay(output_dir, backend, environment) if times["left"][0] or backend == "wandb" else "-"
            points = read_scalars(board) if backend == "tensorboard" else {}
            steps = [step for step, _ in points.get("a/train/loss", ())] if backend == "tensorboard" else held()
            twice = len(steps) - len({*steps})
            there = f"{len({*steps})} of {STEPS}" + (f", {twice} twice" if twice else "")
    between = [after - before for before, after in zip(times["step"], times["step"][1:], strict=False)]
    begin = times["step"][0] - times["start"][0]
    return [
        backend, name, f"{begin:.1f}", f"{1000 * max(between):.0f}", f"{times['end'][0] - times['step'][-1]:.1f}",
        f"{exit_seconds:.1f}", str(times["left"][0]), replayed, there,
    ]  # fmt: skip


@contextmanager
def made(
    backend: str, directory: Path, server: MlflowServer
) -> Iterator[tuple[Callable[[str], None], dict[str, str], Callable[[], list[int]]]]:
    """Yield a function that makes a backend fail, the variables that point to it, and a function for its steps."""
    if backend == "mlflow":
        with proxy(server.port) as between:
            environment = {"MLFLOW_TRACKING_URI": between.url, "MLFLOW_EXPERIMENT_NAME": directory.name}
            deleted: list[str] = []

            def act_on_mlflow(what: str) -> None:
                client = MlflowClient(server.store)
                if what == "delete":
                    experiment = client.get_experiment_by_name(directory.name)
                    assert experiment is not None
                    deleted.extend(run.info.run_id for run in client.search_runs([experiment.experiment_id]))
                    client.delete_run(deleted[0])
                    return
                _act(between, what)
                if what == "heal":
                    for run_id in deleted:
                        client.restore_run(run_id)

            yield act_on_mlflow, environment, lambda: _in_mlflow(server.store, directory.name)
    elif backend == "wandb":
        with wandb_server() as served:
            environment = {**served.settings(), "WANDB_DIR": str(directory), "WANDB_SILENT": "true"}

            away = threading.Event()

            def act(what: str) -> None:
                if what == "stop":
                    served.stop()
                    away.set()
                elif what.startswith("fail"):
                    served.fail(500)
                elif what == "heal":
                    served.heal()
                    if away.is_set():
                        served.start()

            runs = served.runs
            yield act, environment, lambda: [step for run in runs.values() for step, _ in run.points("a/train/loss")]
    else:
        yield lambda what: None, {}, list


def _act(between: Proxy, what: str) -> None:
    verb, *number = what.split()
    getattr(between, verb)(*map(int, number))


def _signal_client(process: int | None, number: int) -> int:
    """Send a signal to the W&B client that a process has started, and return its process id."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            name, parent = (path / "comm").read_text(), (path / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:  # the process has just ended
            continue
        if name.startswith("wandb-core") and int(parent) == process:
            os.kill(int(path.name), number)
            return int(path.name)
    raise RuntimeError("no W&B client runs")


def _in_mlflow(store: str, experiment: str) -> list[int]:
    client = MlflowClient(store)
    found = client.get_experiment_by_name(experiment)
    runs = client.search_runs([found.experiment_id]) if found else []
    return [point.step for run in runs for point in client.get_metric_history(run.info.run_id, "a/train/loss")]


def _replay(output_dir: Path, backend: str, environment: dict[str, str]) -> str:
    import subprocess

    command = [sys.executable, "-m", "mtask_sinks", "replay", str(output_dir), "--to", backend]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300)
    return f"{done.stdout.split(' delivered')[0].rpartition(' ')[2]}" if not done.returncode else "failed"


@contextmanager
def _nothing() -> Iterator[Any]:
    yield None


def main() -> None:
    only = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        empty = Path(directory, "empty.db")
        MlflowClient(f"sqlite:///{empty}").search_experiments()
        with mlflow_server(Path(directory), empty) as server:
            server.start()
            rows = []
            for fault in FAULTS:
                if not only or {fault[0], fault[1]} & {*only}:
                    rows.append(run(*fault, server))
                    print(json.dumps(rows[-1]), flush=True)
    table = Table(
        "backend", "fault", "begin, s", "longest step, ms", "end, s", "exit, s", "left", "replayed", "holds",
        title=f"{STEPS} steps of {1000 * SECONDS_A_STEP:.0f} ms",
    )  # fmt: skip
    for row in rows:
        table.add_row(*row)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
