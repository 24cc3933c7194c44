"""Which reports count while a trainer trains or evaluates."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from types import CodeType, FrameType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn
from torch.nn.parallel import DataParallel
from transformers import Trainer
from transformers.trainer_callback import CallbackHandler

from mtask_sinks.aggregation.window import Judge
from mtask_sinks.measurement.recompute import is_in_backward
from mtask_sinks.reporting.calls import frames_above, self_of

_F = TypeVar("_F", bound=Callable[..., Any])

_REMEDY = "To log such values, give them a phase of their own: with trainer.report_phase('probe'): ..."
OUTSIDE_TRAINING = (
    "a call of forward or compute_loss outside of the training steps (in a callback, or in an evaluation of your own) "
    f"made this report, so the report does not count for the training. {_REMEDY}"
)
OUTSIDE_EVALUATION = (
    "a call of forward or compute_loss outside of the evaluation steps (in an evaluator, or in compute_metrics) made "
    f"this report, so the report does not count for the evaluation. {_REMEDY}"
)
IN_OTHER_THREAD = (
    "while a step ran, a module made this report in another thread. The trainer cannot know whether that thread works "
    "for the step, so the report does not count. If the forward started the thread, let the forward report its results."
)

_CALL_EVENT = CallbackHandler.call_event.__code__
# The loops of the Trainer. All their steps are calls of prediction_step.
_LOOPS = frozenset(
    getattr(Trainer, name).__code__ for name in ("evaluation_loop", "prediction_loop") if hasattr(Trainer, name)
)
_EVALUATES = frozenset({"_evaluate", "evaluate", "predict", "evaluation_loop", "prediction_loop"})
# The methods of a trainer that compute the loss of a batch. What they report is about that batch, as in a forward.
_COMPUTE_LOSS = frozenset({"compute_loss", "prediction_step"})
_PARALLEL_APPLY = sys.modules[DataParallel.__module__].parallel_apply.__code__.co_filename
# Stands for the modules that compiled code calls. With inductor, they are not on the stack.
_COMPILED = nn.Module()
# The methods in which a trainer's work begins. The search for the caller of a report stops at those of its own trainer.
_boundaries: set[CodeType] = set()


def boundary(method: _F) -> _F:
    """Mark a method as one in which a trainer's work begins."""
    _boundaries.add(method.__code__)
    return method


class Admission:
    """Decides whether a report counts.

    Inside a training step everything counts: an accuracy under ``no_grad``, a frozen part in eval mode, a second model.
    The same holds for the steps of an evaluation. Outside of the steps, a report counts if neither a module nor a
    trainer's ``compute_loss`` makes it. If one of them does, the report counts only for the training, and only if the
    module, or the model of that trainer, is in training mode and was called neither by a callback nor by an evaluation,
    in the thread of the training or one of `nn.DataParallel`. A report of compiled code counts as one of a module.

    A loop of the user's own may call ``compute_loss`` instead of a step. In an evaluation, everything inside of such a
    call counts. In a training, all that is reported while gradients are computed counts, also in eval mode.

    Inside a step this takes a comparison of thread numbers; outside, it walks the stack (5 us).

    Attributes:
        training_judge, evaluation_judge: judge the reports of the training and of evaluations.
        thread: the thread that trains or evaluates.
    """

    def __init__(self) -> None:
        self.thread = get_ident()
        self.training_judge = Judge(self._why_left_out_of_training)
        self.evaluation_judge = Judge(self._why_left_out_of_evaluation)

    @property
    def is_in_step(self) -> bool:
        """Whether the caller is inside a step."""
        return get_ident() in (self.training_judge.exempt_thread, self.evaluation_judge.exempt_thread)

    @property
    def is_in_evaluation_step(self) -> bool:
        """Whether the caller is inside a step of an evaluation."""
        return get_ident() == self.evaluation_judge.exempt_thread

    @property
    def is_in_other_thread(self) -> bool:
        """Whether the caller is in another thread than the training."""
        return get_ident() != self.thread

    @contextmanager
    def outside_of_steps(self) -> Iterator[None]:
        """In the ``with`` block, this thread is the one that trains or evaluates, and no step has begun."""
        training, evaluation = self.training_judge, self.evaluation_judge
        before = self.thread, training.exempt_thread, evaluation.exempt_thread
        self.thread, training.exempt_thread, evaluation.exempt_thread = get_ident(), None, None
        try:
            yield
        finally:
            self.thread, training.exempt_thread, evaluation.exempt_thread = before

    def _why_left_out_of_training(self) -> str | None:
        """Why a report that is being made does not count for the training; ``None`` if it does."""
        caller = self._find_caller(sys._getframe(1), self.training_judge)
        if caller.module is None:
            return None
        # A loop of the user's own may train a model in eval mode, without dropout, and compute gradients.
        trains = caller.module.training or (caller.is_own_step and torch.is_grad_enabled())
        if caller.is_own_loop and trains:
            return None
        return IN_OTHER_THREAD if caller.is_in_other_thread else OUTSIDE_TRAINING

    def _why_left_out_of_evaluation(self) -> str | None:
        """Why a report that is being made does not count for the evaluation; ``None`` if it does."""
        caller = self._find_caller(sys._getframe(1), self.evaluation_judge)
        if caller.module is None or caller.is_own_step:
            return None
        return IN_OTHER_THREAD if caller.is_in_other_thread else OUTSIDE_EVALUATION

    def _find_caller(self, frame: FrameType, judge: Judge) -> _Caller:
        """Find out who makes a report outside of a step of this thread."""
        caller = self._caller_of(frame)
        if get_ident() == self.thread:
            return caller
        if is_in_backward():  # autograd's threads work for the step
            return _Caller(None)
        if not any(each.f_code.co_filename == _PARALLEL_APPLY for each in frames_above(frame)):
            return _Caller(caller.module, is_own_loop=False, is_in_other_thread=judge.exempt_thread is not None)
        if judge.exempt_thread is not None:  # a step runs, and nn.DataParallel's threads work for it
            return _Caller(None)
        around = self._caller_of(sys._current_frames()[self.thread])
        return around._replace(module=around.module or caller.module)

    def _caller_of(self, frame: FrameType) -> _Caller:
        module: nn.Module | None = None
        is_own_loop, is_own_step = True, False
        for each in frames_above(frame):
            code, owner = each.f_code, self_of(each)
            if code in _boundaries:
                if owner._session.admission is self:
                    break
                is_own_loop = False  # another trainer, which a callback of this one runs
            elif code.co_name == "_report" and each.f_globals["__name__"] == "mtask_sinks.compiled.operator":
                module = _COMPILED
            elif isinstance(owner, nn.Module):
                module = owner
            elif isinstance(owner, Trainer) and code.co_name in _COMPUTE_LOSS:
                module, is_own_step = owner.model if module in (None, _COMPILED) else module, True
            elif code is _CALL_EVENT or (code.co_name in _EVALUATES and isinstance(owner, Trainer)):
                is_own_loop, is_own_step = False, is_own_step and code is not _CALL_EVENT and code not in _LOOPS
        return _Caller(module, is_own_loop, is_own_step=is_own_step)


class _Caller(NamedTuple):
    """Who makes a report.

    Attributes:
        module: the outermost module on the stack, or the model of a trainer whose ``compute_loss`` makes the report, or
            `_COMPILED`; ``None`` if none of them makes it.
        is_own_loop: ``True`` if a loop or a rollout of the user called the module; ``False`` if a callback, an
            evaluation or another trainer did.
        is_in_other_thread: whether the report comes from another thread while a step runs.
        is_own_step: whether ``compute_loss`` makes the report, and neither a callback nor the Trainer's loop called it.
    """

    module: nn.Module | None
    is_own_loop: bool = True
    is_in_other_thread: bool = False
    is_own_step: bool = False
