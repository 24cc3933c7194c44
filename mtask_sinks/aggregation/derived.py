"""Metrics that are computed from reduced values, at the log event."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import takewhile
from types import MappingProxyType
from typing import Any

from mtask_sinks._util.calls import takes_one_argument
from mtask_sinks._util.suggestion import did_you_mean
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation.window_times import SECONDS, STEPS
from mtask_sinks.errors import DerivedMetricError
from mtask_sinks.keys import (
    NONFINITE,
    PROGRESS,
    RANK_MAX,
    RANK_MIN,
    check_key,
    is_of_task_health,
    is_trainer_log,
    split_key,
)
from mtask_sinks.patterns import listed

DerivedFunction = Callable[[Mapping[str, float]], Any]


class Derived:
    """Computes derived metrics, which are functions of reduced values.

    >>> import logging
    >>> derived = Derived({"mlm/perplexity": lambda m: math.exp(m["mlm/loss"])}, WarnOnce(logging.getLogger("doctest")))
    >>> derived.compute({"mlm/loss": 0.0}, {"mlm/loss": 4}, known={"mlm/loss"})
    ({'mlm/perplexity': 1.0}, {'mlm/perplexity': 4})

    A derived metric may use the metrics before it, and other values of the row (the Trainer's own values, the window's
    time, the spread of a metric over the ranks). If an input is absent from this window, the derived metric is absent
    too. Its count is the smallest count of the metrics that it uses. ``OverflowError`` gives infinity (the perplexity
    of an untrained model), and a division by zero gives NaN. If a function fails in another way, its metric is absent,
    the log names it once, and the training goes on.

    Args:
        functions: key → function of the reduced values.
        warn_once: logs each failure once.
        has_spread: tells whether a metric has a spread in windows of several ranks.
        has_nonfinite: tells whether a metric has a count of its NaN and Inf in the windows with some.
    """

    def __init__(
        self,
        functions: Mapping[str, DerivedFunction],
        warn_once: WarnOnce,
        has_spread: Callable[[str], bool] = lambda key: False,
        has_nonfinite: Callable[[str], bool] = lambda key: False,
    ) -> None:
        for key, function in functions.items():
            check_key(key)
            if not callable(function) or not takes_one_argument(function):
                raise TypeError(
                    f"derived[{key!r}] is {function!r}: pass a function of one argument (the reduced values, a mapping "
                    "from key to float) that returns a number."
                )
        self._functions = dict(functions)
        self._warn_once = warn_once
        self._has_spread = has_spread
        self._has_nonfinite = has_nonfinite
        #: Names in the rows so far that are not metrics.
        self._row_names: set[str] = set()

    def __contains__(self, key: object) -> bool:
        return key in self._functions

    def __bool__(self) -> bool:
        return bool(self._functions)

    def compute(
        self,
        metrics: Mapping[str, float],
        counts: Mapping[str, int],
        known: Collection[str],
        is_complete: bool = True,
        row: Mapping[str, Any] = MappingProxyType({}),
        has_logs: bool = False,
    ) -> tuple[dict[str, float], dict[str, int]]:
        """Return values and counts of the derived metrics of one window, by key.

        Args:
            metrics: reduced values of the window.
            counts: from how many reports each value was computed.
            known: every key that was ever reported or registered.
            is_complete: whether every key of a task is expected in the window, as in that of the training.
            row: the other values of the row, by name.
            has_logs: whether the row comes from a Trainer. Then a missing value of the Trainer is no mistake.

        Raises:
            DerivedMetricError: a function uses an unknown key of a task that has reported in this window.
        """
        values: dict[str, float] = {}
        value_counts: dict[str, int] = {}
        so_far = dict(metrics)
        others = {name: value for name, value in row.items() if isinstance(value, (int, float))}
        self._row_names |= others.keys()
        for key, function in self._functions.items():
            inputs = _Inputs(so_far, others)
            try:
                values[key] = float(function(inputs))
            except KeyError as error:
                missing = error.args[0] if error.args else None
                if missing not in inputs.absent:
                    self._warn_of_failure(key)
                elif not self._may_come(str(missing), key, known):
                    self._refuse(key, str(missing), metrics, known, is_complete, has_logs)
                continue
            except OverflowError:
                values[key] = math.inf
            except ZeroDivisionError:
                values[key] = math.nan
            except Exception:
                self._warn_of_failure(key)
                continue
            so_far[key] = values[key]
            if inputs.used:  # a value computed from the rest of the row alone has no reports, and no count
                value_counts[key] = min(counts.get(used, value_counts.get(used, 0)) for used in inputs.used)
        return values, value_counts

    def _may_come(self, missing: str, key: str, known: Collection[str]) -> bool:
        """Return whether another window may have a missing input of a derived metric before it is computed."""
        if missing in known or missing in takewhile(key.__ne__, self._functions) or missing in self._row_names:
            return True
        whole, ending = _split(missing)
        if not ending or whole not in known:
            return False
        # One rank alone has no spread, and a window without NaN and Inf has no count of them.
        return self._has_nonfinite(whole) if ending == NONFINITE else self._has_spread(whole)

    def _refuse(
        self,
        key: str,
        missing: str,
        metrics: Mapping[str, float],
        known: Collection[str],
        is_complete: bool,
        has_logs: bool,
    ) -> None:
        if missing in self._functions:
            remedy = "It cannot use its own value." if missing == key else f"Put {missing!r} before it in derived=."
            message = "derived metric %r uses %r, which is not computed before it. %s"
            self._warn_once(f"derived: {key}", message, key, missing, remedy)
            return
        if is_of_task_health(missing):
            message = "derived metric %r uses %r, which no window so far has. Task health %s."
            what = (
                "adds it after the derived metrics, so they cannot use it. Use the loss itself"
                if split_key(missing)[1] in PROGRESS
                else "measures it in some windows only, if it is on: task_health=TaskHealth(every=100)"
            )
            self._warn_once(f"derived: {key}", message, key, missing, what)
            return
        if has_logs and missing.startswith(("eval_", "test_")) and "/" not in missing:
            message = (
                "derived metric %r uses %r, which no row so far has under this name. In an evaluation, use the names "
                "of the Trainer's values without the prefix, such as 'loss'."
            )
            self._warn_once(f"derived: {key}", message, key, missing)
            return
        if missing in (SECONDS, STEPS) or (has_logs and is_trainer_log(missing)):
            return  # such a value is not in every row
        if is_trainer_log(missing):
            message = (
                "derived metric %r refers to %r, which the Trainer logs itself. Without a Trainer, pass the value: "
                "registry.snapshot(step, logs={%r: ...})."
            )
            self._warn_once(f"derived: {key}", message, key, missing, missing)
            return
        # A whole task may report later. If a task has reported, but not this key, the key is probably misspelled.
        task = split_key(missing)[0]
        if is_complete and any(split_key(there)[0] == task for there in metrics):
            raise DerivedMetricError(self._unknown(key, missing, known))
        topic = f"derived: {key}"  # with many keys, the message takes long
        self._warn_once(topic, "%s", "" if topic in self._warn_once.counts else self._unknown(key, missing, known))

    def _unknown(self, key: str, missing: str, known: Collection[str]) -> str:
        whole, ending = _split(missing)
        if whole in known and ending:
            return f"derived metric {key!r} refers to {missing!r}, but the registry does not " + (
                f"count the NaN and Inf of {whole!r}. Set MetricRegistry(nonfinite={{{whole!r}: 'skip'}})."
                if ending == NONFINITE
                else f"keep the values of {whole!r} per rank. Set MetricRegistry(spread={whole!r})."
            )
        everything = sorted({*known, *self._functions})
        hint = did_you_mean(missing, (each for each in everything if each != key))
        return (
            f"derived metric {key!r} refers to {missing!r}, which nothing has reported.{hint} Known keys: "
            f"{listed(everything) or 'none'}. If it is reported only later on, register it first: "
            f"registry.register({missing!r}, 'mean')."
        )

    def _warn_of_failure(self, key: str) -> None:
        message = "derived metric %r failed and is left out; training goes on."
        self._warn_once(f"derived: {key}", message, key, exc_info=True)


def _split(name: str) -> tuple[str, str]:
    """Split the name of a value that a metric gets from the registry; for other names, the second part is empty.

    >>> _split("mlm/loss.rank_max"), _split("mlm/loss")
    (('mlm/loss', '.rank_max'), ('mlm/loss', ''))
    """
    ending = next(filter(name.endswith, (NONFINITE, RANK_MIN, RANK_MAX)), "")
    return name.removesuffix(ending), ending


class _Inputs(Mapping[str, float]):
    """The reduced values that a derived metric gets. It remembers which of them the metric uses.

    The metric can also get the other values of the row by name, but an iteration leaves them out.
    """

    def __init__(self, values: Mapping[str, float], others: Mapping[str, float]) -> None:
        self._values = values
        self._others = others
        self.used: set[str] = set()
        self.absent: list[object] = []  # no set: the argument of a user's `KeyError`, which is looked up, may be a list

    def __getitem__(self, key: str) -> float:
        if key in self._values:
            self.used.add(key)
            return self._values[key]
        if key not in self._others:
            self.absent.append(key)
            raise KeyError(key)
        return self._others[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
