"""Warns if a metric would steer the training the wrong way: to its worst checkpoint, or to an error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import EarlyStoppingCallback
from transformers.trainer_utils import SchedulerType

from mtask_sinks.directions import Direction, Directions, known_direction
from mtask_sinks.keys import split_key

if TYPE_CHECKING:
    from transformers import Trainer

    from mtask_sinks.registry import MetricRegistry

_WRONG_DIRECTION = (
    "metric_for_best_model={metric!r}: the {best} value of {key!r} is best, by {source}, but "
    "greater_is_better={greater}{default} chooses the {chosen}, so the worst checkpoint counts as the best. Set "
    "TrainingArguments(greater_is_better={wanted})."
)
_DEFAULT = " (transformers' default for every name that does not end in 'loss')"
_BY_NAME = " If the name misleads, set MetricRegistry(directions={{{key!r}: {direction!r}}})."
_WRONG_MODE = (
    "metric_for_best_model={metric!r}: the largest value of {key!r} is best, by {source}, but the scheduler "
    "ReduceLROnPlateau waits for a smaller one, so it lowers the learning rate while the metric becomes better. Set "
    "mode='max' (TrainingArguments(lr_scheduler_kwargs={{'mode': 'max'}})). greater_is_better does not set it."
)
_MISSING = (
    "metric_for_best_model={metric!r}: the evaluation after step {step} has no value of {key!r}, which was reported "
    "elsewhere. In this evaluation, nothing was reported, or all weights were 0, or all values were NaN or infinite "
    "and left out (nonfinite='skip'). transformers needs a value after every evaluation. Report {key!r} in every "
    "evaluation, or choose another metric."
)


def wrong_direction(trainer: Trainer, rules: Mapping[str, Direction | None]) -> str | None:
    """Return a warning if ``greater_is_better`` contradicts the direction of ``metric_for_best_model``, else ``None``.

    transformers sets ``greater_is_better=True`` for every name that does not end in ``loss``, so for ``eval_a/rmse`` it
    keeps the worst checkpoint. This matters if the training evaluates, and either saves checkpoints or stops early:
    transformers then compares every evaluation with the best one so far, in both major versions, with and without
    ``load_best_model_at_end``.

    Args:
        trainer: the trainer, whose training is about to begin.
        rules: the rules of its registry that tell directions.
    """
    args, metric = trainer.args, trainer.args.metric_for_best_model
    if metric is None or args.eval_strategy == "no" or not trainer.is_world_process_zero():
        return None
    if args.save_strategy == "no" and not any(
        isinstance(callback, EarlyStoppingCallback) for callback in trainer.callback_handler.callbacks
    ):
        return None
    key = _key_of(metric, _datasets(trainer))
    direction = Directions(rules).for_key(key)
    greater = bool(args.greater_is_better)
    if direction is None or (direction == "max") == greater:
        return None
    is_by_name = direction == known_direction(split_key(key)[1])
    best, chosen = ("largest", "smallest") if direction == "max" else ("smallest", "largest")
    message = _WRONG_DIRECTION.format(
        metric=metric,
        best=best,
        key=key,
        source=_source(key, direction),
        greater=greater,
        default=_DEFAULT if greater and not metric.endswith("loss") else "",
        chosen=chosen,
        wanted=not greater,
    )
    opposite = "max" if direction == "min" else "min"
    return message + (_BY_NAME.format(key=key, direction=opposite) if is_by_name else "")


def wrong_mode(trainer: Trainer, rules: Mapping[str, Direction | None]) -> str | None:
    """Return a warning if `ReduceLROnPlateau` takes growth of a metric for which ``"max"`` is best as a plateau.

    transformers steps this scheduler on ``metric_for_best_model``, but leaves its mode at ``"min"``.

    Args:
        trainer: the trainer, whose training is about to begin.
        rules: the rules of its registry that tell directions.
    """
    args, metric, given = trainer.args, trainer.args.metric_for_best_model, trainer.lr_scheduler
    if metric is None or args.eval_strategy == "no" or not trainer.is_world_process_zero():
        return None
    if isinstance(given, ReduceLROnPlateau):
        mode = given.mode
    elif given is None and args.lr_scheduler_type == SchedulerType.REDUCE_ON_PLATEAU:
        kwargs = args.lr_scheduler_kwargs
        mode = kwargs.get("mode", "min") if isinstance(kwargs, dict) else "min"
    else:
        return None
    key = _key_of(metric, _datasets(trainer))
    if mode != "min" or Directions(rules).for_key(key) != "max":
        return None
    return _WRONG_MODE.format(metric=metric, key=key, source=_source(key, "max"))


@contextmanager
def explaining_missing_value(trainer: Trainer, registry: MetricRegistry) -> Iterator[None]:
    """Inside a ``with`` block, say why an evaluation has no value of ``metric_for_best_model``, if there is such a key.

    The error of transformers only says that there is no metric of that name.

    Args:
        trainer: the trainer, whose training is in the block.
        registry: its registry.
    """
    try:
        yield
    except KeyError as error:
        metric = trainer.args.metric_for_best_model
        if metric is not None and "metric_for_best_model" in str(error):
            name, key = f"eval_{metric.removeprefix('eval_')}", _key_of(metric, _datasets(trainer))
            is_known = key in registry.seen_keys or registry.has_reports("train", key)
            if is_known or any(name in row for row in trainer.state.log_history):
                error.add_note(_MISSING.format(metric=metric, key=key, step=trainer.state.global_step))
        raise


def keys_in_history(trainer: Trainer) -> set[str]:
    """Return the keys of all values in the log, also of those that the Trainer or ``compute_metrics`` has computed."""
    datasets = _datasets(trainer)
    return {_key_of(name, datasets) for name in {name for row in trainer.state.log_history for name in row}}


def _source(key: str, direction: Direction) -> str:
    return "its name" if direction == known_direction(split_key(key)[1]) else "the rules of the registry"


def _datasets(trainer: Trainer) -> Iterable[str]:
    return trainer.eval_dataset if isinstance(trainer.eval_dataset, dict) else ()


def _key_of(metric: str, datasets: Iterable[str]) -> str:
    """Return the key of a metric, given its name in the log with or without ``eval_`` and the name of a dataset.

    >>> _key_of("eval_books_price/rmse", ["books", "news"]), _key_of("price/rmse", ())
    ('price/rmse', 'price/rmse')
    """
    name = metric.removeprefix("eval_")
    found = [dataset for dataset in datasets if name.startswith(f"{dataset}_")]
    return name.removeprefix(f"{max(found, key=len)}_") if found else name
