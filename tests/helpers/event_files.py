"""Reads TensorBoard event files back."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

Series = dict[str, list[tuple[int, float]]]


def read_scalars(directory: Path) -> Series:
    """Tag → (step, value) of one TensorBoard run: all event files directly in a directory."""
    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, event.value) for event in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]
    }


def run_dirs(root: Path) -> list[Path]:
    """All TensorBoard runs below a directory."""
    return sorted({path.parent for path in root.rglob("*tfevents*")})
