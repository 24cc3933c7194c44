"""W&B's client, a process beside the training, stops or dies, or somebody finishes the run: the training goes on."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import wandb
from helpers.faulty import LOSS, TASKS, Wide, as_typed, replay_commands, trainer_of, wait_for
from helpers.processes import TrainingProcess
from helpers.wandb_file import WandbRun, read_runs

from mtask_sinks import read_journal
from mtask_sinks.delivery.patience import Patience
from mtask_sinks.delivery.worker import Worker


def client(process_id: int | None) -> int:
    """Return the process id of the W&B client that a process has started."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            name, parent = (process / "comm").read_text().strip(), (process / "stat").read_text().rpartition(")")[2]
        except OSError:  # it has just ended
            continue
        if name.startswith("wandb-core") and int(parent.split()[1]) == process_id:
            return int(process.name)
    raise AssertionError("no W&B client runs")


def points(runs: list[WandbRun], name: str) -> list[tuple[int, float]]:
    return sorted((row["train/global_step"], row[name]) for run in runs for row in run.history if name in row)


def test_a_client_that_stops_delays_one_log_event_and_gets_every_row_when_it_goes_on(
    tmp_path, wandb_dir, caplog, monkeypatch
) -> None:
    steps, seen, late = 200, [], []
    wait = Patience.wait

    def note_late(*arguments: Any) -> list[Worker]:
        found = wait(*arguments)
        late.extend(worker.position for worker in found)
        return found

    monkeypatch.setattr(Patience, "wait", note_late)
    monkeypatch.setattr("mtask_sinks.delivery.pipeline.TURN_SECONDS", 60.0)

    def go_on() -> None:
        seen.append(made.sink_counts["wandb"].pending)
        os.kill(pid, signal.SIGCONT)

    def stop() -> None:
        nonlocal pid
        pid = client(os.getpid())
        os.kill(pid, signal.SIGSTOP)
        monkeypatch.setattr("mtask_sinks.delivery.pipeline.TURN_SECONDS", 0.2)

    pid = 0
    made = trainer_of(tmp_path, "wandb", {3: stop, steps: go_on}, steps=steps, model=Wide(), eval_strategy="no")
    try:
        made.train()
    finally:
        os.kill(pid, signal.SIGCONT)
    wandb.finish()
    assert seen[0] > 10  # the client's socket was full, and the training went on
    runs = read_runs(wandb_dir)
    assert points(runs, "wide/train/k0") == [(step, float(step)) for step in range(1, steps + 1)]
    # Once per place at which it got stuck: on a busy machine, the sink may also be late before the socket is full.
    assert len(set(late)) == len(late) > 0
    assert sum("did not take a row" in record.getMessage() for record in caplog.records) == len(late)


def test_a_client_that_was_killed_ends_nothing_and_the_journal_delivers_what_is_missing(tmp_path) -> None:
    environment = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_FINISH_TIMEOUT": "1"}
    settings = {"eval_strategy": "no", "drain_seconds": 1.0, "report_to": ["wandb"]}
    training = TrainingProcess(tmp_path / "out", environment, hold_at=3, **settings)
    training.wait_for_step(3)
    os.kill(client(training._process.pid), signal.SIGKILL)
    training.go_on()
    training.finish()
    (run,) = read_journal(tmp_path / "out")
    assert [
        (each.step, each.metrics["a/loss"]) for each in run.snapshots if each.phase == "train" and each.metrics
    ] == LOSS
    assert run.status == "finished"
    # Its first rows after that may have gone to the client that has just died. They are lost, like the last second of a
    # killed process.
    taken = int(re.findall(r"received (\d+) of 9 snapshots", training.said())[0])
    as_typed(replay_commands(training.said())["wandb"], WANDB_DIR=str(tmp_path / "replayed"))
    assert points(read_runs(tmp_path / "replayed"), "a/train/loss") == LOSS[taken:]
    assert 2 <= taken < 9  # the steps take milliseconds; W&B 0.22 notices after several that its client is dead


@pytest.mark.parametrize("is_user_run", [False, True])
def test_a_run_that_is_finished_in_mid_training_is_opened_again(tmp_path, wandb_dir, is_user_run: bool) -> None:
    if is_user_run:
        wandb.init(project="mine", name="toy", config={"owner": "me"})
    finish: Any = wandb.finish
    made = trainer_of(tmp_path / "out", "wandb", {6: finish}, drain_seconds=30.0)
    made.train()
    counts = made.sink_counts["wandb"]
    assert (counts.given, counts.delivered, counts.rejected) == (11, 11, 0)
    first, second = read_runs(wandb_dir)
    assert {name: points([first, second], name) for name in TASKS} == TASKS
    assert (first.run_id, first.name) == (second.run_id, second.name)
    assert [points([each], "a/train/loss") for each in (first, second)] == [LOSS[:5], LOSS[5:]]
    assert second.config["learning_rate"] == first.config["learning_rate"] == 0.0
    assert second.axes["a/*"] == "train/global_step"
    assert (first.exit_code, second.exit_code) == (0, 0)


def test_a_run_that_is_finished_while_rows_wait_gets_them_in_a_second_file(tmp_path, wandb_dir) -> None:
    from mtask_sinks import RunInfo, Snapshot
    from mtask_sinks.delivery.pipeline import Delivery
    from mtask_sinks.sinks import WandbSink

    run = wandb.init(project="mine")
    delivery = Delivery([WandbSink()])
    delivery.open(RunInfo(id="1", params={"p": 1}, attached={"wandb": run.id}))
    delivery.write(Snapshot(step=1, metrics={"a/x": 1.0}))
    wait_for(lambda: delivery.counts["wandb"].delivered == 1, "the first row")
    run.finish()
    delivery.write(Snapshot(step=2, metrics={"a/x": 2.0}))  # nobody has told the sink
    delivery.close("finished")
    runs = read_runs(wandb_dir)
    assert [points([each], "a/train/x") for each in runs] == [[(1, 1.0)], [(2, 2.0)]]
    assert (runs[1].config["p"], runs[1].axes["a/*"], runs[1].exit_code) == (1, "train/global_step", 0)


def test_a_finished_run_that_cannot_be_opened_again_rejects_the_rest_with_the_reason(
    tmp_path, wandb_dir, monkeypatch, caplog
) -> None:
    def refuse(**settings: Any) -> Any:
        raise RuntimeError(f"run {settings['id']} is archived")

    def finish() -> None:
        wandb.finish()
        monkeypatch.setattr(wandb, "init", refuse)

    made = trainer_of(tmp_path / "out", "wandb", {6: finish}, drain_seconds=30.0, eval_strategy="no")
    made.train()
    counts = made.sink_counts["wandb"]
    assert (counts.given, counts.delivered, counts.rejected, counts.pending) == (9, 5, 4, 0)
    (run,) = read_runs(wandb_dir)
    assert points([run], "a/train/loss") == LOSS[:5]
    path = f"huggingface/{run.run_id}"
    reason = f"the W&B run {path} was finished and cannot be opened again: run {run.run_id} is archived"
    assert reason in caplog.text
