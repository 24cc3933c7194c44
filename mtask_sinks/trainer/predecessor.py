"""Explains how to replace code that was written for hf-mtask-trainer."""

from __future__ import annotations

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.warn_once import WarnOnce

logger = get_logger(__name__)
_warn_once = WarnOnce(logger)

#: What replaces ``trainer.additional_state``.
NO_ADDITIONAL_STATE = (
    "there is no additional_state: it belongs to hf-mtask-trainer. Instead of additional_state.add_metrics(**values) "
    "call report_metrics(task, **values), a function of mtask_sinks, or self.report_metrics in the model. A log() that "
    "calls additional_state.pop_metrics is not needed: the metrics are added to every row."
)

# Packages whose Trainer classes know nothing of ours.
_OTHERS = frozenset({"adapters", "optimum", "sentence_transformers", "setfit", "transformers", "trl"})
_BASES_REPLACED = (
    "%s is a subclass of %s, because its __bases__ were replaced. That changes the class for the whole process, and "
    "its other bases are lost. Write a class of your own instead: class MultiTask%s(MultiTaskTrainerMixin, %s): pass"
)


def warn_of_replaced_bases(cls: type, ours: type) -> None:
    """Warn if another package's Trainer class was made a subclass of one of ours.

    Args:
        cls: the class of a trainer.
        ours: the lowest of our classes.
    """
    classes = cls.__mro__[: cls.__mro__.index(ours)]
    below = [each for each in classes if each.__module__.partition(".")[0] in _OTHERS]
    if below:
        name = below[-1].__name__
        above = next(each for each in cls.__mro__[cls.__mro__.index(below[-1]) + 1 :] if each not in below)
        _warn_once(f"bases: {name}", _BASES_REPLACED, name, above.__name__, name, name)
