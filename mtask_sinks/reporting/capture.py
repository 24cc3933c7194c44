"""Named losses of models that report nothing, taken from what their forward returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
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
from mtask_sinks.reporting.model_outputs import batch_size_of, fields_of, is_generating, numbers_in

logger = get_logger(__name__)

#: What ``capture=`` takes: a pattern, several, or pattern → task.
CaptureSpec = str | Sequence[str] | Mapping[str, str]

_BY_PATH = ""

#: What the name of a twin ends in.
TWIN = ".per_micro_batch"


class Twins(NamedTuple):
    """Metrics that are captured a second time, as means over micro-batches instead of over samples.

    Attributes:
        keys: of the metrics; those of their twins end in `TWIN`.
        share: returns what part of an optimizer step the running micro-batch is.
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
    >>> dict(registry.snapshot(step=1).metrics)
    {'aux_loss': 0.5, 'loss_dict/ce': 2.0, 'loss_dict/box': 3.0}

    A field's key is its path in the outputs: ``contrastive_loss``, and for one in a dict or in another output
    ``loss_dict/loss_ce``, so that backends show such a dict as one group. Characters that no key may have become ``_``.
    A pattern (``*`` matches ``/`` too) names a path, its last part (``mim`` for ``loss_info/mim``), or a dict with all
    that is in it (``loss_dict``). A mapping names the task as well: with ``{"loss_dict": "detr"}`` the keys are
    ``detr/loss_ce``, …

    Taken are numbers and tensors of one element, of the forwards of the whole model. Never taken is the combined
    ``loss``, which the Trainer logs already, nor the same tensor once more as the ``loss`` in a dict. The forwards of
    the model's ``generate`` do not count.

    Each forward counts with the size of its batch. So a short last batch counts for what it is, and an evaluation's
    parts add up to its ``eval_loss``, which is a mean over samples as well. What the model returns is averaged as it
    is: Wav2Vec2's losses are sums over the masked positions of a batch, as its ``loss`` is, and so the mean of such
    sums is logged. A part that the model divides by the tokens of the whole step (``num_items_in_batch``: CSM's
    ``backbone_loss``) is only a share of it under gradient accumulation, which an output does not tell.

    Raises:
        TypeError, MetricKeyError: the patterns cannot be used.
    """

    def __init__(self, patterns: CaptureSpec) -> None:
        self._tasks = Rules(_tasks_of(patterns), default=None)
        self._patterns = patterns
        self._warn_once = WarnOnce(logger)
        #: Path → task and name, ``None`` if it is not to be taken; and the path that has a key.
        self._targets: dict[str, tuple[str | None, str] | None] = {}
        self._owners: dict[str, str] = {}
        self._has_looked = False
        #: What a loss budget needs besides.
        self.twins: Twins | None = None

    @property
    def is_on(self) -> bool:
        """Whether there is a pattern."""
        return bool(self._patterns)

    @contextmanager
    def watching(self, model: nn.Module | None, reporter: Reporter) -> Iterator[None]:
        """Report what a model returns inside a ``with`` block; this instance only, not its copies.

        As with `bound`, only the innermost block on a model counts, also if it takes nothing.
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
        for path, value in numbers_in(output):
            if path == "loss" or (path.endswith("/loss") and value is combined):
                continue
            entry = value if batch_size is None else weighted(value, batch_size)
            if path not in self._targets:
                self._targets[path] = self._report_first(path, entry, reporter)
            elif (target := self._targets[path]) is not None:
                task, name = target
                reports.setdefault(task, {})[name] = entry
            target = self._targets[path]
            if self.twins is not None and target is not None and join_key(*target) in self.twins.keys:
                task, name = target
                reports.setdefault(task, {})[name + TWIN] = weighted(value, self.twins.share())
            is_empty = is_empty and self._targets[path] is None
        for task, metrics in reports.items():
            reporter.record(task, metrics)
        if not self._has_looked and (combined is not None or not fields_of(output)):
            self._has_looked = True
            if is_empty:
                self._warn_of_nothing_taken(output)

    def _report_first(self, path: str, entry: Any, reporter: Reporter) -> tuple[str | None, str] | None:
        """Report the value of a new path, and return the task and name of its values from now on."""
        wanted = self._task_of(path)
        if wanted is None:
            return None
        head, name = split_key(path) if wanted == _BY_PATH else (wanted, path.rpartition("/")[2])
        task = head or None
        key = f"{task}/{name}" if task else name
        owner = self._owners.setdefault(key, path)
        if owner != path:
            message = "capture: %s and %s of the outputs are both called %s; the second is left out."
            self._warn_once(f"twice: {key}", message, owner, path, key)
            return None
        try:
            reporter.record(task, {name: entry})
        except MetricKeyError as error:
            self._warn_once(f"refused: {path}", "capture: %s of the outputs is left out: %s", path, error)
            return None
        return task, name

    def _task_of(self, path: str) -> str | None:
        parts = path.split("/")
        groups = ["/".join(parts[:end]) for end in range(1, len(parts))]
        found = (self._tasks.for_key(candidate) for candidate in (path, parts[-1], *groups))
        return next((task for task in found if task is not None), None)

    def _warn_of_nothing_taken(self, output: Any) -> None:
        message = (
            "capture=%r found nothing to take in the first output with a loss, %s: no number there has such a name. "
            "The combined 'loss' is the Trainer's own; some models compute the parts only on request (a setting like "
            "output_router_logits=True), and outputs must have names (return_dict=True)."
        )
        known = ", ".join(f"{name}=None" if value is None else name for name, value in fields_of(output).items())
        self._warn_once("nothing", message, self._patterns, f"{type(output).__name__}({known})")


class _Hook:
    """A forward hook that belongs to one model: in a copy or a pickle of the model it does nothing."""

    __slots__ = ("_capture", "_reporter", "is_on")

    def __init__(self, capture: Capture, reporter: Reporter) -> None:
        self._capture = capture
        self._reporter = reporter
        self.is_on = True

    # Disabled, it runs beside the graph of a compiled model, which stays whole.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self.is_on and not is_generating(module):
            self._capture.report_output(output, batch_size_of(module, args, kwargs), self._reporter)

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (nullcontext(), "__exit__")  # takes anything, needs no mtask_sinks to load


def _tasks_of(patterns: CaptureSpec) -> dict[str, str | None]:
    given = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(given, Iterable) or not all(isinstance(pattern, str) for pattern in given):
        raise TypeError(f"capture={patterns!r}: pass a pattern, '*loss*', several, ['aux_loss', …], or pattern → task.")
    if isinstance(given, Mapping):
        return {pattern: check_key(task) for pattern, task in given.items()}
    return dict.fromkeys(given, _BY_PATH)
