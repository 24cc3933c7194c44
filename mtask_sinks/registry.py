"""MetricRegistry: gathers what is reported, in a window per phase, and reduces a window at the log event."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.compiler import is_dynamo_compiling

from mtask_sinks._util.renamed import keep_old_names
from mtask_sinks._util.warn_once import WarnOnce, call_site
from mtask_sinks.aggregation.accumulator import Accumulator, NonFinite
from mtask_sinks.aggregation.buffers import Buffer, Overflow
from mtask_sinks.aggregation.derived import Derived, DerivedFunction
from mtask_sinks.aggregation.key_table import KeyTable
from mtask_sinks.aggregation.phases import Phases
from mtask_sinks.aggregation.reducer_accumulator import ReducerAccumulator
from mtask_sinks.aggregation.state import ReducerState, Spread, State, has_sum_state
from mtask_sinks.aggregation.sum_accumulator import SumAccumulator
from mtask_sinks.aggregation.summarize import Summarizer, nonfinite_policies
from mtask_sinks.aggregation.window import Window
from mtask_sinks.compiled.handles import new_handle
from mtask_sinks.directions import Direction, Directions
from mtask_sinks.distributed.collectives import Ranks
from mtask_sinks.distributed.key_agreement import KeyAgreement
from mtask_sinks.distributed.merge import RankMerger
from mtask_sinks.errors import MetricKeyError, MetricValueError
from mtask_sinks.keys import check_key, join_key
from mtask_sinks.measurement.device_queue import DeviceEntry, Part
from mtask_sinks.measurement.entries import Block, OnDevice, Unreadable
from mtask_sinks.measurement.micro_batch_clock import MicroBatchClock
from mtask_sinks.measurement.recompute import is_recompute
from mtask_sinks.measurement.values import NAME, read
from mtask_sinks.patterns import Rules
from mtask_sinks.reducers import Reducer, ReducerSpec, as_reducer
from mtask_sinks.reporting.api import activated, refuse_positional
from mtask_sinks.reporting.forked import is_said_by_other_process, lost_in_children
from mtask_sinks.snapshot import Snapshot

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

logger = logging.getLogger(__name__)

# A name that a method had before; subclasses that use it go on working.
_NEW_NAMES = {"take": "record"}

# Tasks that were probably meant as phases.
_PHASES = ("train", "eval", "test")
_TASK_IS_PHASE = (
    "%s: the task is called %r, which is also a phase. The library adds the phase by itself (in backends the key is "
    "<task>/<phase>/<name>), so %r is needed in no key; name the task by what it computes."
)


class MetricRegistry:
    """Gathers reported values, with a reduction policy per key.

    >>> registry = MetricRegistry(reducers={"*/n_tokens": "sum"})
    >>> registry.report_metrics("mlm", loss=4.0, n_tokens=100)
    >>> registry.report_metrics("mlm", loss=2.0, n_tokens=50)
    >>> dict(registry.snapshot(step=1).metrics)
    {'mlm/loss': 3.0, 'mlm/n_tokens': 150.0}

    Args:
        reducers: exact key or pattern → reducer: a name (``mean sum last first min max count std median p95 …``), a
            `Reducer`, or a function of the window's values. An exact key beats a pattern, the first pattern that
            matches wins, otherwise `mean`.
        derived: key → function of the reduced values: ``{"mlm/perplexity": lambda m: math.exp(m["mlm/loss"])}``.
        nonfinite: what NaN and Inf do: ``"propagate"`` (default: they show), ``"skip"`` (left out; their number is
            reported as ``<key>.nonfinite``) or ``"raise"`` (`NonFiniteError` at the log event); one for all keys, or by
            exact key and pattern.
        max_keys: distinct keys; further ones are dropped and counted, with one warning that names the caller.
        spread: exact keys and patterns of those whose smallest and largest value among the ranks is wanted too, as
            ``<key>.rank_min`` and ``<key>.rank_max``; only where there are several ranks.
        process_group: the ranks to reduce over, if not all of the job's: where some ranks hold replicas of others' data
            (tensor or pipeline parallel), a group with one rank of each. Reduction happens in `snapshot`, which every
            rank of the group must call, whatever it reported: one collective, two where a reducer needs a maximum or
            minimum, a gather more while one needs all values, an exchange of names whenever some rank has a new key.
        directions: exact key or pattern → which value is best: ``"min"`` (the smallest), ``"max"`` (the largest) or
            ``None`` (neither): ``{"*/bias": "min"}``. Without a rule the name decides, if it is known (loss, rmse,
            accuracy, …). ``mtask-sinks diff``, ``report`` and ``watch`` use it, and so does the check of
            ``metric_for_best_model``.

    Raises:
        MetricKeyError, ReducerError, TypeError, ValueError: a rule cannot be used.
    """

    def __init__(
        self,
        reducers: Mapping[str, ReducerSpec] | None = None,
        derived: Mapping[str, DerivedFunction] | None = None,
        *,
        nonfinite: NonFinite | Mapping[str, NonFinite] = "propagate",
        max_keys: int = 1000,
        spread: str | Sequence[str] = (),
        process_group: ProcessGroup | Ranks | None = None,
        directions: Mapping[str, Direction | None] | None = None,
    ) -> None:
        self._warn_once = WarnOnce(logger)
        by_key = Rules({key: as_reducer(spec) for key, spec in (reducers or {}).items()}, as_reducer("mean"))
        self._policies = nonfinite_policies(nonfinite)
        Directions(directions or {})  # raises on a wrong rule
        self._directions = dict(directions or {})
        functions = Derived(derived or {}, self._warn_once)
        self._key_table = KeyTable(by_key, functions, max_keys)
        self._summarizer = Summarizer(self._policies, functions, self._warn_once)
        spreads = Rules(dict.fromkeys([spread] if isinstance(spread, str) else spread, True), False)
        rules = {"reducers": reducers or {}, "nonfinite": nonfinite, "spread": spread}
        agreement = KeyAgreement(rules, by_key.for_key, max_keys)
        self._merger = RankMerger(process_group, agreement, spreads.for_key)
        self._overflow = Overflow(max_keys, self._warn_once)
        # Threads may report new keys and fill buffers at the same time. No code of a user runs under the first lock.
        # A report never waits for the second one: a reducer, or a handler of the log, may report in any thread.
        self._admitting = threading.RLock()
        self._reducing = threading.RLock()
        self._clock = MicroBatchClock()
        self._phases = Phases()
        #: The number by which compiled code finds this registry.
        self.handle = new_handle(self)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        keep_old_names(cls, _NEW_NAMES)

    def register(self, key: str, reducer: ReducerSpec) -> None:
        """Give a key its reducer, ahead of its first report.

        Raises:
            ConflictError: the key has another reducer already.
            MetricKeyError: the key is not valid, or that of a derived metric.
        """
        self._key_table.register(key, as_reducer(reducer))

    def report_metrics(self, task: str | None = None, /, *values: Any, **metrics: Any) -> None:
        """Report values of this micro-batch; cheap enough for every forward.

        >>> registry = MetricRegistry()
        >>> registry.report_metrics(lr_scale=0.5)                 # ungrouped
        >>> registry.report_metrics("nsp", loss=0.7, acc=0.5)     # nsp/loss, nsp/acc

        Args:
            task: name that groups the metrics; none for ungrouped ones.
            **metrics: name → value: a number, a NumPy scalar or array, a torch tensor of any shape, dtype and device,
                ``weighted(value, weight)``, or ``None`` (not computed here: does not count). Each element of a tensor
                counts. Only the numbers of a tensor are kept.

        Raises:
            MetricKeyError: a key is not valid, or means something else; at its first report.
            MetricValueError: a value is of a type that is not accepted; at the first report of its key. Later such a
                value is dropped and counted, so that it does not stop a training that went well.
        """
        if values:
            refuse_positional(task, values)
        self.record(task, metrics)

    def record(self, task: str | None, metrics: Mapping[str, Any]) -> None:
        """As `report_metrics`, with the values as a mapping.

        Every report of eager code comes through here, also those of modules and of the function `report_metrics`; a
        subclass that wants to see them overrides this.
        """
        if is_dynamo_compiling():
            from mtask_sinks.compiled.packing import report  # needs the compiler, which takes seconds to import

            report(self, task, metrics)
        elif not is_recompute():
            self.store(task, metrics)

    def store(self, task: str | None, metrics: Mapping[str, Any]) -> None:
        """As `record`, without asking whether the report counts. Compiled code reports here."""
        if type(metrics) is not dict:
            metrics = dict(metrics)  # a mapping of somebody's own may change while another thread runs
        phases = self._phases
        window = phases.window_of_this_thread() if phases.elsewhere else phases.current
        if window.why_left_out is not None and (reason := window.why_left_out()) is not None:
            self._leave_out(task, metrics, reason)
            return
        try:
            buffers = window.buffers[task]
        except (KeyError, TypeError):  # a new task, or something that cannot be one
            _check_task(task)
            buffers = {}
        on_device: dict[str, OnDevice] = {}
        for name, value in metrics.items():
            if type(value) is not float:
                try:
                    value = read(value)
                except Exception as error:
                    self._refuse(task, name, value, error)
                    continue
                if type(value) is OnDevice:
                    on_device[name] = value
                    continue
                if type(value) is Block:
                    window.expect(value)
            buffer = buffers[name] if name in buffers else self._admit(window, task, name)
            if value is not None:  # not computed; its key is known all the same
                buffer.append(value)
        if on_device:
            self._append(window, task, on_device, partial(window.devices.add, on_device.values()))
        window.until_update -= len(metrics)
        if window.until_update <= 0:
            self._update(window)

    def store_packed(self, task: str | None, parts: Mapping[str, Part], packed: Tensor) -> None:
        """As `store`, for values that compiled code has packed into one vector on an accelerator; does not wait for it.

        Args:
            task: of the values.
            parts: name → which part of the vector is its value, in order.
            packed: the vector; it may be overwritten afterwards.
        """
        window = self._phases.window_of_this_thread()
        if window.why_left_out is not None and (reason := window.why_left_out()) is not None:
            self._leave_out(task, parts, reason)
            return
        self._append(window, task, parts, partial(window.devices.add_packed, list(parts.values()), packed))

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Reports inside the ``with`` block belong to another phase than ``train`` and never mix with those outside.

        It holds for the thread that enters the block, and for nn.DataParallel's threads.

        >>> registry = MetricRegistry()
        >>> registry.report_metrics(acc=1.0)
        >>> with registry.phase("eval"):
        ...     registry.report_metrics(acc=0.0)
        >>> registry.snapshot(step=1, phase="eval").metrics["acc"], registry.snapshot(step=1).metrics["acc"]
        (0.0, 1.0)
        """
        with self._phases.entered(self._phases.window(name)):
            yield

    @contextmanager
    def ignoring_reports(self) -> Iterator[None]:
        """Reports inside the ``with`` block do not count."""
        with self._phases.entered(Window()):
            yield

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Let the function `report_metrics` report here, inside a ``with`` block; this thread runs the training."""
        with activated(self), self._phases.run_by_this_thread(), lost_in_children(self):
            yield

    def leave_out(self, why_left_out: Callable[[], str | None] | None, phase: str | None = None) -> None:
        """Let a function judge, from now on, whether reports count.

        Args:
            why_left_out: called at each report; returns why it does not count, or ``None`` if it does. Without a
                function all reports count.
            phase: whose reports; by default those of every phase that there is.
        """
        for window in self._phases.windows.values() if phase is None else [self._phases.window(phase)]:
            window.why_left_out = why_left_out

    def snapshot(
        self, step: int, phase: str = "train", *, epoch: float | None = None, logs: Mapping[str, Any] | None = None
    ) -> Snapshot:
        """Reduce the window of a phase and begin a new one.

        Args:
            step: optimizer steps taken so far.
            phase: ``train``, or the name given to `phase`.
            epoch: epochs done, if there are epochs.
            logs: what else was logged at this event; goes along unchanged.

        Raises:
            NonFiniteError: NaN or Inf was reported for a key whose policy is ``raise``.
            DerivedMetricError: a derived metric refers to a key that nothing has reported.
        """
        ranks = self._merger.ranks()
        with self._reducing:
            self._set_rank(ranks)
            states = self._phases.window(phase).drain()
        states, spreads = self._merge_ranks(phase, states, ranks)
        reducers = self._key_table.reducers if ranks is None else self._merger.agreed
        metrics, counts, nonfinite = self._summarizer.summarize(states, spreads, reducers, step=step, phase=phase)
        return Snapshot(step, phase, metrics, epoch, time.time(), counts, nonfinite, logs or {})

    def tick(self) -> None:
        """Say that a micro-batch is over, as a trainer does. Only `first` and `last` over several ranks need it."""
        self._clock.now += 1

    def state_dict(self, phase: str = "train") -> dict[str, Any]:
        """The open window of a phase, of all ranks together, as plain data for a checkpoint; it stays open.

        >>> registry = MetricRegistry()
        >>> registry.report_metrics("mlm", loss=4.0)
        >>> resumed = MetricRegistry()
        >>> resumed.load_state_dict(registry.state_dict())
        >>> resumed.report_metrics("mlm", loss=2.0)
        >>> resumed.snapshot(step=1).metrics["mlm/loss"]
        3.0

        Every rank must call it, as for `snapshot`. The result is valid JSON, and empty if nothing was reported.
        """
        ranks = self._merger.ranks()
        with self._reducing:
            self._set_rank(ranks)
            states = self._phases.window(phase).peek()
        states, _ = self._merge_ranks(phase, states, ranks)
        reducers = self._key_table.reducers
        found = {key: ReducerState.from_state(reducers[key], state) for key, state in states.items()}
        keys = {key: state.to_json() for key, state in found.items() if state.reports or state.nonfinite}
        return {"time": self._clock.now, "keys": keys} if keys else {}

    def load_state_dict(self, state: Mapping[str, Any], phase: str = "train") -> None:
        """Go on with a window that `state_dict` saved, in place of the open one. Every rank calls this."""
        self.discard(phase)
        if "time" in state:  # what is reported from now on is later than anything in the state
            self._clock.now = max(self._clock.now, state["time"] + 1)
        ranks = self._merger.ranks()
        if ranks is not None and ranks.rank:
            return  # what all ranks had is now the first one's
        window = self._phases.window(phase)
        for key, saved in state.get("keys", {}).items():
            try:
                self._admit(window, None, key)
                window.accumulators[key].restore(saved)
            except (KeyError, ValueError) as error:
                message = "%s: what the checkpoint holds of its open window is left out: %s"
                self._warn_once(f"not resumed: {key}", message, key, error)

    def discard(self, phase: str = "train") -> bool:
        """Forget what was reported in the window of a phase; returns whether there was something."""
        with self._reducing:
            return any(state is not None for state in self._phases.window(phase).drain().values())

    def reduce_with_training(self, phase: str) -> None:
        """Ask that a phase is reduced at each log event of the training; see `phases_of_training`."""
        self._merger.agreement.add_phase(phase)

    @property
    def phases_of_training(self) -> Sequence[str]:
        """The phases for which some rank called `reduce_with_training`, as of the last snapshot; equal on all ranks."""
        agreement = self._merger.agreement
        return agreement.own_phases if self._merger.ranks() is None else agreement.phases

    @property
    def directions(self) -> Mapping[str, Direction | None]:
        """The rules that tell which value of a metric is best, as they were given."""
        return MappingProxyType(self._directions)

    def reserve(self, is_reserved: Callable[[str], bool]) -> None:
        """Refuse keys that would take the name of something else in the logs. Replaces what was reserved before."""
        self._key_table.reserve(is_reserved)

    @property
    def dropped(self) -> Mapping[str, int]:
        """How often something was dropped or left out, by what and why."""
        return dict(self._warn_once.counts)

    def _append(
        self, window: Window, task: str | None, names: Iterable[str], make_entries: Callable[[], list[DeviceEntry]]
    ) -> None:
        """Append entries on a device to their buffers; refuse them all if they cannot be made."""
        try:
            entries = make_entries()
        except Unreadable as error:
            for name in names:
                self._refuse(task, name, None, error)
            return
        for name, entry in zip(names, entries, strict=True):
            self._admit(window, task, name).append(entry)
        if window.devices.is_full:
            self._update(window)

    def _admit(self, window: Window, task: str | None, name: str) -> Buffer:
        """The buffer for a task and name; checks the key if it is new."""
        buffers = window.buffers.get(task, {})
        if name in buffers:
            return buffers[name]
        key = join_key(task, name)
        with self._admitting:
            accumulator = window.accumulators.get(key)
            if accumulator is None:
                reducer = self._key_table.admit(key)
                if reducer is None:
                    return self._overflow
                accumulator = self._new_accumulator(key, reducer)
            buffer = window.add(task, name, accumulator)
        if task in _PHASES:
            self._warn_once(f"task: {task}", _TASK_IS_PHASE, key, task, task)
        return buffer

    def _new_accumulator(self, key: str, reducer: Reducer) -> Accumulator:
        policy = self._policies.for_key(key)
        if has_sum_state(reducer):
            return SumAccumulator(key, reducer, policy, self._warn_once)
        return ReducerAccumulator(key, reducer, policy, self._clock, self._warn_once)

    def _refuse(self, task: str | None, name: str, value: Any, error: Exception) -> None:
        """Drop a value that cannot be read, with a warning; raise if its type is wrong and it is its key's first."""
        key = join_key(task, name)
        if isinstance(error, Unreadable):
            message = "%s: dropped a tensor: %s. Further ones are counted, not logged."
            self._warn_once(f"unreadable: {key}", message, key, error)
            return
        if not isinstance(error, MetricValueError):
            raise error
        check_key(key)
        reason = str(error).replace(NAME, name)
        if not any(window.was_used(key) for window in list(self._phases.windows.values())):
            raise MetricValueError(f"{key}: {reason}") from None
        self._warn_once(f"refused: {key}", "%s: dropped a value at %s: %s", key, call_site(), reason)

    def _leave_out(self, task: str | None, names: Iterable[str], reason: str) -> None:
        topic = f"left out: {reason}"
        if is_said_by_other_process():
            self._warn_once.mute(topic)
        _check_task(task)
        keys = ", ".join(join_key(task, name) for name in names)
        self._warn_once(topic, "%s: left out (reported at %s): %s", keys, call_site(), reason)

    def _update(self, window: Window) -> None:
        if not self._reducing.acquire(blocking=False):
            return  # another thread is at it, or waits for this one; what was reported stays where it is
        try:
            self._set_rank(self._merger.ranks())
            window.update_if_due()
        finally:
            self._reducing.release()

    def _set_rank(self, ranks: Ranks | None) -> None:
        self._clock.set_rank(*(0, 1) if ranks is None else (ranks.rank, ranks.size))

    def _merge_ranks(
        self, phase: str, states: dict[str, State | None], ranks: Ranks | None
    ) -> tuple[dict[str, State | None], dict[str, Spread]]:
        if ranks is None:
            return states, {}
        merged = self._merger.merge(phase, states, self._key_table.reducers, ranks)
        agreed = self._merger.agreed
        if states.keys() <= agreed.keys() <= self._key_table.reducers.keys():
            return merged
        with self._admitting:
            self._key_table.agree(agreed)
            for key in states.keys() - agreed.keys():  # the ranks together have more than max_keys
                self._key_table.forget(key)
                for window in list(self._phases.windows.values()):
                    window.forget(key, self._overflow)
        return merged


keep_old_names(MetricRegistry, _NEW_NAMES)


def _check_task(task: Any) -> None:
    if task is not None and not isinstance(task, str):
        raise MetricKeyError(
            f"report_metrics got {type(task).__name__} as the name of the task. Pass a string, or nothing, and the "
            "values by keyword: report_metrics('mlm', loss=loss)."
        )
