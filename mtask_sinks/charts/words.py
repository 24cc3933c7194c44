"""Describes what a panel shows, for its notes and for screen readers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mtask_sinks._util.formatting import number
from mtask_sinks.charts.curves import Curve, Panel

# A panel has at most this many notes of one kind.
_NOTES = 3
# Why a scale cannot show a curve. The script of the page has the same words.
_WHY_NOT = {"relative": "first value 0", "log": "no value above 0"}


def notes(panel: Panel) -> list[str]:
    """Return what a curve cannot show: values that are not finite, and windows that the end cut short.

    >>> import math
    >>> curve = Curve(
    ...     "bert", "mlm", "loss", "train", (10, 20), (2.5, math.inf), None, (None, None), (8, 8), nonfinite=1
    ... )
    >>> notes(Panel("mlm/loss", (curve,)))
    ['bert mlm/loss train: 1 not finite, first at step 20']
    """
    if panel.kind == "share" and panel.curves[0].gaps:  # all tasks have the same gaps
        first = panel.curves[0]
        return [f"windows whose loss is not finite: {first.nonfinite:,}, first at step {first.gaps[0]:,}"]
    if panel.kind != "curves":
        return []
    gaps = [
        f"{_name(curve)}: {curve.nonfinite:,} not finite, first at step {curve.gaps[0]:,}"
        for curve in panel.curves
        if curve.gaps
    ]
    partial = [
        f"{_name(curve)}: partial, because the end of the training cut the window short"
        for curve in panel.curves
        if curve.partial
    ]
    return [*_few(gaps, "not finite in"), *_few(partial, "partial in")]


def not_drawn(panel: Panel) -> list[str]:
    """Return how many curves the scale of a panel cannot show, if there are any.

    >>> curve = Curve("bert", "mlm", "f1", "train", (10, 20), (0.0, 0.5), None, (None, None), (8, 8))
    >>> not_drawn(Panel("mlm/f1", (curve,), scale="relative"))
    ['not drawn: 1 of 1 curves (first value 0)']
    """
    if panel.kind != "curves" or panel.scale == "linear":
        return []
    count = 0
    for curve in panel.curves:
        finite = [value for value in curve.values if math.isfinite(value)]
        if finite and (not finite[0] if panel.scale == "relative" else max(finite) <= 0):
            count += 1
    return [f"not drawn: {count} of {len(panel.curves)} curves ({_WHY_NOT[panel.scale]})"] if count else []


def spoken(panel: Panel) -> str:
    """Return the first and the last value of every curve, or what else a picture shows."""
    title = f"Curves of {panel.title}." if panel.kind == "curves" else f"{panel.title}."
    return " ".join([title, *(_spoken(panel, curve) for curve in panel.curves)])


def constant(panel: Panel) -> str:
    """Return the value of each phase, and of each run if the runs differ.

    >>> one, two = (Curve("r", "a", "n", phase, (1,), (8,), None, (None,), (1,)) for phase in ("train", "eval"))
    >>> constant(Panel("a/n", (one, two)))
    '8 in train, 8 in eval'
    """
    phases: dict[str, dict[str, float]] = {}
    for curve in panel.curves:
        who = curve.run if panel.group == curve.task else f"{curve.run}, {curve.task}"
        phases.setdefault(curve.phase, {})[who] = curve.values[0]
    return ", ".join(text for phase, values in phases.items() for text in _constant(phase, values))


def _spoken(panel: Panel, curve: Curve) -> str:
    if panel.kind == "timeline":
        reported = len(curve.steps) - len(curve.gaps)
        return f"{curve.task or 'no task'}, {curve.phase}: {reported} of {len(curve.steps)} windows."
    if panel.kind == "gains":
        return f"{curve.task or 'no task'}, {curve.run}: {curve.values[0]:+.1%}."
    return (
        f"{curve.run}, {curve.key}, {curve.phase}: from {number(curve.values[0])} at step {curve.steps[0]} to "
        f"{number(curve.values[-1])} at step {curve.steps[-1]}."
    )


def _name(curve: Curve) -> str:
    return f"{curve.run} {curve.key} {curve.phase}"


def _few(lines: Sequence[str], what: str) -> Iterator[str]:
    yield from lines if len(lines) <= _NOTES else lines[: _NOTES - 1]
    if len(lines) > _NOTES:
        yield f"{what} {len(lines) - _NOTES + 1} more curves"


def _constant(phase: str, values: dict[str, float]) -> Iterator[str]:
    if len(set(values.values())) == 1:
        yield f"{number(next(iter(values.values())))} in {phase}"
    else:
        yield from (f"{number(value)} in {phase} ({who})" for who, value in values.items())
