"""Says once that a training has no metrics although its user meant to report some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtask_sinks.reporting.missing import class_names_reports, names_reports

if TYPE_CHECKING:
    from transformers import Trainer

NOTHING_REPORTED = (
    "no metric was reported up to step %d, although %s. The usual reasons: the class that calls self.report_metrics "
    "does not set supports_report_metrics = True (then a call under hasattr is skipped); the training does not reach "
    "the call (it is in a branch for evaluation, or for batches with labels); or the code calls another "
    "report_metrics, for example that of hf_mtask_trainer instead of that of mtask_sinks."
)


def why_reports_are_expected(trainer: Trainer, given: Sequence[str]) -> str | None:
    """Return the sign that the user meant to report, as text; ``None`` if there is no sign.

    Args:
        trainer: the trainer. Its model and its methods are searched.
        given: the arguments about metrics that the trainer was given.
    """
    if given:
        return f"the trainer was given {' and '.join(f'{name}=' for name in given)}"
    for module in [] if trainer.model is None else trainer.model.modules():
        if class_names_reports(type(module)):
            return f"the code of {type(module).__qualname__} names report_metrics"
    for name in ("compute_loss", "training_step", "compute_loss_func"):
        if names_reports(getattr(trainer, name, None)):
            return f"the code of {name} names report_metrics"
    return None
