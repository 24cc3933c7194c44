"""Checks of the trainer that a script uses."""

from __future__ import annotations

from collections.abc import Iterator

from mtask_sinks.doctor.classes import bases, name_of, reached, words_of
from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.flags import has_flag
from mtask_sinks.doctor.report_calls import report_calls
from mtask_sinks.doctor.script import Script
from mtask_sinks.doctor.trainer_classes import MIXIN, replacing_methods, trainer_name, uses_multi_task_trainer

# If one of these names is in a ``log``, it passes the row to the callbacks.
_TELL_CALLBACKS = ("on_log", "call_event")


def plain_trainer(script: Script) -> Iterator[Observation]:
    """A model reports metrics, but the script trains it with a Trainer that ignores them."""
    own = [report for report in report_calls(script) if report.kind != "object"]
    if not (own or has_flag(script)) or uses_multi_task_trainer(script):
        return
    if script.uses("mtask_sinks.MetricRegistry"):
        return  # a registry may be active around any training loop
    for call in script.calls:
        trainer = trainer_name(script, script.resolve(call.source, call.node.func))
        if trainer is not None:
            remedy = (
                "Use HfMultiTaskTrainer instead: from mtask_sinks import HfMultiTaskTrainer."
                if trainer == "Trainer"
                else f"Put the mixin in front of it: class MultiTask{trainer}(MultiTaskTrainerMixin, {trainer}): pass."
            )
            what = f"the script reports metrics, but seems to train with {trainer}, which ignores them."
            yield Observation(call.source.where(call.node), what, remedy)


def mixin_order(script: Script) -> Iterator[Observation]:
    """The mixin comes after the Trainer class, so the class statement raises an error."""
    for cls in script.classes.values():
        names = bases(script, cls)
        at = next((i for i, name in enumerate(names) if name == MIXIN), None)
        before = next((found for name in names[:at] if (found := trainer_name(script, name))), None)
        if at is not None and before is not None:
            yield Observation(
                cls.source.where(cls.node),
                f"{cls.node.name} derives from {before} before MultiTaskTrainerMixin, so the Trainer's methods would "
                "win: the class statement raises TypeError.",
                f"Put the mixin first: class {cls.node.name}(MultiTaskTrainerMixin, {before}).",
            )


def log_without_super(script: Script) -> Iterator[Observation]:
    """A trainer overrides `log` and calls neither `super().log` nor the callbacks, so no row reaches the sinks."""
    for log in replacing_methods(script, "log"):
        if words_of(reached(script, log)).isdisjoint(_TELL_CALLBACKS):
            yield Observation(
                log.source.where(log.node),
                f"{name_of(log)} calls neither super().log(logs) nor the callbacks' on_log: no task metric reaches a "
                "row of the log or a sink before the end of the training.",
                "Call super().log(logs) in it.",
            )
