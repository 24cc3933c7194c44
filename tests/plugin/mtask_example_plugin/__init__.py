"""A sink and a reducer, as another package would offer them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from mtask_sinks import Reducer, RunInfo, Sink, Snapshot


class LinesSink(Sink):
    """Writes one JSON line per snapshot to ``<output_dir>/lines.jsonl``."""

    name = "example_lines"

    def __init__(self) -> None:
        self._file: TextIO | None = None

    def open(self, run: RunInfo) -> None:
        directory = Path(run.output_dir or ".")
        directory.mkdir(parents=True, exist_ok=True)
        self._file = (directory / "lines.jsonl").open("a")

    def write(self, snapshot: Snapshot) -> None:
        assert self._file is not None
        line = {"step": snapshot.step, "phase": snapshot.phase, **snapshot.metrics, "logs": sorted(snapshot.logs)}
        self._file.write(json.dumps(line) + "\n")

    def close(self, status: str) -> None:
        assert self._file is not None
        self._file.write(json.dumps({"closed": status}) + "\n")
        self._file.close()


def make_sink() -> Sink:
    """A function that returns a sink, as an entry point may be."""
    return LinesSink()


def not_a_sink() -> Any:
    """A mistake: an entry point that returns no sink."""
    return "a string"


class GeometricMean(Reducer):
    """Computes ``exp`` of the weighted mean of logarithms."""

    merge = ("sum", "sum")

    def update(self, state: Any, values: Any, weights: Any) -> None:
        state += [np.dot(weights, np.log(values)), weights.sum()]

    def compute(self, state: Any) -> float:
        return float(np.exp(state[0] / state[1]))
