"""Warns at the end of a training about rules that no metric has matched. A key in them may be misspelled."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from mtask_sinks.patterns import listed
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.reporting.capture import TWIN, Capture
from mtask_sinks.trainer.best_metric import keys_in_history

if TYPE_CHECKING:
    from transformers import Trainer

#: The arguments of a registry that hold rules by exact key and pattern.
_ARGUMENTS = ("reducers", "nonfinite", "spread", "directions", "per_epoch")
_MESSAGE = (
    "%s: no metric of the training matched %s, so this rule did nothing. Is a name misspelled? The metrics are: %s."
)


class IdleRules:
    """Names the rules of one trainer that nothing has matched.

    The rules of the registry may be meant for an evaluation. So if the training had none, and the trainer has data for
    one, the warning waits for the first evaluation after the training.

    Args:
        registry: the registry of the trainer.
        parts: the keys in ``loss_budget``.
        captured: takes losses from the outputs of the model.
        warn: logs a warning once per topic.
    """

    def __init__(
        self, registry: MetricRegistry, parts: Collection[str], captured: Capture, warn: Callable[..., Any]
    ) -> None:
        self._registry = registry
        self._parts = parts
        self._captured = captured
        self._warn = warn
        self._has_evaluated = self._is_waiting = False

    def on_train_begin(self) -> None:
        """Begin anew."""
        self._has_evaluated = self._is_waiting = False

    def on_evaluation(self) -> None:
        """Note that an evaluation has begun."""
        self._has_evaluated = True

    def on_train_end(self, trainer: Trainer | None, has_made_step: bool) -> None:
        """Name the rules, or wait for an evaluation."""
        self._is_waiting = not (self._has_evaluated or trainer is None or trainer.eval_dataset is None)
        if trainer is None or not trainer.is_world_process_zero():
            return
        rules = {} if self._is_waiting else self._rules(trainer)
        self._name(trainer, {**rules, "loss_budget": self._parts})
        if has_made_step and (not self._is_waiting or self._captured.why_idle() is not None):
            self._name_captures(trainer)

    def on_evaluated(self, trainer: Trainer | None) -> None:
        """After an evaluation outside of a training, name the rules if they have waited for it."""
        if self._is_waiting and self._has_evaluated:
            self._is_waiting = False
            if trainer is not None and trainer.is_world_process_zero():
                self._name(trainer, self._rules(trainer))
                self._name_captures(trainer)

    def warn_of_idle_capture(self) -> bool:
        """Say why nothing was captured, if no output had a loss. Return whether that is so."""
        if (reason := self._captured.why_idle()) is not None:
            self._warn("idle: capture", *reason)
        return reason is not None

    def _rules(self, trainer: Any) -> dict[str, Collection[str]]:
        return {**rules_in(self._registry.arguments), **trainer._console.patterns}

    def _name_captures(self, trainer: Trainer) -> None:
        elsewhere = self._registry.seen_keys if trainer.args.world_size > 1 else ()
        idle = self._captured.idle_patterns(elsewhere)
        if idle and self.warn_of_idle_capture():
            return
        for pattern in idle:
            message = (
                "capture: no output of the model matched %r, so this pattern did nothing. Is a name misspelled? The "
                "outputs are: %s."
            )
            self._warn(f"idle: capture {pattern}", message, pattern, listed(sorted(self._captured.outputs)))

    def _name(self, trainer: Trainer, rules: Mapping[str, Iterable[str]]) -> None:
        keys = [key for key in self._registry.seen_keys if not key.endswith(TWIN)]
        if not keys:
            return  # nothing can be said
        known = {*keys, *keys_in_history(trainer)}  # also of ``compute_metrics``, and of the part before a resume
        for name, patterns in rules.items():
            for pattern in patterns:
                if not any(key == pattern or fnmatchcase(key, pattern) for key in known):
                    self._warn(f"idle: {name} {pattern}", _MESSAGE, name, repr(pattern), listed(sorted(keys)))


def rules_in(arguments: Mapping[str, Any]) -> dict[str, Collection[str]]:
    """Return argument → its exact keys and patterns, from the arguments of a registry.

    >>> rules_in({"reducers": {"*/n": "sum"}, "nonfinite": "skip", "spread": "*/loss", "per_epoch": ()})
    {'reducers': ['*/n'], 'spread': ['*/loss'], 'per_epoch': []}
    """
    found = {name: arguments[name] for name in _ARGUMENTS if arguments.get(name) is not None}
    if isinstance(found.get("nonfinite"), str):  # one policy for all keys
        del found["nonfinite"]
    return {name: [rules] if isinstance(rules, str) else list(rules) for name, rules in found.items()}
