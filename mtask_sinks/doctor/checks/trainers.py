"""Checks of the trainer and its arguments."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterator

from mtask_sinks.doctor.checks.models import has_flag, uses_multi_task_trainer
from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.script import Class, Script
from mtask_sinks.doctor.source import IN_FILE, Source
from mtask_sinks.sinks.listing import list_sinks

_TRAINER_PACKAGES = ("transformers", "trl", "sentence_transformers", "setfit")
_MIXIN = "mtask_sinks.MultiTaskTrainerMixin"
_PREDECESSOR = "hf_mtask_trainer"


def plain_trainer(script: Script) -> Iterator[Observation]:
    """A model reports metrics, but the script trains it with a Trainer that ignores them."""
    own = [report for report in script.report_calls if report.kind != "object"]
    if not (own or has_flag(script)) or uses_multi_task_trainer(script):
        return
    if script.uses("mtask_sinks.MetricRegistry"):
        return  # a registry may be active around any training loop
    for source, call in script.calls:
        trainer = _trainer(script, script.resolve(source, call.func))
        if trainer is not None:
            remedy = (
                "Use HfMultiTaskTrainer instead: from mtask_sinks import HfMultiTaskTrainer."
                if trainer == "Trainer"
                else f"Put the mixin in front of it: class MultiTask{trainer}(MultiTaskTrainerMixin, {trainer}): pass."
            )
            what = f"the script reports metrics, but seems to train with {trainer}, which ignores them."
            yield Observation(source.where(call), what, remedy)


def mixin_order(script: Script) -> Iterator[Observation]:
    """The mixin comes after the Trainer class, where it has no effect."""
    for cls in script.classes.values():
        bases = script.bases(cls)
        at = next((i for i, base in enumerate(bases) if base == _MIXIN), None)
        before = next((name for base in bases[:at] if (name := _trainer(script, base))), None)
        if at is not None and before is not None:
            yield Observation(
                cls.source.where(cls.node),
                f"{cls.node.name} derives from {before} before MultiTaskTrainerMixin, so the Trainer's methods win and "
                "no task metric is logged.",
                f"Put the mixin first: class {cls.node.name}(MultiTaskTrainerMixin, {before}).",
            )


def predecessor(script: Script) -> Iterator[Observation]:
    """The script imports hf-mtask-trainer, the predecessor of this library."""
    for source in script.sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom) and not node.level and _is_predecessor(node.module):
                names = ", ".join(alias.name for alias in node.names)
            elif isinstance(node, ast.Import) and any(_is_predecessor(alias.name) for alias in node.names):
                names = "HfMultiTaskTrainer"
            else:
                continue
            what = "the script imports hf_mtask_trainer, which does not run with transformers 5.2 or later."
            yield Observation(source.where(node), what, f"Change the import: from mtask_sinks import {names}.")


def unknown_sink(script: Script) -> Iterator[Observation]:
    """``report_to`` names a sink that does not exist."""
    named = list(_reported_to(script))
    known = [each.name for each in list_sinks()] if named else []
    for source, node, name in named:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            what = f"report_to names {name!r}, which is no sink, no installed plug-in and no tracker of transformers."
            hint = f"Did you mean {close[0]!r}? " if close else ""
            yield Observation(source.where(node), what, f"{hint}mtask-sinks sinks lists every name.")


def missing_sink(script: Script) -> Iterator[Observation]:
    """``report_to`` names a sink whose package is not installed here."""
    named = list(_reported_to(script))
    missing = {each.name: each for each in list_sinks() if not each.is_installed} if named else {}
    for source, node, name in named:
        if name in missing:
            what = f"report_to names {name!r}, whose package is not installed here."
            yield Observation(source.where(node), what, missing[name].get)


def no_sink(script: Script) -> Iterator[Observation]:
    """``report_to`` names no sink and no sink is passed: metrics go only to the console and the journal."""
    if not uses_multi_task_trainer(script):
        return
    has_sinks = any(keyword.arg == "sinks" for _, call in script.calls for keyword in call.keywords)
    if has_sinks or any(True for _ in _reported_to(script)):
        return
    for source, value in _values(script, "report_to"):
        if _literals(value) is not None:
            yield Observation(
                source.where(value),
                "report_to names no sink, and no sinks= is passed: metrics go only to the console, log_history and "
                "<output_dir>/metrics.jsonl.",
                "Name one: report_to='tensorboard'. Or deliver later: mtask-sinks replay DIR --to tensorboard.",
            )


def never_logs(script: Script) -> Iterator[Observation]:
    """The training arguments allow no log event before the training ends."""
    for source, call in script.calls:
        given = {keyword.arg: keyword.value for keyword in call.keywords}
        strategy = given.get("logging_strategy")
        if strategy is not None and (_literals(strategy) == [] or _ends(source, strategy, "IntervalStrategy.NO")):
            what = "logging_strategy is 'no': metrics are logged only once, at the end."
            yield Observation(
                source.where(strategy), what, "Leave it out, or choose 'steps' with logging_steps, or 'epoch'."
            )
        every, end = (_number(given.get(name)) for name in ("logging_steps", "max_steps"))
        if strategy is None and every is not None and end is not None and every > end > 0:
            what = f"logging_steps={every} is more than max_steps={end}: metrics are logged only once, at the end."
            yield Observation(source.where(given["logging_steps"]), what, f"Choose logging_steps of {end} or less.")


def sinks_named(script: Script) -> list[str]:
    """Return the names that the script passes to ``report_to``."""
    return list(dict.fromkeys(name for _, _, name in _reported_to(script)))


def _trainer(script: Script, name: str | None) -> str | None:
    """Return the Trainer class that a name refers to, directly or through a class of the script; else ``None``."""
    if name in script.classes:
        cls: Class = script.classes[name]
        found = (_trainer(script, base) for base in script.ancestors(cls)[1])
        return cls.node.name if any(found) else None
    package, last = (name or "").partition(".")[0], (name or "").rpartition(".")[2]
    return last if package in _TRAINER_PACKAGES and last.endswith("Trainer") else None


def _is_predecessor(module: str | None) -> bool:
    return (module or "").partition(".")[0] == _PREDECESSOR


def _values(script: Script, name: str) -> Iterator[tuple[Source, ast.expr]]:
    """Yield the values that the script passes under a name, as a keyword or in a dict of settings."""
    for source, node in script.expressions:
        if isinstance(node, ast.Call):
            yield from ((source, keyword.value) for keyword in node.keywords if keyword.arg == name)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == name:
                    yield source, value


def _reported_to(script: Script) -> Iterator[tuple[Source, ast.expr, str]]:
    """Yield the names that the script passes to ``report_to``, with their places."""
    for source, value in _values(script, "report_to"):
        for name in _literals(value) or []:
            if name != "all":
                yield source, value, name


def _literals(value: ast.expr) -> list[str] | None:
    """Return the names in a string or a list of strings, except ``none`` and ``no``; ``None`` for other expressions."""
    parts = value.elts if isinstance(value, (ast.List, ast.Tuple)) else [value]
    texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    if len(texts) < len(parts):
        return None
    names = [name.strip() for text in texts for name in text.split(",")]
    return [name for name in names if name not in ("", "none", "no")]


def _ends(source: Source, node: ast.expr, end: str) -> bool:
    return (source.dotted(node) or "").replace(IN_FILE, ".").endswith(end)


def _number(node: ast.expr | None) -> int | None:
    return node.value if isinstance(node, ast.Constant) and type(node.value) is int else None
