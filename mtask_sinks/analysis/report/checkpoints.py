"""Reads the best checkpoint of a training from the files that the Trainer writes beside the journal."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtask_sinks._util.formatting import number
from mtask_sinks._util.ordinary_file import read_ordinary


@dataclass(frozen=True)
class BestCheckpoint:
    """The checkpoint that the Trainer recorded as the best.

    Attributes:
        name: name of its directory, ``checkpoint-<step>``.
        is_there: whether that directory is still beside the journal.
        metric: name of the metric that decided; empty if the parameters do not name it.
        value: value of that metric for this checkpoint; ``None`` if it is not known.
        step: step of the evaluation that gave the value; ``None`` if the Trainer did not record it.
        unsaved_value: a better value, at a step at which no checkpoint was saved; ``None`` if there is none.
        unsaved_step: that step.
    """

    name: str
    is_there: bool
    metric: str
    value: float | None
    step: int | None
    unsaved_value: float | None = None
    unsaved_step: int | None = None


def best_checkpoint(
    directory: Path,
    params: Mapping[str, Any],
    last_step: int | None = None,
    begun: float = 0.0,
    next_begun: float | None = None,
) -> BestCheckpoint | str:
    """Return the best checkpoint, or the reason why there is none.

    Args:
        directory: output directory of the training. It may also have checkpoints of earlier trainings.
        params: configuration of the training, which names the metric.
        last_step: the last step of the training.
        begun: when the training began, in seconds since 1970 (UTC).
        next_begun: when the next training began in this directory; ``None`` if there is none.
    """
    end = math.inf if next_begun is None else next_begun
    every = [entry for path in _state_files(directory) if (entry := _read(path)) is not None]
    states = [state for written, state in every if begun <= written < end]
    if last_step is not None:
        states = [state for state in states if (_whole(state.get("global_step")) or 0) <= last_step]
    if not states:
        others = "the checkpoints beside the journal belong to other trainings"
        return others if every else "there is no checkpoint beside the journal"
    # Each state includes the earlier ones.
    state = max(states, key=lambda state: _whole(state.get("global_step")) or 0)
    best, step = state.get("best_model_checkpoint"), _whole(state.get("best_global_step"))
    metric, value = str(params.get("metric_for_best_model") or ""), _number(state.get("best_metric"))
    if value is None:
        return (
            "the Trainer recorded none, because that needs metric_for_best_model, and an evaluation before the "
            "checkpoint"
        )
    if not isinstance(best, str):
        had_best = f"{metric or 'the metric'} had its best value, {number(value)}"
        if step is None:  # transformers 4 with save_strategy="best"
            return f"the Trainer recorded none with its save_strategy, although {had_best}"
        return f"the Trainer recorded none, because it had no checkpoint of step {step:,}, where {had_best}"
    name = best.replace("\\", "/").rstrip("/").rpartition("/")[2]
    is_there = any(path.name == name for path in directory.glob("*/"))
    found = BestCheckpoint(name, is_there, metric, value, step)
    saved = re.search(r"-(\d{1,18})$", name)
    if found.step is None or saved is None or int(saved[1]) == found.step:
        return found
    # The Trainer goes on recording values, also between its checkpoints.
    return replace(
        found,
        value=_value_at(int(saved[1]), metric, state),
        step=int(saved[1]),
        unsaved_value=found.value,
        unsaved_step=found.step,
    )


def _value_at(step: int, metric: str, state: Mapping[str, Any]) -> float | None:
    """Return the value that an evaluation gave a metric at a step."""
    name = metric if metric.startswith("eval_") else f"eval_{metric}"
    rows = state.get("log_history")
    for row in rows if isinstance(rows, list) else []:
        if isinstance(row, dict) and row.get("step") == step and (value := _number(row.get(name))) is not None:
            return value
    return None


def _state_files(directory: Path) -> list[Path]:
    return [*directory.glob("checkpoint-*/trainer_state.json"), *directory.glob("trainer_state.json")]


def _read(path: Path) -> tuple[float, dict[str, Any]] | None:
    """Return when a state was written, and the state; ``None`` if the file holds none, or is not complete yet."""
    try:
        written, state = path.stat().st_mtime, json.loads(read_ordinary(path))
    except (OSError, ValueError, RecursionError):
        return None
    return (written, state) if isinstance(state, dict) else None


def _number(value: Any) -> float | None:
    try:
        return float(value) if isinstance(value, int | float) else None
    except OverflowError:
        return None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None
