"""TaskHealth: what to measure, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from mtask_sinks.keys import split_key

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TaskHealth:
    """Measures whether tasks help or hurt each other: pass it as ``HfMultiTaskTrainer(..., task_health=TaskHealth())``.

    >>> health = TaskHealth(losses="*/loss", shared="bert.encoder.layer.1", every=100)
    >>> [health.is_loss(key) for key in ("mlm/loss", "nsp/loss", "mlm/accuracy")]
    [True, True, False]

    Every ``every`` optimizer steps, in one micro-batch, the trainer computes the gradient of each task's loss with
    respect to some parameters that the tasks share. For each task it reports ``<task>/grad_norm`` (the norm of the
    gradient of the loss as reported), ``<task>/effective_weight`` (the weight of the loss in the loss of the optimizer
    step), ``<task>/loss_share`` and ``<task>/grad_share`` (the task's shares of the weighted losses and of the weighted
    norms). For all tasks together it reports ``health/grad_cosine.<a>.<b>`` and ``health/conflict`` (the share of pairs
    with a cosine below 0). With more than 8 tasks, each cosine compares one task with the total.

    At each log event it adds ``<task>/progress``, the loss relative to that of the first window, and
    ``<task>/inverse_rate``, which is the progress divided by its mean over all tasks (GradNorm's relative inverse
    training rate, Chen et al. 2018; above 1 means slower than the others).

    The gradients of the training do not change. If a setting makes measuring unsafe, nothing is measured: a message
    says why, and the training goes on.

    Args:
        losses: the keys, or patterns of keys, of the losses. Report the tensors from which the loss of the training is
            computed: do not detach them, and do not change them in place afterwards. Losses of one task add up. An
            ungrouped loss is a task of its own.
        shared: the parameters: name of a module or a parameter of the model, or the end of such a name, or a pattern of
            names of parameters (``"*"`` for all parameters that the tasks share), or a module. The default is the
            last numbered block (such as ``bert.encoder.layer.1``) on which the loss of every task depends.
        every: optimizer steps from one measurement to the next. ``every=2`` measures the steps 2, 4, ….

    Raises:
        TypeError, ValueError: an argument cannot be used.
    """

    losses: str | Sequence[str] = "*/loss"
    shared: str | nn.Module | None = None
    every: int = 100

    def __post_init__(self) -> None:
        patterns = self._patterns if isinstance(self.losses, str | Sequence) else ()
        if not patterns or not all(isinstance(pattern, str) and pattern for pattern in patterns):
            raise TypeError(
                f"TaskHealth(losses={self.losses!r}): pass a key or a pattern ('*/loss'), or several (['mlm/loss', …])."
            )
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise ValueError(f"TaskHealth(every={self.every!r}): pass a number of optimizer steps, 1 or more.")
        if self.shared is not None and not isinstance(self.shared, str) and not hasattr(self.shared, "parameters"):
            raise TypeError(
                f"TaskHealth(shared={self.shared!r}): pass the name of a module or a parameter, a pattern of names of "
                "parameters, or a module."
            )

    @property
    def _patterns(self) -> Sequence[str]:
        return [self.losses] if isinstance(self.losses, str) else list(self.losses)

    def is_loss(self, key: str) -> bool:
        """Return whether a key is one of the losses."""
        return any(fnmatchcase(key, pattern) for pattern in self._patterns)


def task_of(key: str) -> str:
    """Return the task of a loss: the first part of its key; an ungrouped loss is a task of its own.

    >>> task_of("mlm/loss"), task_of("vision/box/loss"), task_of("loss1")
    ('mlm', 'vision', 'loss1')
    """
    return split_key(key)[0] or key
