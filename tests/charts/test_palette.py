"""The colours, by a computation of our own: CIEDE2000, the matrices of Machado et al. (2009), contrast as in WCAG 2."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mtask_sinks.charts.palette import COLOURS, task_styles

# Machado, Oliveira, Fernandes: A Physiologically-based Model for Simulation of Color Vision Deficiency, severity 1.0.
SIGHTS = {
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Of the XYZ of linear sRGB, D65.
TO_XYZ = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
WHITE = np.array([0.95047, 1.0, 1.08883])


def linear(colour: str) -> np.ndarray:
    """Linear sRGB of ``#rrggbb``."""
    coded = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def lab(light: np.ndarray) -> tuple[float, float, float]:
    ratio = np.array(TO_XYZ) @ np.clip(light, 0, 1) / WHITE
    x, y, z = (r ** (1 / 3) if r > (6 / 29) ** 3 else r / (3 * (6 / 29) ** 2) + 4 / 29 for r in ratio)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def difference(one: tuple[float, float, float], two: tuple[float, float, float]) -> float:
    """CIEDE2000, in degrees as in Sharma, Wu, Dalal (2005)."""
    (l1, a1, b1), (l2, a2, b2) = one, two
    mean_c = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    g = 0.5 * (1 - math.sqrt(mean_c**7 / (mean_c**7 + 25**7)))
    c1, c2 = math.hypot((1 + g) * a1, b1), math.hypot((1 + g) * a2, b2)
    h1, h2 = (math.degrees(math.atan2(b, (1 + g) * a)) % 360 for a, b in ((a1, b1), (a2, b2)))
    dh, total = h2 - h1, h1 + h2
    if c1 * c2 == 0:
        dh, mean_h = 0.0, total
    else:
        mean_h = total / 2 if abs(dh) <= 180 else (total + 360 if total < 360 else total - 360) / 2
        dh = dh - 360 if dh > 180 else dh + 360 if dh < -180 else dh
    big_h = 2 * math.sqrt(c1 * c2) * math.sin(math.radians(dh / 2))
    mean_l, mean_c = (l1 + l2) / 2, (c1 + c2) / 2
    cos = [math.cos(math.radians(angle)) for angle in (mean_h - 30, 2 * mean_h, 3 * mean_h + 6, 4 * mean_h - 63)]
    t = 1 - 0.17 * cos[0] + 0.24 * cos[1] + 0.32 * cos[2] - 0.20 * cos[3]
    s_l = 1 + 0.015 * (mean_l - 50) ** 2 / math.sqrt(20 + (mean_l - 50) ** 2)
    s_c, s_h = 1 + 0.045 * mean_c, 1 + 0.015 * mean_c * t
    turn = 30 * math.exp(-(((mean_h - 275) / 25) ** 2))
    r = -2 * math.sqrt(mean_c**7 / (mean_c**7 + 25**7)) * math.sin(math.radians(2 * turn))
    parts = ((l2 - l1) / s_l, (c2 - c1) / s_c, big_h / s_h)
    return math.sqrt(sum(part**2 for part in parts) + r * parts[1] * parts[2])


def contrast(one: str, two: str) -> float:
    dark, light = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour)) for colour in (one, two))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [  # published pairs of Sharma, Wu and Dalal
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
    ],
)
def test_the_formula_gives_the_published_values(one, two, expected) -> None:
    assert difference(one, two) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("sight", SIGHTS)
def test_any_two_colours_differ_for_every_kind_of_sight(sight) -> None:
    seen = [lab(np.array(SIGHTS[sight]) @ linear(colour)) for colour in COLOURS]
    assert min(difference(one, two) for one, two in itertools.combinations(seen, 2)) >= 12


def test_the_first_few_colours_differ_most() -> None:
    seen = [[lab(np.array(matrix) @ linear(colour)) for colour in COLOURS] for matrix in SIGHTS.values()]
    least = [
        min(difference(one, two) for each in seen for one, two in itertools.combinations(each[:n], 2))
        for n in range(2, 9)
    ]
    assert least == sorted(least, reverse=True)
    assert least[0] > 40


@pytest.mark.parametrize("background", ["#ffffff", "#121212"])
def test_every_colour_is_visible_on_both_backgrounds(background) -> None:
    assert min(contrast(colour, background) for colour in COLOURS) >= 3


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)


def test_after_eight_tasks_the_colours_come_again_with_a_marker() -> None:
    styles = list(task_styles([f"t{i}" for i in range(20)]).values())
    assert [style.colour for style in styles] == [COLOURS[i % 8] for i in range(20)]
    assert [style.marker for style in styles] == [None] * 8 + ["circle"] * 8 + ["square"] * 4
    assert len(set(styles)) == 20
    assert list(task_styles(["a", "b", "a"])) == ["a", "b"]
