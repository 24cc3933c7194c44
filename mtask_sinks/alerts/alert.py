"""Defines `Alert`: which metric to watch, and what to do if its rule is true; and `AlertEvent`, what an action gets."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from mtask_sinks.keys import digest

#: What an action may be: ``warn``, ``stop``, ``wandb``, the address of a webhook, a function, or several of them.
Action = str | Callable[["AlertEvent"], object]

#: The rules, each with an example.
RULES = {
    "nonfinite": "nonfinite=True",
    "above": "above=10.0",
    "below": "below=0.5",
    "no_improvement": "no_improvement=2000",
    "diverged": "diverged=2.0",
    "silent_for": "silent_for=200",
    "spread": "spread=0.5",
    "conflict": "conflict=-0.1",
}
#: The rules and options that count optimizer steps.
STEPS = ("no_improvement", "silent_for", "for_steps")
_ACTIONS = "'warn', 'stop', 'wandb', the address of a webhook ('https://…'), a function, or a list of these"


@dataclass(frozen=True)
class Alert:
    """A rule on the reduced values of a training and its evaluations, and what to do when it becomes true.

    >>> Alert("*/loss", nonfinite=True, action="stop").rule
    'nonfinite'
    >>> Alert("nsp/accuracy", below=0.5, for_steps=500).matches("nsp/accuracy", "eval")
    True

    Pass alerts as ``HfMultiTaskTrainer(..., alerts=[Alert(...), ...])``. An alert watches each matching metric in each
    matching phase separately. When its rule becomes true, there is a warning in the log and a note in the journal, and
    the action happens. When the rule is no longer true, the log gets one line; if it becomes true again later, there is
    a new warning. All ranks have the same values, so they all decide the same.

    Args:
        pattern: key or pattern of keys: ``"mlm/loss"``, ``"*/loss"``. An alert watches reported metrics, but not the
            Trainer's own values, such as ``loss``.
        nonfinite: the value is NaN or infinite.
        above, below: the value is above or below this number.
        no_improvement: the metric has not improved for this many steps. `mtask_sinks.analysis.trends` says what an
            improvement is.
        diverged: the mean of the metric's last values is worse than its best by this factor, which is above 1. With
            2.0, a loss has diverged if it is above 2.0 times its best, an accuracy if it is below its best divided by
            2.0. `mtask_sinks.analysis.trends` says how many values count.
        silent_for: no matching metric of the task has had a value for this many steps, or nothing in the training has
            ever matched the pattern.
        spread: the largest and the smallest value among the ranks differ by more than this multiple of the value. The
            registry must keep them: ``MetricRegistry(spread="*/loss")``.
        conflict: the mean of a cosine of task health, over at least its last 10 measurements, is below this number,
            which is from -1 to 0. Use it with ``pattern="health/grad_cosine.*"``.
        for_steps: how many steps the rule must have held before there is an alert.
        phase: phase or pattern of phases: ``"train"``, ``"eval*"``. The default is all phases.
        action: one action or a list of actions. ``"warn"`` only warns, and every other action warns too. ``"stop"``
            ends the training at this step, as `EarlyStoppingCallback` does. ``"wandb"`` sends an alert through W&B,
            which needs the sink ``wandb``. The address of a webhook gets the event as JSON. A function gets the
            `AlertEvent`, on the first rank.

    Raises:
        TypeError, ValueError: no rule or several rules are given, or an argument is not allowed.
    """

    pattern: str
    _: KW_ONLY
    nonfinite: bool = False
    above: float | None = None
    below: float | None = None
    no_improvement: int | None = None
    diverged: float | None = None
    silent_for: int | None = None
    spread: float | None = None
    conflict: float | None = None
    for_steps: int = 0
    phase: str | None = None
    # An address may hold a secret, so ``repr`` leaves it out.
    action: Action | Sequence[Action] = field(default="warn", repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.pattern, str) or not self.pattern:
            raise TypeError(f"Alert({self.pattern!r}): the first argument is a key or a pattern, such as '*/loss'.")
        if not isinstance(self.nonfinite, bool | None):
            raise TypeError(f"Alert({self.pattern!r}, nonfinite={self.nonfinite!r}): pass nonfinite=True.")
        if not (self.phase is None or (isinstance(self.phase, str) and self.phase)):
            raise TypeError(
                f"Alert({self.pattern!r}, phase={self.phase!r}): pass a phase or a pattern of phases, such as 'train' "
                "or 'eval*', or nothing for all phases."
            )
        given = self._given
        if len(given) != 1:
            listed = ", ".join(RULES.values())
            found = f"{' and '.join(given)} are given" if given else "no rule is given"
            raise ValueError(f"Alert({self.pattern!r}): {found}. Pass exactly one rule: {listed}.")
        for name in (*RULES, "for_steps"):
            if name != "nonfinite" and (value := getattr(self, name)) is not None:
                self._check_number(name, value)
        is_several = isinstance(self.action, Collection) and not isinstance(self.action, Mapping)
        for action in self.actions if is_several or callable(self.action) else [self.action]:
            if not callable(action) and action not in ("warn", "stop", "wandb") and not is_address(action):
                shown = action if isinstance(action, str) and "/" not in action else type(action).__name__
                raise ValueError(f"Alert({self.pattern!r}, action={shown!r}): pass {_ACTIONS}.")

    def _check_number(self, name: str, value: Any) -> None:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not abs(value) <= sys.float_info.max:  # NaN, infinity, or an integer beyond all floats
            raise TypeError(
                f"Alert({self.pattern!r}, {name}={value!r}): pass a number, {RULES.get(name, 'for_steps=100')}."
            )
        least = {"diverged": 1.0, "spread": 0.0}.get(name)
        if name in STEPS and (value != int(value) or value < (0 if name == "for_steps" else 1)):
            raise ValueError(f"Alert({self.pattern!r}, {name}={value!r}): pass a number of steps, such as 200.")
        if (least is not None and value <= least) or (name == "conflict" and not -1 <= value <= 0):
            allowed = "a number from -1 to 0" if name == "conflict" else f"a number above {least:g}"
            raise ValueError(f"Alert({self.pattern!r}, {name}={value!r}): pass {allowed}, {RULES[name]}.")

    @property
    def _given(self) -> list[str]:
        every = ((name, getattr(self, name)) for name in RULES)
        return [name for name, value in every if value is not None and value is not False]

    @property
    def rule(self) -> str:
        """The name of its rule."""
        return self._given[0]

    @property
    def threshold(self) -> float:
        """The number of its rule; 0 if it has none."""
        return float(getattr(self, self.rule))

    @property
    def actions(self) -> tuple[Action, ...]:
        """Its actions, each once."""
        given = [self.action] if isinstance(self.action, str) or callable(self.action) else list(self.action)
        return tuple(dict.fromkeys(given))

    @property
    def stops(self) -> bool:
        """Whether it ends the training."""
        return "stop" in self.actions

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses of its webhooks."""
        return tuple(action for action in self.actions if isinstance(action, str) and is_address(action))

    def matches(self, key: str, phase: str) -> bool:
        """Return whether it watches a metric."""
        return fnmatchcase(key, self.pattern) and self.watches_phase(phase)

    def watches_phase(self, phase: str) -> bool:
        """Return whether it watches a phase."""
        return self.phase is None or fnmatchcase(phase, self.phase)


@dataclass(frozen=True)
class AlertEvent:
    """An alert that begins or is over.

    Attributes:
        alert: the alert.
        key: the metric, such as ``mlm/loss``. The rule ``silent_for`` is about a whole task, so the key is then the
            name of the task, followed by the part of the alert's pattern after the slash: ``mlm/*``. If an ungrouped
            metric is silent, the key is this metric. If no key ever matched the pattern, the key is the pattern.
        phase: the phase of the metric.
        step: optimizer steps taken so far.
        since: the step at which the rule became true; for a silent task, the step of its last value.
        value: the value of the metric; ``None`` for a silent task.
        text: the message.
        is_over: whether the rule is no longer true.
        is_partial: whether the end of the training cut the window short. A resume goes on with this window, and judges
            it again.
    """

    alert: Alert
    key: str
    phase: str
    step: int
    since: int
    value: float | None
    text: str
    is_over: bool = False
    is_partial: bool = False

    def data(self) -> dict[str, Any]:
        """Return the event as plain data, without the addresses of webhooks."""
        names = [action_name(action) for action in self.alert.actions]
        return {
            "rule": self.alert.rule,
            "threshold": self.alert.threshold,
            "for_steps": self.alert.for_steps,
            "pattern": self.alert.pattern,
            "key": self.key,
            "phase": self.phase,
            "since": self.since,
            "value": self.value,
            "is_over": self.is_over,
            "actions": [] if self.is_over else names,
            **({"is_partial": True} if self.is_partial else {}),
        }


def is_address(action: object) -> bool:
    """Return whether an action is the address of a webhook."""
    return isinstance(action, str) and action.startswith(("http://", "https://"))


def action_name(action: str | Callable[..., object]) -> str:
    """Return the name of an action, without an address.

    >>> action_name("stop"), action_name("https://hooks.example.com/a/secret"), action_name(print)
    ('stop', 'webhook:353a1b9b', 'print')
    """
    if isinstance(action, str):
        return f"webhook:{digest(action)}" if is_address(action) else action
    return getattr(action, "__qualname__", type(action).__name__)
