"""Compares the loop of accelerate with a plain torch loop: same numbers in both backends, in one process and in two."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.ports import unused_port
from torch.utils.data import DataLoader

STEPS, LOG_EVERY, BATCH, ACCUMULATION = 60, 20, 32, 2


def expected(example: Any) -> dict[str, list[tuple[int, Any]]]:
    """Return name in the backends → steps and values, from a loop without accelerate and without a registry."""
    torch.manual_seed(0)
    model = example.Model()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    train, held_out = (DataLoader(data, BATCH) for data in example.make_data())
    found: dict[str, list[tuple[int, Any]]] = {}
    window: list[list[np.ndarray]] = [[], [], []]
    step, batches = 0, [rows for rows in train if len(rows[0]) == BATCH]

    def add(phase: str, window: list[list[np.ndarray]]) -> None:
        length, vowels, right = (np.concatenate(part).astype(np.float64) for part in window)
        values = {
            f"length/{phase}/loss": length.mean(), f"length/{phase}/rmse": np.sqrt(length.mean()),
            f"length/{phase}/n_words": len(length), f"vowels/{phase}/loss": vowels.mean(),
            f"vowels/{phase}/accuracy": right.mean(),
        }  # fmt: skip
        for name, value in values.items():
            found.setdefault(name, []).append((step, pytest.approx(value, rel=1e-4)))

    while step < STEPS:
        for index, rows in enumerate(batches, 1):
            losses = example.losses_of(model, *rows)
            ((losses[0].mean() + losses[1].mean()) / ACCUMULATION).backward()
            for part, value in zip(window, losses, strict=True):
                part.append(value.detach().numpy())
            if index % ACCUMULATION and index < len(batches):
                continue
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step % LOG_EVERY == 0:
                add("train", window)
                window = [[], [], []]
                with torch.no_grad():
                    evaluated = [example.losses_of(model, *rows) for rows in held_out]
                add("eval", [[value.numpy() for value in part] for part in zip(*evaluated, strict=True)])
            if step == STEPS:
                break
    return found


def in_tensorboard(directory: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory))
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("relative_to_first/")]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def test_both_backends_hold_what_a_plain_loop_computes(example, tmp_path) -> None:
    from mlflow import MlflowClient

    example.main(["--output_dir", str(tmp_path)])
    wanted = expected(example)
    rate = [(step, pytest.approx(0.01)) for step in (20, 40, 60)]
    assert in_tensorboard(tmp_path / "runs") == {**wanted, "train/learning_rate": rate}

    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("words")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name, run.data.params) == (
        "FINISHED",
        "words",
        {"batch": "32", "steps": "60"},
    )
    written = {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    assert written == {**wanted, "learning_rate": rate}


def test_two_processes_of_accelerate_launch_log_the_same_numbers(example, tmp_path) -> None:
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"),
        *(
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            "--main_process_port",
            str(unused_port()),  # accelerate before 1.8 does not choose one for port 0
        ),
        *(example.__file__, "--output_dir", str(tmp_path), "--report_to", "tensorboard"),
    ]
    path = os.pathsep.join(sys.path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    written = in_tensorboard(tmp_path / "runs")
    del written["train/learning_rate"]
    assert written == expected(example)
