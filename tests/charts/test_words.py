from __future__ import annotations

import math

from mtask_sinks.charts.curves import Curve, Panel
from mtask_sinks.charts.words import constant, not_drawn, notes, spoken


def curve(
    task: str = "a", phase: str = "train", run: str = "r", values: tuple[float, ...] = (2.0, 4.0), **more
) -> Curve:
    n = len(values)
    steps = tuple(range(10, 10 * n + 1, 10))
    broken = sum(not math.isfinite(value) for value in values)
    return Curve(run, task, "x", phase, steps, values, None, (None,) * n, (1,) * n, nonfinite=broken, **more)


def test_a_panel_has_at_most_three_notes_of_a_kind() -> None:
    broken = [curve(run=f"r{n}", values=(1.0, math.nan)) for n in range(4)]
    assert notes(Panel("a/x", tuple(broken[:3]))) == [
        f"r{n} a/x train: 1 not finite, first at step 20" for n in range(3)
    ]
    assert notes(Panel("a/x", (*broken, curve(partial=True)))) == [
        "r0 a/x train: 1 not finite, first at step 20",
        "r1 a/x train: 1 not finite, first at step 20",
        "not finite in 2 more curves",
        "r a/x train: partial, because the end of the training cut the window short",
    ]
    assert notes(Panel("a/x", (curve(),))) == []
    shares = (curve(values=(0.5, math.nan, math.nan)), curve("b", values=(0.5, math.nan, math.nan)))
    assert notes(Panel("s", shares, kind="share")) == ["windows whose loss is not finite: 2, first at step 20"]


def test_what_a_picture_shows_in_words() -> None:
    assert spoken(Panel("a/x", (curve(),))) == "Curves of a/x. r, a/x, train: from 2 at step 10 to 4 at step 20."
    timeline = Panel("Windows", (curve(values=(1.0, math.nan, 1.0)),), kind="timeline")
    assert spoken(timeline) == "Windows. a, train: 2 of 3 windows."
    gain = Panel("Gain", (curve(values=(0.125,)),), kind="gains")
    assert spoken(gain) == "Gain. a, r: +12.5%."


def test_a_constant_names_the_runs_only_if_they_differ() -> None:
    same = Panel("a/x", (curve(values=(8.0,)), curve(run="s", values=(8.0,)), curve(phase="eval", values=(2.0,))), "a")
    assert constant(same) == "8 in train, 2 in eval"
    other = Panel("a/x", (curve(values=(8.0,)), curve(run="s", values=(9.0,))), "a")
    assert constant(other) == "8 in train (r), 9 in train (s)"
    overlay = Panel("x", (curve(values=(8.0,)), curve("b", values=(9.0,))), "x")
    assert constant(overlay) == "8 in train (r, a), 9 in train (r, b)"


def test_a_panel_counts_the_curves_that_its_scale_cannot_show() -> None:
    values = [(0.0, 3.0), (math.nan, 0.0, 3.0), (-1.0, 0.0), (math.nan,), (1.0, 0.0)]
    curves = tuple(curve(run=f"r{n}", values=each) for n, each in enumerate(values))
    assert not_drawn(Panel("a/x", curves)) == []
    assert not_drawn(Panel("a/x", curves, scale="relative")) == ["not drawn: 2 of 5 curves (first value 0)"]
    assert not_drawn(Panel("a/x", curves, scale="log")) == ["not drawn: 1 of 5 curves (no value above 0)"]
    assert not_drawn(Panel("a/x", curves[-1:], scale="log")) == []
