"""Turns the inner products of gradients into metrics: norms, cosines, conflict, weights and shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mtask_sinks.keys import COSINE, ESTIMATED, HEALTH, MAX_KEY_LENGTH, TOTAL, cut_with_hash
from mtask_sinks.task_health.gradients import Products

#: Up to this many tasks, each pair gets a cosine.
MAX_PAIRED = 8
#: Estimated weights count if the residual is below this, and if the gradients are linearly independent.
MAX_RESIDUAL = 1e-3
# A gradient counts as dependent on the others if they leave less than this share of it unexplained.
_MIN_INDEPENDENT = 1e-4


@dataclass(frozen=True)
class Group:
    """Losses of one task that have one weight.

    Attributes:
        task: the task.
        value: the sum of the losses.
        weight: the derivative of the total with respect to each loss; ``None`` if the total does not depend on it.
    """

    task: str
    value: float
    weight: float | None


def metrics_of(
    groups: Sequence[Group], products: Products, micro_batches: int, has_total: bool
) -> Mapping[str, dict[str, float]]:
    """Return the metrics, as task → name → value.

    Args:
        groups: the losses, in the order of the rows of the matrices.
        products: inner products of their gradients, and of the gradient of the total if ``has_total``, in the last row.
        micro_batches: how many micro-batches make an optimizer step.
        has_total: whether the gradient of the total is known.
    """
    weights, are_estimated = known_or_estimated(groups, products, has_total)
    tasks = sorted({group.task for group in groups})
    members = {task: [at for at, group in enumerate(groups) if group.task == task] for task in tasks}
    found: dict[str, dict[str, float]] = {task: {} for task in tasks}
    norms = {task: _norm(products, members[task]) for task in tasks}
    sound = [task for task in tasks if math.isfinite(norms[task]) and _is_finite(groups, members[task])]
    for task in sound:
        if products.overlaps[members[task], members[task]].any():  # it reaches some of the parameters
            found[task]["grad_norm"] = norms[task]
    ending = ESTIMATED if are_estimated else ""
    _add_shares(found, groups, products, {task: members[task] for task in sound}, weights, micro_batches, ending)
    directed = [task for task in sound if norms[task] > 0]
    if len(tasks) <= MAX_PAIRED:
        cosines = _pair_cosines(products, {task: members[task] for task in directed}, norms)
    else:
        total = _total(groups, weights, has_total)
        cosines = {} if total is None else _total_cosines(products, members, directed, norms, total)
    health = {_pair_name(*pair): cosine for pair, cosine in cosines.items()}
    if cosines:
        health["conflict"] = sum(cosine < 0 for cosine in cosines.values()) / len(cosines)
    return {**found, HEALTH: found.get(HEALTH, {}) | health}


def unexplained(groups: Sequence[Group], products: Products) -> float | None:
    """Return the part of the total's gradient that the weighted gradients of the losses do not explain.

    ``None`` if a weight is unknown, or if the gradient of the total is zero.
    """
    weights = [group.weight for group in groups]
    if any(weight is None for weight in weights):
        return None
    return _residual(products.gram, np.array(weights, dtype=float))


def known_or_estimated(groups: Sequence[Group], products: Products, has_total: bool) -> tuple[list[float | None], bool]:
    """Return the weight of each group, and whether some are estimated by least squares.

    Estimates count only if they explain the gradient of the total (with a residual below `MAX_RESIDUAL`), and if no
    other weights would explain it too (the gradients are linearly independent).
    """
    weights = [group.weight for group in groups]
    missing = [at for at, weight in enumerate(weights) if weight is None]
    if not missing or not has_total:
        return weights, False
    gram = products.gram
    known = np.array([0.0 if weight is None else weight for weight in weights])
    count = len(groups)
    norms = np.sqrt(np.diag(gram))[missing]
    if not np.all(np.isfinite(gram)) or not np.all(norms > 0):
        return weights, False
    scaled = gram[np.ix_(missing, missing)] / np.outer(norms, norms)
    if np.linalg.eigvalsh(scaled)[0] < _MIN_INDEPENDENT**2:
        return weights, False
    right = (gram[missing, count] - gram[np.ix_(missing, range(count))] @ known) / norms
    known[missing] = np.linalg.solve(scaled, right) / norms
    residual = _residual(gram, known)
    if residual is None or residual >= MAX_RESIDUAL:
        return weights, False
    return [float(weight) for weight in known], True


def _residual(gram: np.ndarray, weights: np.ndarray) -> float | None:
    count = len(weights)
    norm = gram[count, count]
    if not norm > 0:
        return None
    coefficients = np.append(weights, -1.0)
    return math.sqrt(max(float(coefficients @ gram @ coefficients), 0.0) / norm)


def _add_shares(
    found: dict[str, dict[str, float]],
    groups: Sequence[Group],
    products: Products,
    members: Mapping[str, list[int]],
    weights: Sequence[float | None],
    micro_batches: int,
    ending: str,
) -> None:
    """Add effective weights, and shares among the tasks whose weights are known."""
    losses, norms = {}, {}
    for task, at in members.items():
        mine = [weights[each] for each in at]
        known = [weight for weight in mine if weight is not None]
        if len(known) < len(mine):
            continue
        value = sum(groups[each].value for each in at)
        weighted = sum(weight * groups[each].value for weight, each in zip(known, at, strict=True))
        losses[task] = abs(weighted)
        norms[task] = _norm(products, at, known)
        is_one = len({*known}) == 1
        if is_one or value:
            weight = known[0] if is_one else weighted / value
            found[task][f"effective_weight{ending}"] = weight * micro_batches
    if len(losses) < len(members):
        return  # shares of some tasks only would look like shares of all
    for name, values in (("loss_share", losses), ("grad_share", norms)):
        total = sum(values.values())
        if total > 0 and math.isfinite(total):
            for task, value in values.items():
                found[task][f"{name}{ending}"] = value / total


def _pair_cosines(
    products: Products, members: Mapping[str, list[int]], norms: Mapping[str, float]
) -> dict[tuple[str, str], float]:
    cosines = {}
    for a, b in combinations(members, 2):
        block = np.ix_(members[a], members[b])
        if products.overlaps[block].any():
            cosines[a, b] = _clipped(float(products.gram[block].sum()) / norms[a] / norms[b])
    return cosines


def _total_cosines(
    products: Products,
    members: Mapping[str, list[int]],
    directed: Sequence[str],
    norms: Mapping[str, float],
    total: np.ndarray,
) -> dict[tuple[str, str], float]:
    norm = math.sqrt(max(float(total @ products.gram @ total), 0.0))
    if not (norm > 0 and math.isfinite(norm)):
        return {}
    along = products.gram @ total
    return {(task, TOTAL): _clipped(float(along[members[task]].sum()) / norms[task] / norm) for task in directed}


def _total(groups: Sequence[Group], weights: Sequence[float | None], has_total: bool) -> np.ndarray | None:
    """Return the gradient of the total as a combination of the gradients; ``None`` if it is unknown."""
    if has_total:
        return np.append(np.zeros(len(groups)), 1.0)
    known = [weight for weight in weights if weight is not None]
    return np.array(known) if len(known) == len(groups) else None


def _norm(products: Products, members: Sequence[int], weights: Sequence[float] | None = None) -> float:
    factors = np.ones(len(members)) if weights is None else np.array(weights)
    square = float(factors @ products.gram[np.ix_(members, members)] @ factors)
    return math.sqrt(max(square, 0.0)) if math.isfinite(square) else math.nan


def _is_finite(groups: Sequence[Group], members: Sequence[int]) -> bool:
    return all(math.isfinite(groups[at].value) for at in members)


def _clipped(cosine: float) -> float:
    return max(-1.0, min(1.0, cosine))


def _pair_name(a: str, b: str) -> str:
    name = f"{COSINE}{a}.{b}"
    limit = MAX_KEY_LENGTH - len(HEALTH) - 1
    return name if len(name.encode()) <= limit else cut_with_hash(name, limit, of=name)
