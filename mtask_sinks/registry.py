"""MetricRegistry: gathers reported values in one window per phase, and reduces each window at its log event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, SupportsIndex

from torch import Tensor
from torch.compiler import is_dynamo_compiling

from mtask_sinks._util.built_anew import BuiltAnew
from mtask_sinks._util.log import get_logger
from mtask_sinks._util.only_inlined import only_inlined
from mtask_sinks._util.renamed import keep_old_names
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.aggregation.accumulator import NonFinite
from mtask_sinks.aggregation.buffers import Overflow
from mtask_sinks.aggregation.derived import Derived, DerivedFunction
from mtask_sinks.aggregation.key_table import KeyTable
from mtask_sinks.aggregation.log_event import as_step, log_event
from mtask_sinks.aggregation.phases import Phases
from mtask_sinks.aggregation.summarize import Summarizer, nonfinite_policies
from mtask_sinks.aggregation.window import Judge, Window
from mtask_sinks.aggregation.window_times import TIMES
from mtask_sinks.compiled.handles import new_handle
from mtask_sinks.directions import Direction, Directions
from mtask_sinks.distributed.collectives import Ranks, is_group
from mtask_sinks.distributed.key_agreement import KeyAgreement
from mtask_sinks.distributed.merge import RankMerger
from mtask_sinks.intake import Intake
from mtask_sinks.keys import MAX_KEYS, check_phase
from mtask_sinks.measurement.device_queue import Part
from mtask_sinks.measurement.micro_batch_clock import MicroBatchClock
from mtask_sinks.measurement.recompute import is_recompute
from mtask_sinks.patterns import Rules, check_mapping, patterns_in
from mtask_sinks.reducers import Reducer, ReducerSpec, as_reducer
from mtask_sinks.reducers.lookup import without_own_names
from mtask_sinks.reduction import Reduction
from mtask_sinks.reporting.api import activated, refuse_positional
from mtask_sinks.reporting.forked import lost_in_children
from mtask_sinks.snapshot import Snapshot

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

logger = get_logger(__name__)

# Old name of a method → new name. Subclasses that use the old name still work.
_NEW_NAMES = {"take": "record"}

_GROUP_IS_LOST = (
    "a MetricRegistry was unpickled without its process_group, which exists only in the process that made it: the copy "
    "reduces over all ranks of the job. To reduce over a group, build the registry in this process: "
    "MetricRegistry(process_group=...)."
)


class MetricRegistry(BuiltAnew):
    """Gathers reported values, with a reduction policy per key.

    >>> registry = MetricRegistry(reducers={"*/n_tokens": "sum"})
    >>> registry.report_metrics("mlm", loss=4.0, n_tokens=100)
    >>> registry.report_metrics("mlm", loss=2.0, n_tokens=50)
    >>> registry.snapshot(step=1).metrics
    {'mlm/loss': 3.0, 'mlm/n_tokens': 150.0}

    Args:
        reducers: exact key or pattern → reducer: a name (``mean sum total count min max first last std median p95 …``),
            a `Reducer`, or a function of the window's values. An exact key beats a pattern, and the first pattern that
            matches wins. If nothing matches, the reducer is `mean`.
        derived: key → function of the reduced values: ``{"mlm/perplexity": lambda m: math.exp(m["mlm/loss"])}``. It can
            also use the Trainer's values in the row, such as ``m["learning_rate"]``. In an evaluation their names have
            no prefix: ``m["loss"]`` is the ``eval_loss``. ``m["window.seconds"]`` is the time since the last row of the
            training, without the time of evaluations. In an evaluation it is the time that the evaluation took.
            ``m["window.steps"]`` counts the optimizer steps since the last row (in an evaluation: the batches of a
            rank). Both are means over the ranks.
        nonfinite: how to treat NaN and Inf: ``"propagate"`` (default: the result shows them), ``"skip"`` (leave them
            out, and report their number as ``<key>.nonfinite``) or ``"raise"`` (`NonFiniteError` at the log event).
            One policy for all keys, or a mapping: exact key or pattern → policy.
        max_keys: the largest number of different keys; by default 1000. The registry drops reports of further keys and
            counts them. One warning names the line of your code that reported the first of them.
        spread: exact keys and patterns. With several ranks, each rank has its own value of such a key. The snapshot
            also has the smallest and the largest of them, as ``<key>.rank_min`` and ``<key>.rank_max``. A derived
            metric can use both.
        process_group: the ranks to reduce over; by default all ranks of the job. If several ranks get the same data
            (tensor or pipeline parallel), pass a group in which each rank has different data. `snapshot` combines the
            values of the group, so every rank of the group must call it, even a rank without reports. `snapshot` makes
            one collective operation. It makes a second one for ``spread`` and for reducers that need a minimum, a
            maximum or all values. If some rank has values for a reducer that needs all values, a gather follows. If
            some rank has new keys, the ranks also exchange the names of these keys, and repeat the first operation.
        directions: exact key or pattern → which value is best: ``"min"`` (the smallest), ``"max"`` (the largest) or
            ``None`` (neither): ``{"*/bias": "min"}``. Names such as loss, rmse and accuracy need no rule: the library
            knows them. ``mtask-sinks diff``, ``report`` and ``watch`` use the directions, and so do alerts, the charts
            of relative values in TensorBoard, and the check of ``metric_for_best_model``.
        per_epoch: exact keys and patterns, such as ``["*/loss"]``. Each such key also gets a value per epoch. A trainer
            logs it at the end of the epoch as ``epoch_<key>``, in a separate row.

    A copy (``copy``, ``deepcopy``, pickle, cloudpickle) has the same rules and registered keys, and empty windows. A
    copy of a subclass also has the attributes that the subclass added. Plain pickle cannot copy lambdas: use functions
    that have a name in a module. A process group exists only in its process, so an unpickled registry has none, and a
    warning says so.

    Raises:
        MetricKeyError, ReducerError, TypeError, ValueError: a rule cannot be used.
    """

    def __init__(
        self,
        reducers: Mapping[str, ReducerSpec] | None = None,
        derived: Mapping[str, DerivedFunction] | None = None,
        *,
        nonfinite: NonFinite | Mapping[str, NonFinite] = "propagate",
        max_keys: int = MAX_KEYS,
        spread: str | Sequence[str] = (),
        process_group: ProcessGroup | Ranks | None = None,
        directions: Mapping[str, Direction | None] | None = None,
        per_epoch: str | Sequence[str] = (),
    ) -> None:
        # Copies are built from the arguments. This line is the first, so `locals` holds nothing but them and `self`.
        given = {name: dict(each) if isinstance(each, Mapping) else each for name, each in locals().items()}
        self._given = {name: each for name, each in given.items() if name not in ("self", "process_group")}
        self._warn_once = WarnOnce(logger)
        reducers, derived = reducers or {}, derived or {}
        check_mapping("reducers", reducers, "{'*/n_tokens': 'sum'}")
        check_mapping("derived", derived, "{'mlm/perplexity': lambda m: math.exp(m['mlm/loss'])}")
        by_key = Rules({key: as_reducer(spec) for key, spec in reducers.items()}, as_reducer("mean"))
        policies = nonfinite_policies(nonfinite)
        Directions(directions or {})  # raises on a wrong rule
        self._directions = dict(directions or {})
        spreads, is_per_epoch = _patterns("spread", spread), _patterns("per_epoch", per_epoch)
        if not isinstance(max_keys, SupportsIndex) or max_keys < 1:
            raise ValueError(f"max_keys={max_keys!r}: pass the largest number of different keys, 1 or more.")
        if not is_group(process_group):
            raise TypeError(
                f"process_group={process_group!r}: pass a process group, such as torch.distributed.new_group([0, 1]) "
                "or mesh['dp'].get_group()."
            )

        def wants_spread(key: str) -> bool:
            return key not in TIMES and spreads.for_key(key)

        functions = Derived(derived, self._warn_once, wants_spread, lambda key: policies.for_key(key) == "skip")
        overflow = Overflow(max_keys, self._warn_once)
        if functions:  # they may use the seconds and the steps of a window, which are keys too
            max_keys += len(TIMES)
        self._key_table = KeyTable(by_key, functions, max_keys)
        if functions:
            self._key_table.add_times()
        summarizer = Summarizer(policies, functions, self._warn_once)
        rules = {"reducers": reducers, "nonfinite": nonfinite, "spread": spread, "per_epoch": per_epoch}
        agreement = KeyAgreement(rules, by_key.for_key, self._key_table.registered, max_keys)
        self._clock = MicroBatchClock()
        self._merger = RankMerger(process_group, agreement, wants_spread, self._clock)
        self._phases = Phases()
        self._intake = Intake(
            self._phases, self._key_table, policies, self._clock, overflow, self._merger.ranks, self._warn_once
        )
        self._reduction = Reduction(
            self._intake,
            self._key_table,
            self._merger,
            summarizer,
            self._clock,
            wants_spread,
            is_per_epoch,
            derived,
            self._warn_once,
        )
        #: The number by which compiled code finds this registry.
        self.handle = new_handle(self)

    @property
    def arguments(self) -> Mapping[str, Any]:
        """The arguments that this registry was made with, without the process group."""
        return self._given

    def _settings(self) -> dict[str, Any]:
        reducers = {key: without_own_names(spec) for key, spec in (self._given["reducers"] or {}).items()}
        return {**self._given, "reducers": reducers}

    def __getstate__(self) -> Any:
        table = self._key_table
        return super().__getstate__(), table.registered, table.is_reserved, self._merger.group

    def __setstate__(self, state: Any) -> None:
        settings, registered, is_reserved, group = state
        super().__setstate__(settings)
        for key, reducer in registered.items():
            if key not in self._key_table.reducers:  # the rules have registered their exact keys already
                self._key_table.register(key, reducer)
        self.reserve(is_reserved)
        self._merger.group = group
        if group.is_lost:
            logger.warning(_GROUP_IS_LOST)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keep_old_names(cls, _NEW_NAMES)

    def register(self, key: str, reducer: ReducerSpec) -> None:
        """Give a key its reducer, ahead of its first report.

        Raises:
            ConflictError: the key has another reducer already.
            MetricKeyError: the key is not valid, or it belongs to a derived metric or to the Trainer's logs.
        """
        self._key_table.register(key, as_reducer(reducer))

    def reducer_for(self, key: str) -> Reducer:
        """Return the reducer that a key has, or will have once it is reported.

        >>> MetricRegistry({"*/n": "sum"}).reducer_for("mlm/n")
        Sum()
        """
        return self._key_table.reducer_for(key)

    @only_inlined
    def report_metrics(self, task: str | None = None, /, *values: Any, **metrics: Any) -> None:
        """Report values of this micro-batch; cheap enough for every forward.

        >>> registry = MetricRegistry()
        >>> registry.report_metrics(lr_scale=0.5)                 # ungrouped
        >>> registry.report_metrics("nsp", loss=0.7, acc=0.5)     # nsp/loss, nsp/acc

        Args:
            task: name that groups the metrics; none for ungrouped ones.
            **metrics: name → value: a number, a NumPy scalar or array, a torch tensor of any shape, dtype and device,
                ``weighted(value, weight)``, or ``None`` (not computed here: does not count). Each element of a tensor
                counts. The registry keeps the numbers, not the tensor or its autograd graph.

        Raises:
            MetricKeyError: at the first report of a key that is not valid, or that belongs to a derived metric or to
                the Trainer's logs.
            MetricValueError: at the first report of a key, if its value has a type that is not accepted. The registry
                drops such a value of a later report and counts how many it drops, so that no bad value stops a training
                that went well.
        """
        if values:
            refuse_positional(task, values)
        self.record(task, metrics)

    def record(self, task: str | None, metrics: Mapping[str, Any]) -> None:
        """As `report_metrics`, with the values as a mapping.

        Every report of eager code comes through this method, also if it is made by `self.report_metrics` of a module or
        by the function `report_metrics`. To see all of these reports, override this method in a subclass. Compiled code
        calls `store` and `store_packed` instead.
        """
        if is_dynamo_compiling():
            from mtask_sinks.compiled.packing import report  # needs the compiler, which takes seconds to import

            report(self, task, metrics)
        elif not is_recompute():
            self._intake.store(task, metrics)

    def store(self, task: str | None, metrics: Mapping[str, Any]) -> None:
        """As `record`, without a check whether gradient checkpointing repeats the forward. For compiled code."""
        self._intake.store(task, metrics)

    def store_packed(self, task: str | None, parts: Mapping[str, Part], packed: Tensor) -> None:
        """As `store`, for values that compiled code has packed into one vector. Does not wait for the accelerator.

        Args:
            task: the task of the values.
            parts: name → the part of the vector that holds the value of this name, in the order of the vector.
            packed: the vector. The registry copies it, so the caller may overwrite it after this call.
        """
        self._intake.store_packed(task, parts, packed)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count reports inside the ``with`` block for this phase; they never mix with those outside.

        If the thread of the training enters the block, this affects all threads that are in no phase, such as those of
        nn.DataParallel. If another thread enters it, this affects that thread alone.

        >>> registry = MetricRegistry()
        >>> registry.report_metrics(acc=1.0)
        >>> with registry.phase("eval"):
        ...     registry.report_metrics(acc=0.0)
        >>> registry.snapshot(step=1, phase="eval").metrics["acc"], registry.snapshot(step=1).metrics["acc"]
        (0.0, 1.0)
        """
        check_phase(name)
        is_timed = self._phases.is_training_thread
        times = self._reduction.times.inside(name, self._clock.counted) if is_timed else nullcontext()
        with self._phases.entered(self._phases.window(name)), times:
            yield

    @contextmanager
    def own_ticks(self) -> Iterator[None]:
        """The micro-batches inside the ``with`` block do not count for ``window.steps`` of the windows around it."""
        before = self._clock.counted
        try:
            yield
        finally:
            self._clock.counted = before

    @contextmanager
    def ignoring_reports(self) -> Iterator[None]:
        """Reports inside the ``with`` block do not count."""
        with self._phases.entered(Window(is_ignored=True)):
            yield

    @property
    def ignores_reports(self) -> bool:
        """Whether a report of this thread would not count, because of `ignoring_reports`."""
        return self._phases.window_of_this_thread().is_ignored

    @contextmanager
    def activate(self) -> Iterator[None]:
        """In the ``with`` block, the function `report_metrics` reports to this registry.

        Until the end of the block, the registry treats the thread that entered it as the thread of the training.
        """
        with activated(self), self._phases.run_by_this_thread(), lost_in_children(self):
            yield

    def leave_out(self, why_left_out: Judge | Callable[[], str | None] | None, phase: str | None = None) -> None:
        """From now on, let a function decide which reports count.

        Args:
            why_left_out: called at each report; returns why it does not count, or ``None`` if it does. With
                ``None`` instead of a function, all reports count.
            phase: the phase of the reports; by default every phase so far.
        """
        judge = why_left_out if isinstance(why_left_out, Judge | None) else Judge(why_left_out)
        for window in self._phases.windows.values() if phase is None else [self._phases.window(phase)]:
            window.judge = judge

    def snapshot(
        self, step: int, phase: str = "train", *, epoch: float | None = None, logs: Mapping[str, Any] | None = None
    ) -> Snapshot:
        """Reduce the window of a phase and begin a new one.

        Args:
            step: optimizer steps taken so far.
            phase: ``train``, or the name that was passed to the method `phase`. If nothing was ever reported in this
                phase, the snapshot is empty, and a warning says so.
            epoch: epochs done, if there are epochs.
            logs: what else this event logs; the snapshot keeps it unchanged.

        Raises:
            TypeError: an argument has a wrong type.
            NonFiniteError: NaN or Inf was reported for a key whose policy is ``raise``.
            DerivedMetricError: a derived metric refers to a key that was never reported, although the task of that key
                has reported other values in this window (only for ``train``).
            ConflictError, LogEventError: the ranks have different rules, or reduce different windows at the same time.
        """
        step, epoch, logs = log_event(step, epoch, logs)
        is_known = self._phases.has(check_phase(phase))
        snapshot = self._reduction.snapshot(step, phase, epoch, logs)
        if not (is_known or snapshot.metrics or phase in self.phases_of_training):
            known = ", ".join(each for each in self._phases.windows if each != phase)
            message = (
                "snapshot(phase=%r) is empty: nothing was ever reported in this phase. The phases so far are: %s. To "
                "report in a phase, use: with registry.phase(%r): ..."
            )
            self._warn_once(f"unknown phase: {phase}", message, phase, known, phase)
        return snapshot

    def overall(self, step: int, *, epoch: float | None = None, logs: Mapping[str, Any] | None = None) -> Snapshot:
        """The values over the whole training, up to its last log event; the phase is ``overall``.

        The open windows stay open.

        >>> registry = MetricRegistry()
        >>> for loss in (3.0, 2.0, 1.0):
        ...     registry.report_metrics("mlm", loss=loss)
        ...     _ = registry.snapshot(step=1)
        >>> registry.overall(step=3).metrics["mlm/loss"]
        2.0

        Every report counts once: the mean is that of all reports, not that of the log events. Some reducers need
        all values at once (medians, functions). For them, a training keeps up to 8,192 values per key; if there are
        more, it keeps a uniform sample, and a warning says so. A checkpoint saves the state.

        The arguments are those of `snapshot`. A rank can call it alone.
        """
        return self._reduction.overall(*log_event(step, epoch, logs))

    def end_epoch(self, step: int, *, epoch: float | None = None) -> Snapshot:
        """The values of the keys in ``per_epoch`` over an epoch that ends now; the phase is ``epoch``.

        >>> registry = MetricRegistry(per_epoch="*/loss")
        >>> registry.report_metrics("mlm", loss=3.0)
        >>> first = registry.snapshot(step=1)
        >>> registry.report_metrics("mlm", loss=1.0)
        >>> registry.end_epoch(step=2).metrics["mlm/loss"]
        2.0
        >>> registry.report_metrics("mlm", loss=7.0)
        >>> registry.snapshot(step=3).metrics["mlm/loss"]              # the window of the training went on
        4.0

        Every rank must call it, as for `snapshot`. The arguments are those of `snapshot`, too.
        """
        step, epoch, _ = log_event(step, epoch, None)
        return self._reduction.end_epoch(step, epoch)

    @property
    def has_values_per_epoch(self) -> bool:
        """Whether ``per_epoch`` names some keys."""
        return self._reduction.has_values_per_epoch

    def tick(self) -> None:
        """Mark the end of a micro-batch; a trainer does it.

        `first` and `last` over several ranks need it, and so does ``window.steps`` of an evaluation.
        """
        self._clock.tick()

    def state_dict(self, phase: str = "train") -> dict[str, Any]:
        """The open window of a phase, merged over all ranks, as plain data for a checkpoint; it stays open.

        For ``train`` it also has the values over the whole training, and those over the current epoch.

        >>> registry = MetricRegistry()
        >>> registry.report_metrics("mlm", loss=4.0)
        >>> resumed = MetricRegistry()
        >>> resumed.load_state_dict(registry.state_dict())
        >>> resumed.report_metrics("mlm", loss=2.0)
        >>> resumed.snapshot(step=1).metrics["mlm/loss"]
        3.0

        Every rank must call it, as for `snapshot`. The result is valid JSON, and empty if nothing was reported.
        """
        return self._reduction.state_dict(check_phase(phase))

    def load_state_dict(self, state: Mapping[str, Any], phase: str = "train", *, step: int = 0) -> None:
        """Replace the open window by one that `state_dict` saved. Every rank must call it.

        Args:
            state: the saved state; an empty one clears the window and the values over the whole training.
            phase: as for `snapshot`.
            step: optimizer steps taken so far. The window begins here, if the state does not say where it began.

        Raises:
            TypeError: an argument has a wrong type.
            ValueError: `state_dict` did not make the state, such as a whole checkpoint that contains it.
        """
        check_mapping("state", state, "the result of state_dict()")
        if state and "keys" not in state:
            raise ValueError(
                f"load_state_dict got a dict with {', '.join(map(repr, state))}, which state_dict() did not make. If "
                "it is a whole checkpoint, pass the part that state_dict() returned. To clear the window, pass {}."
            )
        self._reduction.load_state_dict(state, check_phase(phase), as_step(step))

    def discard(self, phase: str = "train", *, step: int | None = None) -> bool:
        """Forget what was reported in the window of a phase; returns whether there was something.

        Args:
            phase: as for `snapshot`.
            step: optimizer steps taken so far. Without it, ``window.steps`` counts from the last snapshot of the
                training.
        """
        return self._reduction.discard(check_phase(phase), None if step is None else as_step(step))

    def has_reports(self, phase: str, key: str | None = None) -> bool:
        """Return whether this rank has reported something, or a value of one key, in the open window of a phase."""
        return any(state is not None and key in (None, name) for name, state in self._intake.peek(phase).items())

    @contextmanager
    def set_aside(self, phase: str) -> Iterator[None]:
        """Give a phase an empty window inside a ``with`` block. After it, the window from before goes on."""
        with self._phases.set_aside(phase), self._reduction.set_aside(phase):
            yield

    def reduce_with_training(self, phase: str) -> None:
        """Add a phase to `phases_of_training`, which a trainer reduces at each log event of the training."""
        self._merger.agreement.add_phase(phase)

    @property
    def is_training_phase(self) -> bool:
        """Whether a report of this thread would go to the window of the training."""
        return self._phases.window_of_this_thread() is self._phases.window("train")

    @property
    def phases_of_training(self) -> Sequence[str]:
        """The phases that some rank passed to `reduce_with_training`, as of the last snapshot; equal on all ranks."""
        agreement = self._merger.agreement
        return agreement.own_phases if self._merger.ranks() is None else agreement.phases

    @property
    def directions(self) -> Mapping[str, Direction | None]:
        """The argument ``directions``: the rules that tell which value of a metric is best."""
        return MappingProxyType(self._directions)

    @property
    def seen_keys(self) -> frozenset[str]:
        """The keys that were reported or computed up to some snapshot, in any phase."""
        return frozenset(self._reduction.seen.difference(TIMES))

    def reserve(self, is_reserved: Callable[[str], bool]) -> None:
        """Refuse keys whose names the logs use for something else. Replaces what was reserved before."""
        self._key_table.reserve(is_reserved)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Topic of a warning → how often it occurred. Most topics name what was dropped or left out, and why."""
        return dict(self._warn_once.counts)


keep_old_names(MetricRegistry, _NEW_NAMES)


def _patterns(name: str, given: str | Sequence[str]) -> Rules[bool]:
    """Return rules that tell whether a key matches one of the exact keys or patterns in an argument."""
    return Rules(dict.fromkeys(patterns_in(name, given), True), False)
