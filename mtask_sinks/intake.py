"""Puts reported values into the windows. Every value comes this way, eager or compiled, from any thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from threading import get_ident
from typing import Any

from torch import Tensor

from mtask_sinks._util.escaping import printable
from mtask_sinks._util.formatting import short
from mtask_sinks._util.warn_once import WarnOnce, call_site
from mtask_sinks.aggregation.accumulator import Accumulator, NonFinite
from mtask_sinks.aggregation.buffers import Buffer, Overflow
from mtask_sinks.aggregation.key_table import KeyTable
from mtask_sinks.aggregation.phases import Phases
from mtask_sinks.aggregation.reducer_accumulator import ReducerAccumulator
from mtask_sinks.aggregation.state import State, has_sum_state, reports_in
from mtask_sinks.aggregation.sum_accumulator import SumAccumulator
from mtask_sinks.aggregation.window import Window
from mtask_sinks.distributed.collectives import Ranks
from mtask_sinks.errors import MetricKeyError, MetricValueError
from mtask_sinks.keys import check_key, join_key
from mtask_sinks.measurement.device_queue import DeviceEntry, Part
from mtask_sinks.measurement.dispatch_modes import count_modes, is_recorded, unrecorded
from mtask_sinks.measurement.entries import Block, OnDevice, Unreadable
from mtask_sinks.measurement.micro_batch_clock import MicroBatchClock
from mtask_sinks.measurement.tensors import NOT_REAL, read_tensor, unreadable
from mtask_sinks.measurement.values import NAME, failed, holds_tensor, read
from mtask_sinks.patterns import Rules
from mtask_sinks.reducers import Reducer
from mtask_sinks.reporting.forked import is_said_by_other_process

# A task with such a name is probably meant as a phase.
_PHASES = ("train", "eval", "test")
_TASK_IS_PHASE = (
    "%s: the task is called %r, which is also a phase. The library adds the phase by itself (in backends the key is "
    "<task>/<phase>/<name>), so no key needs %r; name the task after what it computes."
)


class Intake:
    """Puts reported values into the buffers of their keys, and warns of those it drops.

    Args:
        phases: the windows, and which of them a thread reports to.
        key_table: the allowed keys and their reducers.
        policies: how to treat NaN and Inf, by key.
        clock: tells in which micro-batch a value is reported.
        overflow: the buffer for keys beyond the limit.
        find_ranks: returns the ranks, or ``None`` if this rank is alone.
        warn_once: logs and counts what is dropped.
    """

    def __init__(
        self,
        phases: Phases,
        key_table: KeyTable,
        policies: Rules[NonFinite],
        clock: MicroBatchClock,
        overflow: Overflow,
        find_ranks: Callable[[], Ranks | None],
        warn_once: WarnOnce,
    ) -> None:
        self._phases = phases
        self._key_table = key_table
        self._policies = policies
        self._clock = clock
        self._overflow = overflow
        self._find_ranks = find_ranks
        self._warn_once = warn_once
        # Threads may report new keys and fill buffers at the same time. Under the first lock, no code of the user runs.
        # Under the second, a reducer or a log handler of the user may run, and may report from any thread. If a report
        # waited for this lock, it could wait forever.
        self._admitting = threading.RLock()
        self._reducing = threading.RLock()

    def store(self, task: str | None, metrics: Mapping[str, Any]) -> None:
        """Store the values of one report (name → value)."""
        if count_modes() and is_recorded():
            with unrecorded():
                self.store(task, metrics)
            return
        if type(metrics) is not dict:
            metrics = dict(metrics)  # a mapping of another type may change while another thread runs
        phases = self._phases
        window = phases.window_of_this_thread() if phases.elsewhere else phases.current
        judge = window.judge
        if judge is not None and judge.exempt_thread != get_ident() and (reason := judge.why_left_out()) is not None:
            self._leave_out(task, metrics, reason)
            return
        try:
            buffers = window.buffers[task]
        except (KeyError, TypeError):  # a new task, or one that is not hashable
            _check_task(task)
            buffers = {}
        on_device: dict[str, OnDevice] = {}
        refused: list[Exception] = []  # raised at the end, so that the other values of the report count
        entry: Any
        for name, value in metrics.items():
            try:
                try:
                    if type(value) is float:
                        entry = value
                    elif type(value) is Tensor:
                        entry = value.item() if value.is_cpu and not value.ndim else read_tensor(value)
                    else:
                        entry = read(value)
                except Exception as error:
                    self._refuse(window, task, name, value, error)
                    continue
                if type(entry) is not float:
                    if type(entry) is OnDevice:
                        on_device[name] = entry
                        continue
                    if entry is None:  # the model did not compute it; only register the key
                        self._admit(window, task, name)
                        continue
                    if type(entry) in NOT_REAL:
                        self._refuse(window, task, name, value, Unreadable(NOT_REAL[type(entry)]))
                        continue
                    if type(entry) is Block:
                        window.expect(entry)
                try:
                    buffer = buffers[name]
                except KeyError:
                    buffer = self._admit(window, task, name)
                buffer.append(entry)
            except (MetricKeyError, MetricValueError) as error:
                refused.append(error)
        if on_device:
            refused += self._append(window, task, on_device, partial(window.devices.add, on_device.values()))
        window.until_update -= len(metrics)
        if window.until_update <= 0:
            self._update(window)
        if refused:
            raise refused.pop(0)

    def store_packed(self, task: str | None, parts: Mapping[str, Part], packed: Tensor) -> None:
        """Store values that are parts of one vector on an accelerator, without waiting for it."""
        if count_modes() and is_recorded():
            with unrecorded():
                self.store_packed(task, parts, packed)
            return
        window = self._phases.window_of_this_thread()
        judge = window.judge
        if judge is not None and judge.exempt_thread != get_ident() and (reason := judge.why_left_out()) is not None:
            self._leave_out(task, parts, reason)
            return
        refused = self._append(window, task, parts, partial(window.devices.add_packed, list(parts.values()), packed))
        if refused:
            raise refused.pop(0)

    def drain(self, phase: str) -> dict[str, State | None]:
        """Return the state of every key in the window of a phase, and begin a new window."""
        with self._reducing:
            self._set_rank()
            return self._phases.window(phase).drain()

    def peek(self, phase: str) -> dict[str, State | None]:
        """As `drain`, but keep the window."""
        with self._reducing:
            self._set_rank()
            return self._phases.window(phase).peek()

    def restore(self, phase: str, key: str, saved: dict[str, Any]) -> bool:
        """Continue a key in the window of a phase with its saved state. Return whether there was room for the key.

        Raises:
            MetricKeyError, ValueError: the registry cannot have this key, or the state belongs to another reducer.
        """
        window = self._phases.window(phase)
        self._admit(window, None, key)
        if key not in window.accumulators:
            return False
        window.accumulators[key].restore(saved)
        return True

    def agree(self, agreed: Mapping[str, Reducer], too_many: Mapping[str, State | None]) -> None:
        """Register the keys that the ranks agreed on, and forget those for which some rank has no room.

        Args:
            agreed: key → its reducer.
            too_many: the other keys of this rank, with what it has reported for them in the window.
        """
        self._overflow.drop({key: reports_in(state) for key, state in too_many.items()})
        with self._admitting:
            self._key_table.agree(agreed)
            for key in too_many:
                self._key_table.forget(key)
            for window in list(self._phases.windows.values()):
                window.forget(too_many, self._overflow)

    def _append(
        self, window: Window, task: str | None, names: Iterable[str], make_entries: Callable[[], list[DeviceEntry]]
    ) -> list[Exception]:
        """Make entries for values on a device, and append them to their buffers. Return an error for each wrong key.

        If the entries cannot be made, refuse all values.
        """
        try:
            entries = make_entries()
        except Unreadable as error:
            for name in names:
                self._refuse(window, task, name, None, error)
            return []
        refused: list[Exception] = []
        for name, entry in zip(names, entries, strict=True):
            try:
                self._admit(window, task, name).append(entry)
            except MetricKeyError as error:
                refused.append(error)
        if window.devices.is_full:
            self._update(window)
        return refused

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

    def _refuse(self, window: Window, task: str | None, name: str, value: Any, error: Exception) -> None:
        """Drop a value that cannot be read, and warn; raise if the first value of a key has a wrong type."""
        key = join_key(task, name)
        if type(value) is Tensor and not isinstance(error, Unreadable):
            error = unreadable(value, error)
        if isinstance(error, Unreadable):
            self._drop_unreadable(window, task, name, error)
            return
        if not isinstance(error, MetricValueError):
            if holds_tensor(value):
                raise error  # ranks that gather a distributed tensor may have lost each other
            error = failed(value, error)
        check_key(key)
        reason = printable(str(error).replace(NAME, name))
        if key == "task" and isinstance(value, str):
            reason = f"the name of the task comes first, without a keyword: report_metrics({short(value)}, loss=loss)."
        if not any(window.was_used(key) for window in list(self._phases.windows.values())):
            raise MetricValueError(f"{key}: {reason}") from None
        self._warn_once(f"refused: {key}", "%s: dropped a value at %s: %s", key, call_site(), reason)

    def _drop_unreadable(self, window: Window, task: str | None, name: str, error: Unreadable) -> None:
        key = join_key(task, name)
        with suppress(MetricKeyError):  # a tensor without numbers raises no error
            if self._admit(window, task, name) is self._overflow:  # each key has its warning, so they must be few
                self._overflow.append(math.nan)
                return
        message = "%s: dropped a tensor: %s. Further ones are counted, not logged."
        self._warn_once(f"unreadable: {key}", message, key, error)

    def _leave_out(self, task: str | None, names: Iterable[str], reason: str) -> None:
        topic = f"left out: {reason}"
        if is_said_by_other_process():
            self._warn_once.mute(topic)
        _check_task(task)
        keys = ", ".join(join_key(task, name) for name in names)
        self._warn_once(topic, "%s: left out (reported at %s): %s", keys, call_site(), reason)

    def _update(self, window: Window) -> None:
        if not self._reducing.acquire(blocking=False):
            return  # another thread has the lock, and may wait for this one; the values stay in their buffers
        try:
            self._set_rank()
            window.update_if_due()
        finally:
            self._reducing.release()

    def _set_rank(self) -> None:
        """Tell the clock this rank's number, each time anew: the process group may have changed."""
        ranks = self._find_ranks()
        self._clock.set_rank(*(0, 1) if ranks is None else (ranks.rank, ranks.size))


def _check_task(task: Any) -> None:
    if task is not None and not isinstance(task, str):
        raise MetricKeyError(
            f"report_metrics got {type(task).__name__} as the name of the task. Pass a string, or nothing, and the "
            "values by keyword: report_metrics('mlm', loss=loss)."
        )
