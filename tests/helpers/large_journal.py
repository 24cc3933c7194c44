"""A journal of a size that people have: 6 tasks with 8 metrics each, in training and on 3 evaluation sets."""

from __future__ import annotations

import math
from pathlib import Path

from helpers.journals import write
from mtask_sinks import RunInfo, Snapshot

TASKS = ("mlm", "nsp", "sentiment", "translation", "detection", "summarization")
METRICS = ("loss", "accuracy", "f1", "precision", "recall", "perplexity", "grad_norm", "n_tokens")
PHASES = ("train", "eval_books", "eval_news", "eval_wiki")


def value(task: str, metric: str, phase: str, step: int) -> float:
    """Return the value of a metric, with as many digits as a float can have, and different in each phase."""
    scale = 1 + TASKS.index(task) / 7 + PHASES.index(phase) / 70
    kinds = {"loss": 6 * math.exp(-step / 900) + 0.4, "perplexity": 20 * math.exp(-step / 900) + 1, "n_tokens": 21_000}
    small = -5.5341e-05 * (1 + math.sin(step) / 3)
    return scale * kinds.get(metric, small if metric == "grad_norm" else 0.9 - 0.8 * math.exp(-step / 900))


def write_large(directory: Path, name: str = "bert") -> Path:
    """Write the journal of a training with 100 log events, and evaluations at every tenth of them."""
    directory.mkdir(parents=True, exist_ok=True)
    snapshots = []
    for step in range(20, 2001, 20):
        for phase in PHASES if step % 200 == 0 else PHASES[:1]:
            metrics = {f"{task}/{metric}": value(task, metric, phase, step) for task in TASKS for metric in METRICS}
            at = Snapshot(step, phase, metrics, epoch=step / 700, time=1e9 + step, counts=dict.fromkeys(metrics, 20))
            snapshots.append(at)
    return write(directory, (RunInfo(id=name, name=name, params={"max_steps": 2000}), snapshots, "finished"))
