"""Metrics from given gradients: NumPy computes them from the vectors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mtask_sinks.keys import MAX_KEY_LENGTH, check_key, join_key
from mtask_sinks.task_health.findings import Group, metrics_of, unexplained
from mtask_sinks.task_health.gradients import Products

RNG = np.random.default_rng(0)
A, B, C = RNG.normal(size=(3, 6))


def products(*vectors):
    rows = np.array(vectors)
    with np.errstate(over="ignore"):
        gram = rows @ rows.T
    return Products(gram, np.ones((len(rows), len(rows)), dtype=bool))


def test_a_group_is_a_part_of_its_task():
    groups = [Group("x", 2.0, 1.0), Group("x", 3.0, 0.5), Group("y", 1.0, 2.0)]
    found = metrics_of(groups, products(A, B, C), 4, False)
    assert found["x"]["grad_norm"] == pytest.approx(np.linalg.norm(A + B))
    assert found["health"]["grad_cosine.x.y"] == pytest.approx((A + B) @ C / np.linalg.norm(A + B) / np.linalg.norm(C))
    # The loss of x enters with 1 * 2 + 0.5 * 3 = 3.5 of 5, four times per step.
    assert found["x"]["effective_weight"] == pytest.approx(4 * 3.5 / 5)
    assert found["x"]["loss_share"] == pytest.approx(3.5 / 5.5)
    norms = np.linalg.norm(A + 0.5 * B), 2 * np.linalg.norm(C)
    assert found["y"]["grad_share"] == pytest.approx(norms[1] / sum(norms))


@pytest.mark.parametrize("known", [(), (0,)])
def test_weights_that_explain_the_total_are_estimated(known):
    weights = np.array([0.3, 0.7, -0.2])
    groups = [Group(task, 1.0, weights[at] if at in known else None) for at, task in enumerate("xyz")]
    found = metrics_of(groups, products(A, B, C, weights @ np.array([A, B, C])), 1, True)
    for task, weight in zip("xyz", weights):
        assert found[task]["effective_weight.estimated"] == pytest.approx(weight)
        assert "effective_weight" not in found[task]
    assert sum(found[task]["loss_share.estimated"] for task in "xyz") == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("vectors", "total"),
    [
        ((A, B), A + B + 0.01 * C),  # a part that is not reported: the residual is above 0.001
        ((A, 2 * A), 3 * A),  # several weights explain it: the rank is 1
        ((A, np.zeros(6)), A),
        ((1e200 * A, B), 1e200 * A + B),  # the squares of its elements are too large for float64
    ],
    ids=["residual", "rank", "zero", "overflow"],
)
def test_weights_that_do_not_follow_are_absent(vectors, total):
    groups = [Group("x", 1.0, None), Group("y", 1.0, None)]
    found = metrics_of(groups, products(*vectors, total), 1, True)
    assert not [name for task in "xy" for name in found[task] if name != "grad_norm"]


def test_a_weight_of_zero_is_a_weight():
    found = metrics_of([Group("x", 1.0, 0.0), Group("y", 1.0, 1.0)], products(A, B), 1, False)
    assert (found["x"]["effective_weight"], found["x"]["grad_share"], found["y"]["grad_share"]) == (0.0, 0.0, 1.0)


def test_what_the_losses_do_not_explain():
    groups = [Group("x", 1.0, 1.0), Group("y", 1.0, 2.0)]
    assert unexplained(groups, products(A, B, A + 2 * B)) == pytest.approx(0.0, abs=1e-7)
    total = A + 2 * B + C
    assert unexplained(groups, products(A, B, total)) == pytest.approx(np.linalg.norm(C) / np.linalg.norm(total))
    assert unexplained([Group("x", 1.0, None)], products(A, A)) is None


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_zero_and_not_finite(value):
    groups = [Group("x", 1.0, 1.0), Group("y", 1.0, 1.0), Group("z", value, 1.0)]
    found = metrics_of(groups, products(A, np.zeros(6), B), 1, False)
    assert found["z"] == {}
    assert found["y"]["grad_norm"] == 0.0
    assert found["health"] == {}


def test_tasks_that_cancel_out_have_no_cosine_with_their_total():
    """With so many tasks, each cosine compares one task with the total."""
    vectors = np.array([[1.0, 2.0, -3.0], [4.0, 0.0, 1.0], [0.0, -2.0, 5.0], [7.0, 1.0, 1.0], [2.0, 2.0, 0.0]])
    groups = [Group(task, 1.0, 1.0) for task in "abcdefghij"]
    found = metrics_of(groups, products(*vectors, *-vectors), 1, False)
    assert found["health"] == {}
    assert found["a"]["grad_norm"] == pytest.approx(math.sqrt(14.0))
    unequal = metrics_of(groups, products(*vectors, *(-2.0 * vectors)), 1, False)  # the total is minus their sum
    total = -vectors.sum(axis=0)
    assert unequal["health"]["grad_cosine.a.total"] == pytest.approx(
        vectors[0] @ total / np.linalg.norm(vectors[0]) / np.linalg.norm(total)
    )


def test_long_names_of_tasks_make_valid_keys():
    tasks = ["x" * 200, "y" * 200, "z"]
    found = metrics_of([Group(task, 1.0, 1.0) for task in tasks], products(A, B, C), 1, False)
    names = [join_key("health", name) for name in found["health"]]
    assert len({*names}) == 4
    assert all(len(check_key(name)) <= MAX_KEY_LENGTH for name in names)
