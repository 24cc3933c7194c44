"""Checks of the training arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from mtask_sinks._util.suggestion import did_you_mean
from mtask_sinks.directions import known_direction
from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.script import Script
from mtask_sinks.doctor.settings import all_settings, names_in, number_in, reported_to, values_of
from mtask_sinks.doctor.source import IN_FILE, Source
from mtask_sinks.doctor.trainer_classes import uses_multi_task_trainer
from mtask_sinks.keys import split_key
from mtask_sinks.sinks.listing import list_sinks

# What transformers does without greater_is_better.
_DEFAULT = ": it does so for every name that does not end in 'loss'"


def unknown_sink(script: Script) -> Iterator[Observation]:
    """``report_to`` names a sink that does not exist."""
    named = list(reported_to(script))
    known = [each.name for each in list_sinks()] if named else []
    for source, node, name in named:
        if name not in known:
            what = f"report_to names {name!r}, which is no sink, no installed plug-in and no tracker of transformers."
            hint = f"{did_you_mean(name, known)} To list every name: mtask-sinks sinks."
            yield Observation(source.where(node), what, hint.lstrip())


def missing_sink(script: Script) -> Iterator[Observation]:
    """``report_to`` names a sink whose package is not installed here."""
    named = list(reported_to(script))
    missing = {each.name: each for each in list_sinks() if not each.is_installed} if named else {}
    for source, node, name in named:
        if name in missing:
            what = f"report_to names {name!r}, whose package is not installed here."
            yield Observation(source.where(node), what, missing[name].get)


def no_sink(script: Script) -> Iterator[Observation]:
    """``report_to`` names no sink and no sink is passed: metrics go only to the console and the journal."""
    if not uses_multi_task_trainer(script):
        return
    has_sinks = any("sinks" in call.keywords for call in script.calls)
    if has_sinks or any(True for _ in reported_to(script)):
        return
    for source, value in values_of(script, "report_to"):
        if names_in(value) is not None:
            yield Observation(
                source.where(value),
                "report_to names no sink, and no sinks= is passed: metrics go only to the console, log_history and "
                "<output_dir>/metrics.jsonl.",
                "Choose one: report_to='tensorboard'. Or deliver later: mtask-sinks replay DIR --to tensorboard.",
            )


def never_logs(script: Script) -> Iterator[Observation]:
    """The training arguments allow no log event before the training ends."""
    for settings in all_settings(script):
        source, given = settings.source, settings.values
        strategy = given.get("logging_strategy")
        if strategy is not None and (names_in(strategy) == [] or _ends(source, strategy, "IntervalStrategy.NO")):
            what = "logging_strategy is 'no': metrics are logged only once, at the end."
            yield Observation(
                source.where(strategy), what, "Leave it out, or choose 'steps' with logging_steps, or 'epoch'."
            )
        every, end = (number_in(given.get(name)) for name in ("logging_steps", "max_steps"))
        first = given.get("logging_first_step")
        logs_first = settings.has_more or (first is not None and not _is(first, False))
        is_by_steps = (
            strategy is None or names_in(strategy) == ["steps"] or _ends(source, strategy, "IntervalStrategy.STEPS")
        )
        if is_by_steps and every is not None and end is not None and every > end > 0 and not logs_first:
            what = f"logging_steps={every} is more than max_steps={end}: metrics are logged only once, at the end."
            yield Observation(source.where(given["logging_steps"]), what, f"Choose logging_steps of {end} or less.")


def keeps_worst(script: Script) -> Iterator[Observation]:
    """`metric_for_best_model` names a metric that is better when it is small, but the largest value is kept."""
    every = [settings for settings in all_settings(script) if "metric_for_best_model" in settings.values]
    if script.words["greater_is_better"] > sum("greater_is_better" in settings.values for settings in every):
        return  # other code may set it
    for settings in every:
        metric, greater = settings.values["metric_for_best_model"], settings.values.get("greater_is_better")
        name = metric.value if isinstance(metric, ast.Constant) and isinstance(metric.value, str) else ""
        if greater is None or _is(greater, None):
            keeps_largest, who, why = not name.endswith("loss"), "the Trainer", _DEFAULT
        else:
            keeps_largest, who, why = _is(greater, True), "greater_is_better=True", ""
        if keeps_largest and _falls(name) and not settings.has_more:
            yield Observation(
                settings.source.where(metric),
                f"small values of {name!r} are better, but {who} keeps the checkpoint with the largest one{why}.",
                f"{'Add' if greater is None else 'Change it to'} greater_is_better=False.",
            )


def _falls(name: str) -> bool:
    """Return whether the name of a metric shows that small values are better, such as ``eval_books_price/rmse``."""
    task, last = split_key(name)
    words = re.split(r"[^a-z0-9]+", (last if task else name.removeprefix("eval_")).lower())
    return "neg" not in words and known_direction("_".join(words)) == "min"


def _ends(source: Source, node: ast.expr, end: str) -> bool:
    return (source.dotted(node) or "").replace(IN_FILE, ".").endswith(end)


def _is(node: ast.expr, value: bool | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is value
