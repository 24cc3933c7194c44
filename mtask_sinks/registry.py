"""MetricRegistry: gathers what is reported, a window a phase, and reduces it at the log event."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.compiler import is_dynamo_compiling

from mtask_sinks._util.warn_once import WarnOnce, call_site
from mtask_sinks.aggregation.accumulator import Cell, NonFinite
from mtask_sinks.aggregation.derived import Derived, DerivedFunction
from mtask_sinks.aggregation.inbox import Inbox
from mtask_sinks.aggregation.key_table import Admission
from mtask_sinks.aggregation.overflow import Overflow
from mtask_sinks.aggregation.reducer_accumulator import ReducerCell
from mtask_sinks.aggregation.state import Outcome, Tally
from mtask_sinks.aggregation.sum_accumulator import SumCell
from mtask_sinks.aggregation.summarize import Summarizer, nonfinite_policies
from mtask_sinks.aggregation.sums import has_sums
from mtask_sinks.aggregation.window import Window
from mtask_sinks.compiled.handles import handle_of
from mtask_sinks.distributed.collectives import Ranks
from mtask_sinks.distributed.key_agreement import Agreement
from mtask_sinks.distributed.merge import Spread
from mtask_sinks.distributed.over_ranks import OverRanks
from mtask_sinks.errors import ConflictError as ConflictError
from mtask_sinks.errors import MetricKeyError, MetricValueError
from mtask_sinks.errors import NonFiniteError as NonFiniteError
from mtask_sinks.keys import check_key, join_key
from mtask_sinks.measurement.device_queue import Part
from mtask_sinks.measurement.micro_batch_clock import Clock
from mtask_sinks.measurement.recompute import graph_task_id, is_recompute
from mtask_sinks.measurement.simple_values import END, read_simple
from mtask_sinks.measurement.values import Block, OnDevice, Unreadable, read
from mtask_sinks.patterns import Rules
from mtask_sinks.reducers import Reducer, ReducerSpec, as_reducer
from mtask_sinks.reporting.api import activated
from mtask_sinks.snapshot import Snapshot

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

logger = logging.getLogger(__name__)

# In place of the entry of a value that is refused, or stays on its device.
_ELSEWHERE = object()


class MetricRegistry:
    """Gathers reported values with a reduction policy a key.

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
    ) -> None:
        self._warn_once = WarnOnce(logger)
        by_key = Rules({key: as_reducer(spec) for key, spec in (reducers or {}).items()}, as_reducer("mean"))
        self._policies = nonfinite_policies(nonfinite)
        functions = Derived(derived or {}, self._warn_once)
        self._admission = Admission(by_key, functions, max_keys)
        self._summarizer = Summarizer(self._policies, functions, self._warn_once)
        spreads = Rules(dict.fromkeys([spread] if isinstance(spread, str) else spread, True), False)
        rules = {"reducers": reducers or {}, "nonfinite": nonfinite, "spread": spread}
        self._over_ranks = OverRanks(process_group, Agreement(rules, by_key.of, max_keys), spreads.of)
        self._overflow = Overflow(max_keys, self._warn_once)
        self._lock = threading.Lock()  # folding and admitting, which nn.DataParallel's threads may do at one time
        self._clock = Clock()
        self._windows = {"train": Window(self._clock)}
        self._window = self._windows["train"]
        #: What compiled code calls this registry.
        self.handle = handle_of(self)

    def register(self, key: str, reducer: ReducerSpec) -> None:
        """Give a key its reducer, ahead of its first report.

        Raises:
            ConflictError: the key has another reducer already.
            MetricKeyError: the key is not valid, or that of a derived metric.
        """
        self._admission.register(key, as_reducer(reducer))

    def report_metrics(self, task: str | None = None, /, **metrics: Any) -> None:
        """Report values of this micro-batch; cheap enough for every forward.

        >>> registry = MetricRegistry()
        >>> registry.report_metrics(lr_scale=0.5)                 # ungrouped
        >>> registry.report_metrics("nsp", loss=0.7, acc=0.5)     # nsp/loss, nsp/acc

        Args:
            task: name that groups the metrics; none for ungrouped ones.
            **metrics: name → value: a number, a NumPy scalar or array, a torch tensor of any shape, dtype and device,
                ``weighted(value, weight)``, or ``None`` (not computed here: does not count). Of a tensor each element
                counts. Nothing is kept of a tensor but its numbers.

        Raises:
            MetricKeyError: a key is not valid, or means something else; at its first report.
            MetricValueError: a value is of a type that is not accepted; at the first report of its key. Later on such a
                value is dropped and counted, so as not to stop a training that went well.
        """
        self.take(task, metrics)

    def take(self, task: str | None, metrics: Mapping[str, Any]) -> None:
        """As `report_metrics`, with the values as a mapping; every report comes this way, those of modules too."""
        if is_dynamo_compiling():
            from mtask_sinks.compiled.packing import report  # needs the compiler, which takes seconds to import

            report(self, task, metrics)
            return
        if graph_task_id() != -1 and is_recompute():
            return
        if type(metrics) is not dict:  # whose values come at once, whatever other threads do
            metrics = dict(metrics)
        window = self._window
        entries: Collection[Any] = metrics.values()
        for value in entries:
            if type(value) is not float:
                entries = []
                if read_simple(metrics.values(), entries) is not END:
                    entries = self._read_on(window, task, metrics, entries)
                break
        try:
            row = window.rows[task].get(tuple(metrics))
        except (KeyError, TypeError):  # a new task, or what cannot be one
            row = None
        if row is not None:
            row.extend(entries)
        else:
            self._put(window, task, metrics, entries)
            self._add_row(window, task, metrics)
        window.room -= len(metrics)
        if window.room <= 0:
            self._make_room(window)

    def take_numbers(self, task: str | None, names: Collection[str], numbers: list[float]) -> None:
        """Take numbers that compiled code has reported: as `report_metrics`, where nothing is left to be asked."""
        if len(numbers) != len(names):
            raise ValueError(f"{len(numbers)} numbers for {len(names)} names: {', '.join(names)}")
        window = self._window
        row = window.rows.get(task, {}).get(tuple(names))
        if row is not None:
            row.extend(numbers)
        else:
            self._put(window, task, names, numbers)
            self._add_row(window, task, names)
        window.room -= len(names)
        if window.room <= 0:
            self._make_room(window)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Reports made inside belong to another phase than ``train``: they never mix with those outside.

        >>> registry = MetricRegistry()
        >>> registry.report_metrics(acc=1.0)
        >>> with registry.phase("eval"):
        ...     registry.report_metrics(acc=0.0)
        >>> registry.snapshot(step=1, phase="eval").metrics["acc"], registry.snapshot(step=1).metrics["acc"]
        (0.0, 1.0)
        """
        outside = self._window
        self._window = self._window_of(name)
        try:
            yield
        finally:
            self._window = outside

    def activate(self) -> AbstractContextManager[None]:
        """Let the function `report_metrics` report here, for the time of a ``with`` block."""
        return activated(self)

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
        ranks = self._over_ranks.ranks()
        with self._lock:
            self._place(ranks)
            window = self._window_of(phase).take()
        window, spreads = self._merge(phase, window, ranks)
        known = self._admission.reducers if ranks is None else self._over_ranks.keys
        metrics, counts, nonfinite = self._summarizer.of(window, spreads, known, step=step, phase=phase)
        return Snapshot(step, phase, metrics, epoch, time.time(), counts, nonfinite, logs or {})

    def tick(self) -> None:
        """Say that a micro-batch is over, as a trainer does; only `last` and `first` over several ranks ask for it."""
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

        Every rank must call it, as for `snapshot`. Valid JSON; empty if nothing was reported.
        """
        ranks = self._over_ranks.ranks()
        with self._lock:
            self._place(ranks)
            window = self._window_of(phase).copy()
        window, _ = self._merge(phase, window, ranks)
        tallies = {key: Tally.of(self._admission.reducers[key], outcome) for key, outcome in window.items()}
        keys = {key: tally.to_json() for key, tally in tallies.items() if tally.reports or tally.nonfinite}
        return {"time": self._clock.now, "keys": keys} if keys else {}

    def load_state_dict(self, state: Mapping[str, Any], phase: str = "train") -> None:
        """Go on with a window that `state_dict` saved; it replaces the open one. Every rank calls this."""
        self.discard(phase)
        self._clock.now = state.get("time", 0)
        ranks = self._over_ranks.ranks()
        if ranks is not None and ranks.rank:
            return  # what all ranks had is now the first one's
        window = self._window_of(phase)
        for key, saved in state.get("keys", {}).items():
            try:
                self._admit(window, None, key)
                window.cells[key].resume(saved)
            except (KeyError, ValueError) as error:
                message = "%s: what the checkpoint holds of its open window is left out: %s"
                self._warn_once(f"not resumed: {key}", message, key, error)

    def discard(self, phase: str = "train") -> None:
        """Forget what was reported in the window of a phase."""
        with self._lock:
            self._window_of(phase).take()

    def reserve(self, is_reserved: Callable[[str], bool]) -> None:
        """Refuse keys that would take the name of something else in the logs; replaces what was reserved before."""
        self._admission.reserve(is_reserved)

    @property
    def has_other_ranks(self) -> bool:
        """Whether there are other ranks to reduce over: whether `snapshot` is collective, and `tick` of any use."""
        return self._over_ranks.ranks() is not None

    @property
    def dropped(self) -> Mapping[str, int]:
        """How often something was dropped or left out, by what and why."""
        return dict(self._warn_once.counts)

    def _read_on(self, window: Window, task: str | None, metrics: Mapping[str, Any], entries: list[Any]) -> list[Any]:
        """The entries of a report with an odd value, given those before it; none if all have gone one by one."""
        names = [*metrics]
        values = islice(metrics.values(), len(entries), None)
        on_device: dict[str, OnDevice] = {}
        is_whole = True
        try:
            while (odd := read_simple(values, entries)) is not END:
                name = names[len(entries)]
                entry = self._read(task, name, odd)
                if type(entry) is OnDevice:
                    on_device[name] = entry
                    entry = _ELSEWHERE
                elif type(entry) is Block:
                    window.expect(entry)
                is_whole = is_whole and entry is not None and entry is not _ELSEWHERE
                entries.append(entry)
        except BaseException:  # what came before counts
            self._put(window, task, metrics, entries)
            raise
        if is_whole:
            return entries
        self._put(window, task, metrics, entries)
        if on_device:
            self._defer(window, task, on_device)
        return []

    def _put(self, window: Window, task: str | None, names: Iterable[str], entries: Iterable[Any]) -> None:
        """Take the entries of a report one by one, as far as there are any."""
        try:
            inboxes = window.inboxes[task]
        except (KeyError, TypeError):
            inboxes = _new_task(task)
        for name, entry in zip(names, entries, strict=False):
            if entry is not _ELSEWHERE:
                inbox = inboxes[name] if name in inboxes else self._admit(window, task, name)
                if entry is not None:  # not computed; its key is known all the same
                    inbox.append(entry)

    def _add_row(self, window: Window, task: str | None, names: Collection[str]) -> None:
        with self._lock:
            window.add_row(task, names)

    def _read(self, task: str | None, name: str, value: Any) -> Any:
        """The entry of a value of any kind; `_ELSEWHERE` if it is refused."""
        try:
            return read(value)
        except Exception as error:
            self._refuse(task, name, value, error)
            return _ELSEWHERE

    def _refuse(self, task: str | None, name: str, value: Any, error: Exception) -> None:
        """Drop a value that cannot be read, and say so; raise if its type is wrong and it is its key's first."""
        key = join_key(task, name)
        if isinstance(error, Unreadable):
            message = "%s: dropped a tensor: %s. Further ones are counted, not logged."
            self._warn_once(f"unreadable: {key}", message, key, error)
            return
        if not isinstance(error, MetricValueError):
            raise error
        check_key(key)
        with self._lock:
            was_used = any(window.was_used(key) for window in self._windows.values())
        if not was_used:
            raise MetricValueError(f"{key}: {error}") from None
        self._warn_once(f"refused: {key}", "%s: dropped a value at %s: %s", key, call_site(), error)

    def _admit(self, window: Window, task: str | None, name: str) -> Inbox:
        """What takes the entries of a key; checks the key if it is new."""
        key = join_key(task, name)
        with self._lock:
            cell = window.cells.get(key)
            if cell is None:
                reducer = self._admission.admit(key)
                if reducer is None:
                    return self._overflow
                cell = self._cell(key, reducer)
            window.add(task, name, cell)
            return cell.entries

    def _cell(self, key: str, reducer: Reducer) -> Cell:
        policy = self._policies.of(key)
        if has_sums(reducer):
            return SumCell(key, reducer, policy, self._warn_once)
        return ReducerCell(key, reducer, policy, self._clock, self._warn_once)

    def defer_packed(self, task: str | None, parts: dict[str, Part], packed: Tensor) -> None:
        """Take values that compiled code has packed into one vector on an accelerator; does not wait for it."""
        window = self._window
        self._admit_all(window, task, parts)
        window.defer_packed(task, parts, packed)
        if window.is_full_on_devices:
            self._make_room(window)

    def _defer(self, window: Window, task: str | None, values: dict[str, OnDevice]) -> None:
        for name in self._admit_all(window, task, values):
            del values[name]
        if values:
            window.defer(task, values)
            if window.is_full_on_devices:
                self._make_room(window)

    def _admit_all(self, window: Window, task: str | None, names: Iterable[str]) -> list[str]:
        """Make cells for names that have none yet; returns those past the limit."""
        refused = []
        for name in names:
            if join_key(task, name) not in window.cells and self._admit(window, task, name) is self._overflow:
                self._overflow.append(0.0)
                refused.append(name)
        return refused

    def _window_of(self, phase: str) -> Window:
        return self._windows.setdefault(phase, Window(self._clock))

    def _make_room(self, window: Window) -> None:
        with self._lock:
            self._place(self._over_ranks.ranks())
            window.make_room()

    def _place(self, ranks: Ranks | None) -> None:
        self._clock.place(*(0, 1) if ranks is None else (ranks.rank, ranks.size))

    def _merge(
        self, phase: str, window: dict[str, Outcome | None], ranks: Ranks | None
    ) -> tuple[dict[str, Outcome | None], dict[str, Spread]]:
        if ranks is None:
            return window, {}
        merged = self._over_ranks.merge(phase, window, self._admission.reducers, ranks)
        agreed = self._over_ranks.keys
        if window.keys() <= agreed.keys() <= self._admission.reducers.keys():
            return merged
        with self._lock:
            self._admission.agree(agreed)
            for key in window.keys() - agreed.keys():  # the ranks together have more than max_keys
                self._admission.forget(key)
                for each in self._windows.values():
                    each.forget(key, self._overflow)
        return merged


def _new_task(task: Any) -> dict[str, Inbox]:
    if task is not None and not isinstance(task, str):
        raise MetricKeyError(
            f"report_metrics got {type(task).__name__} as the name of the task. Pass a string, or nothing, and the "
            "values by keyword: report_metrics('mlm', loss=loss)."
        )
    return {}
