"""Loss budget: checks whether the reported parts add up to the loss that the training optimises."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from transformers import TrainerCallback

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.keys import check_key, log_name
from mtask_sinks.patterns import check_mapping
from mtask_sinks.reducers import Mean
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.reporting.capture import TWIN, Capture, Twins
from mtask_sinks.snapshot import Snapshot

logger = get_logger(__name__)

_V = TypeVar("_V")

# transformers 4 rounds the logged loss to four decimals.
_ROUNDING = 5e-5
_OTHER_MEAN = (
    "; or the micro-batches that report a part count unequally (weighted values, vectors), as they do not in the loss: "
    "then allow a larger tolerance"
)


class LossBudget(TrainerCallback):
    """Compares ``sum(weight * part)`` with the Trainer's own ``loss``, and warns once if they differ.

    >>> budget = LossBudget({"mlm/loss": 1.0, "nsp/loss": 0.5})
    >>> parts = {"mlm/loss": 4.0, "nsp/loss": 0.6, "aux/loss": 2.0}
    >>> budget.finding(4.3, parts)              # 4.0 + 0.5 * 0.6: they fit
    >>> budget.finding(4.0, parts)
    "'nsp/loss' is reported but not optimised: without it, the sum fits"
    >>> budget.finding(4.5, parts).partition("; ")[0]
    'something is optimised that is not reported, or a weight is too small'

    It checks each log event of the training and of an evaluation. It skips an event without a loss, with a value that
    is not finite, or with a part that was not reported in every micro-batch of the window (tasks that take turns). It
    also skips an event in which the reported values and the loss are averaged in different ways: if steps had different
    numbers of micro-batches, or if the last batch of an evaluation was shorter. If all parts are captured, it does not
    skip such an event. It warns if two checked events of a phase in a row have the same finding.

    In a training, the Trainer's ``loss`` is a mean over optimizer steps, and the loss of a step is a mean over its
    micro-batches, however many samples these have. A part that `Capture` takes from the outputs is a mean over samples.
    So it is captured a second time as a mean over micro-batches, only for the comparison.

    Args:
        weights: key of a part → its weight in the combined loss, for all parts of the loss.
        tolerance: the largest difference that passes, relative to the loss. Allow more if the model itself reports
            weighted parts: a part with tokens as weights is a mean over tokens, while ``loss`` is a mean over
            micro-batches.

    Raises:
        MetricKeyError, TypeError, ValueError: the weights, a key or the tolerance cannot be used.
    """

    def __init__(self, weights: Mapping[str, float], tolerance: float = 0.01) -> None:
        check_mapping("loss_budget", weights, "{'mlm/loss': 1.0, 'nsp/loss': 0.5}")
        for key, weight in weights.items():
            check_key(key)
            if isinstance(weight, str) or not math.isfinite(weight):
                raise ValueError(f"loss_budget: the weight of {key!r} is {weight!r}; it must be a finite number.")
        if not weights:
            raise ValueError("loss_budget: no part is given; pass key → weight, {'mlm/loss': 1.0, 'nsp/loss': 0.5}.")
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"loss_budget: tolerance={tolerance!r}; it must be a finite number >= 0.")
        self.weights = dict(weights)
        self.tolerance = tolerance
        self._warn_once = WarnOnce(logger)
        self._micro_batches = 0
        self._eval_batches = 0
        #: The micro-batches of the current step, and the different numbers of them in the steps of the window.
        self._in_step = 0
        self._step_sizes: set[int] = set()
        #: Whether all batches of the evaluation had the same size.
        self._has_even_batches = True
        #: Phase → the finding of its last event.
        self._last: dict[str, str | None] = {}
        #: Key → the value to compare with the training's loss, if that is not the value of the metric.
        self._twins: dict[str, float] = {}
        #: What to say of each part that the model reports and that is no mean.
        self._not_comparable: list[str] = []
        #: How many losses the Trainer may add up, if a model seems to divide each: of micro-batches, ranks, or both.
        self._shares: set[int] = set()

    def use_means(self, capture: Capture, registry: MetricRegistry, share_of_step: Callable[[], float]) -> None:
        """Capture the parts a second time, as means over micro-batches, if ``capture`` is on.

        Args:
            capture: what captures the outputs of the trainer's model.
            registry: the registry of the trainer.
            share_of_step: returns which part of an optimizer step the current micro-batch is, such as 0.25.
        """
        if not capture.is_on:
            self._not_comparable = [
                f"{key!r} is not comparable: it is reduced by {reducer!r}, but the loss is a mean"
                for key in self.weights
                if not isinstance(reducer := registry.reducer_for(key), Mean)
            ]
            return
        for key in self.weights:
            registry.register(key + TWIN, "mean")
        capture.twins = Twins(frozenset(self.weights), share_of_step)

    def without_twins(self, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot without the values that were captured only for the comparison. `check` uses these."""
        self._twins = {key: snapshot.metrics[key + TWIN] for key in self.weights if key + TWIN in snapshot.metrics}
        # A twin may also have a spread, or the number of its values that were not finite: `<twin>.rank_min`, ….
        hidden = {
            key
            for key in {**snapshot.metrics, **snapshot.nonfinite}
            if TWIN in key and key.partition(TWIN)[0] in self.weights
        }
        if not hidden:
            return snapshot
        return replace(
            snapshot,
            metrics=_without(snapshot.metrics, hidden),
            counts=_without(snapshot.counts, hidden),
            nonfinite=_without(snapshot.nonfinite, hidden),
        )

    def check(self, snapshot: Snapshot, logs: Mapping[str, Any]) -> None:
        """Check a log event: its reduced values, and the row with the Trainer's loss."""
        name = log_name("loss", snapshot.phase)
        loss = logs.get(name)
        if not isinstance(loss, float):
            return
        batches, is_even = self._take_batches(snapshot.phase)
        is_captured = self._twins.keys() >= self.weights.keys()  # then the parts are the same means as the loss
        if not self._is_complete(snapshot, batches) or not (is_even or is_captured):
            return
        parts = {key: snapshot.metrics[key] for key in self.weights}
        if snapshot.phase == "train":
            parts |= self._twins
        if not all(map(math.isfinite, (loss, *parts.values()))):
            return
        finding = self.finding(loss, parts)
        if finding is not None and self._not_comparable:
            finding = self._not_comparable[0]
        if finding is not None and finding == self._last.get(snapshot.phase):
            terms = " + ".join(f"{weight:g} * {parts[key]:.6g} ({key})" for key, weight in self.weights.items())
            message = "loss budget at step %d: %s = %.6g, but %s = %.6g. Probably %s (tolerance %g)."
            total = self._total(parts)
            self._warn_once("budget", message, snapshot.step, terms, total, name, loss, finding, self.tolerance)
        self._last[snapshot.phase] = finding

    def finding(self, loss: float, parts: Mapping[str, float]) -> str | None:
        """Return what is probably wrong; ``None`` if the parts add up to the loss."""
        total = self._total(parts)
        slack = self.tolerance * abs(loss) + _ROUNDING
        if abs(loss - total) <= slack:
            return None
        for key, weight in self.weights.items():
            if abs(loss - (total - weight * parts[key])) <= slack:
                return f"{key!r} is reported but not optimised: without it, the sum fits"
        for number in self._shares:
            if abs(loss - number * total) <= slack:
                return (
                    f"the model divides the parts by num_items_in_batch, so each value is one of {number} shares; or "
                    f"it takes **kwargs and does not divide, so the loss is the sum of {number} means (for their mean, "
                    "set accepts_loss_kwargs = False in the class of the model); or all weights are too small"
                )
        if loss > total:
            return f"something is optimised that is not reported, or a weight is too small{_OTHER_MEAN}"
        return f"more is reported than is optimised, or a weight is too large{_OTHER_MEAN}"

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._micro_batches = self._in_step = 0
        self._step_sizes.clear()
        micro_batches, ranks = args.gradient_accumulation_steps, args.world_size
        self._shares = {micro_batches, ranks, micro_batches * ranks}

    def on_substep_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._micro_batches += 1
        self._in_step += 1

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._micro_batches += 1
        self._step_sizes.add(self._in_step + 1)
        self._in_step = 0

    def on_prediction_step(
        self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **kwargs: Any
    ) -> None:
        self._eval_batches += 1
        self._has_even_batches = self._has_even_batches and _has_even_batches(eval_dataloader)

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any, **kwargs: Any) -> None:
        self._take_batches("test")

    def _total(self, parts: Mapping[str, float]) -> float:
        return math.fsum(weight * parts[key] for key, weight in self.weights.items())

    def _take_batches(self, phase: str) -> tuple[int, bool]:
        """Return how many batches the window of a phase had, and whether all had the same weight in the loss.

        The next window begins to count again.
        """
        if phase == "train":
            found = self._micro_batches, len(self._step_sizes) < 2
            self._micro_batches, self._step_sizes = 0, set()
        else:
            found = self._eval_batches, self._has_even_batches
            self._eval_batches, self._has_even_batches = 0, True
        return found

    def _is_complete(self, snapshot: Snapshot, batches: int) -> bool:
        """Return whether all parts were reported equally often in every batch: once, or once per layer or replica."""
        first, *others = (snapshot.counts.get(key, 0) for key in self.weights)
        return batches > 0 and first > 0 and first % batches == 0 and all(count == first for count in others)


def _has_even_batches(loader: Any) -> bool:
    """Return whether all batches of a data loader have the same size, as far as it tells."""
    try:
        size = getattr(loader, "total_batch_size", None) or loader.batch_size
        return not len(loader.dataset) % size
    except (AttributeError, TypeError):
        return False


def _without(values: Mapping[str, _V], hidden: Collection[str]) -> dict[str, _V]:
    return {key: value for key, value in values.items() if key not in hidden}
