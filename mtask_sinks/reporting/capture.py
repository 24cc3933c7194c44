"""Takes named losses from the outputs of models that report nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import nn

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.errors import MetricKeyError
from mtask_sinks.keys import check_key, join_key, split_key
from mtask_sinks.measurement.weighted import weighted
from mtask_sinks.patterns import Rules
from mtask_sinks.reporting.api import Reporter
from mtask_sinks.reporting.model_outputs import (
    batch_size_of,
    fields_of,
    is_generating,
    is_number,
    is_vector,
    lists_in,
    values_in,
)

logger = get_logger(__name__)

#: What ``capture=`` accepts: one pattern, several patterns, or a mapping pattern → task.
CaptureSpec = str | Sequence[str] | Mapping[str, str]

_BY_PATH = ""

_SEVERAL = (
    "capture: the output %s is left out, because it has several numbers, perhaps one per sample. Return their mean, or "
    "report them in the model."
)

_NO_CALL = (
    "capture=%r took nothing, because nobody has called the model itself, as in model(...). Some trainers call only "
    "parts of the model, or model.forward(...), and a hook does not see that. Report the values instead: in the model, "
    "or in compute_loss."
)
_NO_LOSS = (
    "capture=%r matches no number in the outputs of the model, %s, and these have no loss. Some trainers do not give "
    "the labels to the model, for example with label_smoothing_factor or compute_loss_func. Then the model computes no "
    "losses. Report them where you compute them."
)

#: The ending of a twin's name; see `Twins`.
TWIN = ".per_micro_batch"


class Twins(NamedTuple):
    """Metrics that are captured a second time, as means over micro-batches instead of over samples.

    Attributes:
        keys: the keys of the metrics. The key of a twin also has the ending `TWIN`.
        share: returns which part of an optimizer step the current micro-batch is, such as 0.25.
    """

    keys: frozenset[str]
    share: Callable[[], float]


class Capture:
    """Reports numbers from a model's outputs, chosen by name.

    >>> import torch
    >>> from mtask_sinks import MetricRegistry
    >>> class Detector(nn.Module):                       # stands for any model of transformers
    ...     def forward(self, pixels):
    ...         parts = {"ce": pixels.mean(), "box": pixels.max()}
    ...         return {"loss": parts["ce"] + 5 * parts["box"], "aux_loss": 0.5, "loss_dict": parts}
    >>> model, registry = Detector(), MetricRegistry()
    >>> with Capture("*loss*").watching(model, registry):
    ...     _ = model(torch.tensor([1.0, 3.0]))
    >>> registry.snapshot(step=1).metrics
    {'aux_loss': 0.5, 'loss_dict/ce': 2.0, 'loss_dict/box': 3.0}

    A field's key is its path in the outputs, such as ``contrastive_loss``. A field in a nested dict or output has a key
    such as ``loss_dict/loss_ce``, so backends show the dict as one group. Characters that keys may not have become
    ``_``. A pattern (``*`` matches ``/`` too) matches a path, the last part of a path (``mim`` for ``loss_info/mim``),
    or a dict with everything in it (``loss_dict``). A mapping also gives the task: ``{"loss_dict": "detr"}`` makes the
    keys ``detr/loss_ce``, …

    It takes numbers, and tensors and arrays of the shapes ``()`` and ``(1,)``, from each forward of the whole model,
    except those inside the model's ``generate``. If a field has several numbers in some forward (a loss per sample), it
    is left out from then on, with a warning. The combined ``loss`` is left out, because the Trainer logs it, also if a
    dict has the same tensor as its ``loss``.

    Each forward counts with the size of its batch. So a short last batch counts less. If the loss is the sum of its
    parts, the parts of an evaluation add up to its ``eval_loss``, which is a mean over samples too. The values are
    averaged as the model returns them. For example, Wav2Vec2's losses are sums over the masked positions of a batch, as
    its ``loss`` is, so the log shows the mean of such sums. A model may divide a part by the tokens of the whole step
    (``num_items_in_batch``: CSM's ``backbone_loss``). Under gradient accumulation or on several ranks, an output then
    has only a share of that part, and nothing in the output tells so.

    Raises:
        TypeError, MetricKeyError: the patterns cannot be used.
    """

    def __init__(self, patterns: CaptureSpec) -> None:
        self._tasks = Rules(_tasks_of(patterns), default=None)
        self._patterns = patterns
        self._warn_once = WarnOnce(logger)
        #: Path → task and name; ``None`` for a path to leave out.
        self._targets: dict[str, tuple[str | None, str] | None] = {}
        #: Key → the path that got it.
        self._owners: dict[str, str] = {}
        #: Whether an output with a loss was searched for what is not taken.
        self._has_looked = False
        #: The first output without a loss, as text.
        self._without_loss: str | None = None
        #: Metrics to capture a second time, for a loss budget.
        self.twins: Twins | None = None

    @property
    def is_on(self) -> bool:
        """Whether there is a pattern."""
        return bool(self._patterns)

    @contextmanager
    def watching(self, model: nn.Module | None, reporter: Reporter) -> Iterator[None]:
        """Report what a model returns inside a ``with`` block. Copies of the model report nothing.

        As with `bound`, only the innermost block on a model counts, even if it has no pattern.
        """
        if model is None:
            yield
            return
        outside = [hook for hook in model._forward_hooks.values() if isinstance(hook, _Hook) and hook.is_on]
        for hook in outside:
            hook.is_on = False
        mine = _Hook(self, reporter)
        try:
            with model.register_forward_hook(mine, with_kwargs=True) if self._patterns else nullcontext():
                yield
        finally:
            for hook in outside:
                hook.is_on = True

    def report_output(self, output: Any, batch_size: int | None, reporter: Reporter) -> None:
        """Report the chosen numbers of one output."""
        combined = fields_of(output).get("loss")
        reports: dict[str | None, dict[str, Any]] = {}
        is_empty = True
        for path, value in values_in(output):
            if path == "loss" or (path.endswith("/loss") and value is combined):
                continue
            if is_vector(value) and self._targets.get(path, path) is not None:  # not seen yet, or taken so far
                self._leave_out_vector(path)
            if not is_number(value):
                continue
            entry = value if batch_size is None else weighted(value, batch_size)
            is_first = path not in self._targets
            if is_first:
                self._targets[path] = self._report_first(path, entry, reporter)
            if (target := self._targets[path]) is None:
                continue
            is_empty, (task, name) = False, target
            metrics = reports.setdefault(task, {})
            if not is_first:
                metrics[name] = entry
            if self.twins is not None and join_key(task, name) in self.twins.keys:
                metrics[name + TWIN] = weighted(value, self.twins.share())
        for task, metrics in reports.items():
            if metrics:
                reporter.record(task, metrics)
        if not self._has_looked and (combined is not None or not fields_of(output)):
            self._has_looked = True
            self._warn_of_lists(output)
            if is_empty:
                self._warn_of_nothing_taken(output)
        elif not self._has_looked and self._without_loss is None:
            self._without_loss = _described(output)

    def _report_first(self, path: str, entry: Any, reporter: Reporter) -> tuple[str | None, str] | None:
        """Report the first value of a path; return the task and name for its later values."""
        wanted = self._task_of(path)
        if wanted is None:
            return None
        head, name = split_key(path) if wanted == _BY_PATH else (wanted, path.rpartition("/")[2])
        task = head or None
        key = join_key(task, name)
        owner = self._owners.setdefault(key, path)
        if owner != path:
            message = "capture: the outputs %s and %s would both get the key %s, so the second is left out."
            self._warn_once(f"twice: {key}", message, owner, path, key)
            return None
        try:
            reporter.record(task, {name: entry})
        except MetricKeyError as error:
            self._warn_once(f"refused: {path}", "capture: the output %s is left out: %s", path, error)
            return None
        return task, name

    def _leave_out_vector(self, path: str) -> None:
        """Leave a path out, also where it has one number: in a batch of one sample, that stands for no other batch."""
        self._targets[path] = None
        if self._task_of(path) is not None:
            self._warn_once(f"several: {path}", _SEVERAL, path)

    def why_idle(self) -> tuple[Any, ...] | None:
        """Return a message and its arguments if nothing was taken and no output had a loss; else ``None``."""
        if not self.is_on or self._has_looked or any(self._targets.values()):
            return None
        if self._without_loss is None:
            return _NO_CALL, self._patterns
        return _NO_LOSS, self._patterns, self._without_loss

    def idle_patterns(self, elsewhere: Iterable[str]) -> list[str]:
        """Return the patterns that matched no output so far; none if no pattern did and a warning says that already.

        Args:
            elsewhere: the keys of all ranks. The outputs of another rank may have matched what matched nothing here.
        """
        if self._has_looked and not any(self._targets.values()):
            return []
        others = [key for key in elsewhere if key not in self._owners]
        names = {name for path in ("loss", *self._targets, *others) for name in _names_of(path)}
        return [
            pattern
            for pattern, task in _tasks_of(self._patterns).items()
            if not any(fnmatchcase(name, pattern) for name in names)
            and not (task and any(key.startswith(f"{task}/") for key in others))
        ]

    @property
    def outputs(self) -> list[str]:
        """The paths of all numbers and vectors in the outputs so far, without the combined loss."""
        return list(self._targets)

    def _task_of(self, path: str) -> str | None:
        found = map(self._tasks.for_key, _names_of(path))
        return next((task for task in found if task is not None), None)

    def _warn_of_lists(self, output: Any) -> None:
        message = (
            "capture: the output %s is left out, because it is a %s, whose numbers have no names. Return a dict, or "
            "report them in the model."
        )
        for path, value in lists_in(output):
            if self._task_of(path) is not None:
                self._warn_once(f"list: {path}", message, path, type(value).__name__)

    def _warn_of_nothing_taken(self, output: Any) -> None:
        message = (
            "capture=%r matches no number in the first output with a loss, %s. The combined 'loss' does not count, "
            "because the Trainer logs it. Some models compute the parts of the loss only on request (a setting like "
            "output_router_logits=True), and outputs must have names (return_dict=True)."
        )
        self._warn_once("nothing", message, self._patterns, _described(output))


class _Hook:
    """A forward hook that belongs to one model: in a copy or a pickle of the model it does nothing."""

    __slots__ = ("_capture", "_reporter", "is_on")

    def __init__(self, capture: Capture, reporter: Reporter) -> None:
        self._capture = capture
        self._reporter = reporter
        self.is_on = True

    # The compiler does not trace the hook, so the hook does not break the graph of a compiled model.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self.is_on and not is_generating(module):
            self._capture.report_output(output, batch_size_of(module, args, kwargs), self._reporter)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")  # accepts anything, and loads without mtask_sinks


def _described(output: Any) -> str:
    known = ", ".join(f"{name}=None" if value is None else str(name) for name, value in fields_of(output).items())
    return f"{type(output).__name__}({known})"


def _names_of(path: str) -> list[str]:
    """Return what a pattern may match: a path, its last part, and the dicts around it.

    >>> _names_of("loss_dict/aux/ce")
    ['loss_dict/aux/ce', 'ce', 'loss_dict', 'loss_dict/aux']
    """
    parts = path.split("/")
    return [path, parts[-1], *("/".join(parts[:end]) for end in range(1, len(parts)))]


def _tasks_of(patterns: CaptureSpec) -> dict[str, str | None]:
    given = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(given, Iterable) or not all(isinstance(pattern, str) for pattern in given):
        raise TypeError(
            f"capture={patterns!r}: pass one pattern ('*loss*'), several (['aux_loss', …]), or a mapping of patterns "
            "to tasks ({'loss_dict': 'detr'})."
        )
    if isinstance(given, Mapping):
        return {pattern: check_key(task) for pattern, task in given.items()}
    return dict.fromkeys(given, _BY_PATH)
