"""Tells in ``mtask-sinks watch`` what the curves are drawn over, and where the values are on that axis."""

from __future__ import annotations

from mtask_sinks._util.formatting import duration, number
from mtask_sinks.analysis.axes import EPOCH, STEP, TIME
from mtask_sinks.analysis.progress import TrainingProgress


def place_text(x: str, value: float | None) -> str:
    """Return a place on an axis as text.

    >>> place_text("step", 1200), place_text("epoch", 0.2134), place_text("time", 124.0), place_text("n_tokens", 5e6)
    ('1,200', '0.21', '2:04', '5,000,000')
    """
    if value is None or x not in (STEP, EPOCH, TIME):
        return number(value)
    return f"{value:,}" if x == STEP else f"{value:.2f}" if x == EPOCH else duration(value)


def axis_heading(x: str) -> str:
    """Return the heading of the column that tells where values are: a key would be too wide."""
    return x if x == STEP else "x"


def axis_parts(progress: TrainingProgress) -> list[str]:
    """Return what the column ``x`` means, and how far the training is; nothing if the axis is the step."""
    return [] if progress.x == STEP else [f"x: {progress.x} {place_text(progress.x, progress.x_value)}"]


def axis_note(error: str) -> str:
    """Return the note for a training that has not the wanted axis, or not yet."""
    return f"{error} Until that changes, watch uses the step."
