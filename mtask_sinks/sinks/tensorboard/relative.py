"""Divides the values of tasks by their first values, so that tasks of very different scale share a chart."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from mtask_sinks._util.append_file import AppendFile
from mtask_sinks._util.ordinary_file import read_ordinary
from mtask_sinks.directions import Directions, recorded_rules
from mtask_sinks.keys import OVERALL, phase_segment, split_key
from mtask_sinks.sinks.tensorboard.subrun import RUN_SUFFIX
from mtask_sinks.snapshot import RunInfo, Snapshot

#: The tags begin with this.
PREFIX = "relative_to_first"
#: Tasks whose first values differ by more than this factor are not readable on one linear axis.
DIFFERENT = 4.0
#: A resumed training reads the first values from this file, beside the event files: one object per line.
FILE_NAME = "first_values.mtask.jsonl"


class RelativeValues:
    """Divides losses by their first values, for metrics whose first values differ a lot between tasks.

    >>> relative = RelativeValues()
    >>> relative.add(Snapshot(step=10, metrics={"mlm/loss": 8.0, "nsp/loss": 0.5, "mlm/accuracy": 0.1}))
    {'mlm/loss': 1.0, 'nsp/loss': 1.0}
    >>> relative.add(Snapshot(step=20, metrics={"mlm/loss": 6.0, "nsp/loss": 0.4, "mlm/accuracy": 0.2}))
    {'mlm/loss': 0.75, 'nsp/loss': 0.8}

    A metric in a phase gets relative values once the first values of two tasks differ by more than a factor of four.
    This counts only metrics for which smaller values are better (a loss, an error, a perplexity), and only tasks whose
    first values are above 0.

    Args:
        run: the run; its rules tell which values are better.
    """

    def __init__(self, run: RunInfo | None = None) -> None:
        self._directions = Directions(recorded_rules({} if run is None else run.directions))
        #: (phase, name) → task → first value.
        self._firsts: dict[tuple[str, str], dict[str, float]] = {}
        #: The part of `_firsts` that the file does not have yet: (phase, name, step, is partial) → task → first value.
        self._unsaved: dict[tuple[str, str, int, bool], dict[str, float]] = {}
        #: Whether the file is there and of this run. It may be empty: then nothing has had a first value yet.
        self._has_file = False
        #: Whether the run has values whose first ones nobody recorded. Then no value is relative.
        self._are_firsts_lost = False

    def add(self, snapshot: Snapshot) -> dict[str, float]:
        """Return key → relative value, for the metrics that have them. Adding a snapshot again changes nothing."""
        found: dict[str, float] = {}
        if snapshot.phase == OVERALL or self._are_firsts_lost:  # one value is no curve
            return found
        for key, value in snapshot.metrics.items():
            task, name = split_key(key)
            if not task or self._directions.for_key(key) != "min":
                continue
            firsts = self._firsts.setdefault((snapshot.phase, name), {})
            if task not in firsts and math.isfinite(value) and value > 0:
                place = snapshot.phase, name, snapshot.step, snapshot.is_partial
                firsts[task] = self._unsaved.setdefault(place, {})[task] = value
            if task in firsts:
                found[key] = value / firsts[task]
        names = {name for name in {split_key(key)[1] for key in found} if self._is_relative(snapshot.phase, name)}
        return {key: value for key, value in found.items() if split_key(key)[1] in names}

    def load(self, directory: Path, resumed_at: float = math.inf) -> None:
        """Read the first values of the run in this directory; `save` then adds to them.

        If the directory has event files of this library and no such record, the first values are lost: an older
        version wrote the files, or the chart was turned off. Then nothing gets a relative value.

        Args:
            directory: the directory.
            resumed_at: the step of the resume. What the training reports again after it counts anew: the values of
                later steps, and those of a partial window that ended at this step.
        """
        self._has_file = (directory / FILE_NAME).exists()
        self._are_firsts_lost = not self._has_file and _has_events(directory)
        for phase, name, step, is_partial, firsts in _recorded(directory / FILE_NAME):
            if step < resumed_at or (step == resumed_at and not is_partial):
                self._firsts.setdefault((phase, name), {}).update(firsts)

    def save(self, directory: Path) -> None:
        """Record the first values that are not recorded yet.

        A new run empties the file first. After that, each call appends lines. If the directory has event files and the
        run has no first value yet, the record stays empty: so a resume knows that none is lost. This makes no temporary
        file, because an upload to the Hub fails if a file that it has listed is gone.
        """
        is_missing = not (self._has_file or self._are_firsts_lost)
        if not (self._unsaved or (is_missing and _has_events(directory))):
            return
        lines = [
            json.dumps({"phase": phase, "name": name, "step": step, "is_partial": is_partial, "firsts": firsts})
            for (phase, name, step, is_partial), firsts in self._unsaved.items()
        ]
        flags = os.O_RDWR if self._has_file else os.O_RDWR | os.O_TRUNC
        with closing(AppendFile(directory / FILE_NAME, flags)) as file:
            file.cut_torn_line()
            file.append("".join(f"{line}\n" for line in lines).encode())
        self._unsaved, self._has_file = {}, True

    def _is_relative(self, phase: str, name: str) -> bool:
        values = self._firsts[phase, name].values()
        return len(values) > 1 and max(values) > DIFFERENT * min(values)


def relative_tag(phase: str, name: str, task: str = "") -> str:
    """Return the tag of a relative value.

    >>> relative_tag("train", "loss", "mlm"), relative_tag("train", "loss")
    ('relative_to_first/train/loss/mlm', 'relative_to_first/train/loss')

    Args:
        phase, name: phase and name of the metric.
        task: task of the metric; empty if the tag is in the task's own sub-run.
    """
    return "/".join(filter(None, (PREFIX, phase_segment(phase), name, task)))


def _has_events(directory: Path) -> bool:
    return any(directory.glob(f"*{RUN_SUFFIX}"))


def _recorded(path: Path) -> Iterator[tuple[str, str, int, bool, dict[str, float]]]:
    """Yield phase, name, step, whether the window was partial, and task → first value for each line that `save` wrote.

    It skips other lines. The lines of earlier versions have no step.
    """
    try:
        lines = read_ordinary(path).splitlines()
    except OSError:
        return
    for line in lines:
        try:
            record = json.loads(line)
            firsts = {str(task): float(value) for task, value in record["firsts"].items()}
            step, is_partial = int(record.get("step", 0)), bool(record.get("is_partial"))
            yield str(record["phase"]), str(record["name"]), step, is_partial, firsts
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError):
            continue
