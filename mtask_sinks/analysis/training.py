"""One training as people see it: however often it was resumed, each of its points counts once."""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mtask_sinks.analysis import thinning
from mtask_sinks.analysis.series import Series
from mtask_sinks.directions import Direction, recorded_rules
from mtask_sinks.journal.records import Begin, End
from mtask_sinks.journal.run_start import RunStart, is_superseded, status_after
from mtask_sinks.note import Note
from mtask_sinks.snapshot import Snapshot

# At most this many kinds of snapshots (see `Training.kinds`) are told apart. After that, all snapshots of new kinds in
# a phase share two kinds: one for those with metrics, one for those without.
_MAX_KINDS = 1_000
# Compute the rate of steps over this many log events.
_RATE_POINTS = 20


@dataclass
class Training:
    """One training, from its beginning to its end, however often it was resumed.

    The values are in arrays, 24 bytes per value. A training with more than `thinning.MAX_VALUES` values keeps only some
    of them, see `snapshots_to_keep`. Its last values and its extreme values are still exact, and so are the numbers of
    windows if there are at most 1,000 kinds of snapshots.

    Attributes:
        number: its place in the journal, from 1 on.
        begins: the record of its beginning, and one for each time it was resumed, or continued by an evaluation.
        status: ``finished``, ``failed`` or ``killed``; ``None`` if the journal does not say that it ended.
        phases, steps, epochs, times: one entry per snapshot in memory; an unknown or infinite epoch is NaN.
        windows: for each snapshot, how many windows it represents: 1, or more if later snapshots of the same kind are
            not in memory.
        seconds: for each snapshot, the seconds since the training began, without the time between a stop and a resume.
            They never fall: while a clock that was set back is behind, they stay. If the journal does not say when the
            training began, the first snapshot is at 0.
        kinds: for each snapshot, the index of its kind. Two snapshots are of one kind if these are equal: the phase,
            the keys of the metrics, the keys whose value is NaN or infinite, and the keys in ``nonfinite``.
        series: (phase, key) → values, in the order of first appearance.
        notes: the notes of the training. A note says that an alert began or ended, or it names the parameters that
            `TaskHealth` measures. A resume discards the notes after its step, and those about a partial window at its
            step.
        nonfinite: index of a snapshot → key → how many NaN and infinite values were reported. Snapshots without any
            have no entry.
        partial: indices of the snapshots whose window was cut short by the end of the training.
        journal: the file that holds it; ``None`` if it was not read from one.
        next_begun: when the next training of the journal began; ``None`` if there is none.
    """

    number: int
    begins: list[Begin] = field(default_factory=list)
    status: str | None = None
    phases: list[str] = field(default_factory=list)
    steps: array[int] = field(default_factory=lambda: array("q"))
    epochs: array[float] = field(default_factory=lambda: array("d"))
    times: array[float] = field(default_factory=lambda: array("d"))
    windows: array[int] = field(default_factory=lambda: array("q"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    kinds: array[int] = field(default_factory=lambda: array("q"))
    series: dict[tuple[str, str], Series] = field(default_factory=dict)
    nonfinite: dict[int, dict[str, int]] = field(default_factory=dict)
    partial: set[int] = field(default_factory=set)
    notes: list[Note] = field(default_factory=list)
    journal: Path | None = None
    next_begun: float | None = None
    _recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_RATE_POINTS))
    #: How many entries of `begins` the last snapshot had before it, and the time at which `seconds` were 0 by the clock
    #: of its process.
    _origin: tuple[int, float] = (-1, 0.0)
    #: Thinning cuts each phase into parts of this many windows, and keeps the extremes of each part.
    windows_per_part: int = 1
    _kinds: dict[tuple[Any, ...], int] = field(default_factory=dict)
    _values: int = 0
    #: Number of values that the last thinning left. It may exceed the limit if there are many kinds of snapshots.
    _values_after: int = 0
    # Phases with a snapshot at the step of the resume: the resumed process may write that snapshot again.
    _repeatable: set[str] = field(default_factory=set)

    @property
    def name(self) -> str | None:
        """The name in its first record."""
        return self.begins[0].run.name if self.begins else None

    @property
    def id(self) -> str:
        """The id in its first record."""
        return self.begins[0].run.id if self.begins else ""

    @property
    def params(self) -> Mapping[str, Any]:
        """The configuration in its last record."""
        return self.begins[-1].run.params if self.begins else {}

    @property
    def directions(self) -> Mapping[str, Direction | None]:
        """The rules in its last record that tell which value of a metric is best."""
        return recorded_rules(self.begins[-1].run.directions) if self.begins else {}

    @property
    def resumed_at(self) -> tuple[int, ...]:
        """Steps at which it was resumed."""
        runs = dict.fromkeys((begin.run.id, begin.run.step) for begin in self.begins)
        return tuple(step for _, step in [*runs][1:] if step)

    @property
    def step(self) -> int:
        """Optimizer steps so far, according to the journal."""
        begun_at = self.begins[-1].run.step if self.begins else 0
        return max(begun_at, max(self.steps, default=0))

    @property
    def epoch(self) -> float | None:
        """Epochs at the last snapshot that has them."""
        return None if (at := self._last_with_epoch) is None else self.epochs[at]

    @property
    def _last_with_epoch(self) -> int | None:
        """Index of the last snapshot that has an epoch."""
        return next((at for at in reversed(range(len(self.epochs))) if self.epochs[at] == self.epochs[at]), None)

    @property
    def max_steps(self) -> int | None:
        """Step at which it ends: from its parameters, or computed from epochs and steps so far; ``None`` if unknown."""
        wanted = self.params.get("max_steps")
        if isinstance(wanted, int) and wanted > 0:
            return wanted
        epochs, at = self.params.get("num_train_epochs"), self._last_with_epoch
        # After a resume, the step may be later than the last snapshot. So step and epoch come from one snapshot.
        if isinstance(epochs, (int, float)) and at is not None and self.epochs[at] and self._recent:
            with suppress(OverflowError, ValueError):  # such a number of epochs is no number, or beyond all floats
                return max(round(self.steps[at] * epochs / self.epochs[at]), self.step)
        return None

    @property
    def steps_per_second(self) -> float | None:
        """Steps per second over the last log events of the training. The time of evaluations between them counts."""
        if len(self._recent) < 2:
            return None
        (first_step, first_time), (step, time) = self._recent[0], self._recent[-1]
        return (step - first_step) / (time - first_time) if time > first_time else None

    def begin(self, begin: Begin, start: RunStart) -> None:
        """Begin or continue the training. A resume replaces the snapshots beyond its step, see `is_superseded`."""
        self.begins.append(begin)
        if start is RunStart.CONTINUED:
            if begin.run.is_training and len(self._recent) == 1:  # before, the run had only evaluated
                self._recent[0] = (begin.run.step, begin.time)
            return
        self.status = None
        self.notes = [note for note in self.notes if not begin.run.step or not _is_judged_again(note, begin.run.step)]
        if self.steps and begin.run.step:
            every = enumerate(zip(self.steps, self.phases, strict=True))
            at = begin.run.step
            self._keep([i for i, (step, of) in every if not is_superseded(step, of, i in self.partial, at)])
            self._repeatable = {p for p, step in zip(self.phases, self.steps, strict=True) if step == begin.run.step}
        self._recent.clear()
        self._recent.append((begin.run.step, begin.time))

    def end(self, end: End) -> None:
        """Note how a run ended, if this run is the last one of the training."""
        if not self.begins or self.begins[-1].run.id == end.id:
            self.status = status_after(self.status, end.status)

    def add(self, snapshot: Snapshot) -> None:
        """Add a snapshot."""
        phase, step = snapshot.phase, snapshot.step
        if phase in self._repeatable and snapshot.metrics:
            self._repeatable.discard(phase)
            if step == self.begins[-1].run.step:
                before = zip(self.phases, self.steps, strict=True)
                self._keep([i for i, (p, s) in enumerate(before) if (p, s) != (phase, step)])
        at = len(self.steps)
        self.phases.append(phase)
        self.steps.append(step)
        epoch = snapshot.epoch
        self.epochs.append(epoch if epoch is not None and math.isfinite(epoch) else math.nan)
        self.times.append(snapshot.time)
        self.windows.append(1)
        latest = self.seconds[-1] if self.seconds else 0.0
        if self._origin[0] != len(self.begins):  # begun or resumed; a clock of another machine may be ahead or behind
            self._origin = len(self.begins), (self.begins[-1].time if self.begins else snapshot.time) - latest
        self.seconds.append(max(snapshot.time - self._origin[1], latest))
        self.kinds.append(self._kind_of(snapshot))
        if snapshot.nonfinite:
            self.nonfinite[at] = dict(snapshot.nonfinite)
        if snapshot.is_partial:
            self.partial.add(at)
        for key, value in snapshot.metrics.items():
            series = self.series.get((phase, key))
            if series is None:
                series = self.series[phase, key] = Series(phase, key)
            series.at.append(at)
            series.values.append(value)
            series.counts.append(snapshot.counts.get(key, 0))
        if phase == "train" and (not self._recent or step > self._recent[-1][0]):
            self._recent.append((step, snapshot.time))
        self._values += len(snapshot.metrics)
        if self._values > max(thinning.MAX_VALUES, 2 * self._values_after):
            self.thin(thinning.MAX_VALUES // 2)

    @property
    def is_thinned(self) -> bool:
        """Whether only some of its snapshots are in memory."""
        return self.windows_per_part > 1

    def number_of_values(self, series: Series) -> int:
        """Return how many values a metric has, including those that are not in memory."""
        return sum(self.windows[at] for at in series.at) if self.is_thinned else len(series.at)

    def curve(self, series: Series) -> Series:
        """Return the values of a metric for its curve, without windows that the end of the training cut short.

        >>> training = Training(1)
        >>> for step, n, is_partial in ((10, 2_837.0, False), (20, 2_801.0, False), (24, 1_090.0, True)):
        ...     training.add(Snapshot(step=step, metrics={"mlm/n_tokens": n}, is_partial=is_partial))
        >>> training.curve(training.series["train", "mlm/n_tokens"]).values
        array('d', [2837.0, 2801.0])

        A sum over a shorter window is smaller, which would look like a fall. If all windows were cut short, the curve
        has all values.
        """
        kept = [i for i, at in enumerate(series.at) if at not in self.partial] if self.partial else []
        if not kept or len(kept) == len(series.at):
            return series
        return series.taking(kept)

    def _kind_of(self, snapshot: Snapshot) -> int:
        odd: tuple[str, ...] = ()
        if not math.isfinite(sum(snapshot.metrics.values())):
            odd = tuple(key for key, value in snapshot.metrics.items() if not math.isfinite(value))
        kind = (snapshot.phase, bool(snapshot.metrics), *snapshot.metrics, None, *odd, None, *snapshot.nonfinite)
        if kind not in self._kinds and len(self._kinds) >= _MAX_KINDS:
            kind = (snapshot.phase, bool(snapshot.metrics))
        return self._kinds.setdefault(kind, len(self._kinds))

    def thinned(self, most_values: int) -> Training:
        """Return the training with about ``most_values`` values in memory; this one keeps its values."""
        made = replace(self)
        made.windows, made.series = self.windows[:], dict(self.series)
        made.nonfinite = {at: dict(counts) for at, counts in self.nonfinite.items()}
        made.thin(most_values)
        return made

    def thin(self, most_values: int) -> None:
        """Forget snapshots, so that about ``most_values`` values stay in memory; see `snapshots_to_keep`."""
        if sum(len(series.at) for series in self.series.values()) <= most_values:
            return
        kept, self.windows_per_part = thinning.snapshots_to_keep(self, most_values)
        is_kept = set(kept)
        latest: dict[int, int] = {}
        for at, kind in enumerate(self.kinds):
            if at in is_kept:
                latest[kind] = at
            else:  # the first of each kind is kept
                self.windows[latest[kind]] += self.windows[at]
                for key, count in self.nonfinite.get(at, {}).items():
                    reported = self.nonfinite.setdefault(latest[kind], {})
                    reported[key] = reported.get(key, 0) + count
        self._keep(kept)
        self._values = self._values_after = sum(len(series.at) for series in self.series.values())

    def _keep(self, kept: Sequence[int]) -> None:
        """Forget all snapshots except these."""
        if len(kept) == len(self.steps):
            return
        new_at = {at: new for new, at in enumerate(kept)}
        self.phases = [self.phases[at] for at in kept]
        self.steps = array("q", (self.steps[at] for at in kept))
        self.epochs = array("d", (self.epochs[at] for at in kept))
        self.times = array("d", (self.times[at] for at in kept))
        self.windows = array("q", (self.windows[at] for at in kept))
        self.seconds = array("d", (self.seconds[at] for at in kept))
        self.kinds = array("q", (self.kinds[at] for at in kept))
        self.nonfinite = {new_at[at]: counts for at, counts in self.nonfinite.items() if at in new_at}
        self.partial = {new_at[at] for at in self.partial if at in new_at}
        for place, series in list(self.series.items()):
            left = series.taking([i for i, at in enumerate(series.at) if at in new_at])
            if not left.at:
                del self.series[place]
                continue
            left.at = array("q", (new_at[at] for at in left.at))
            self.series[place] = left


def _is_judged_again(note: Note, resumed_at: int) -> bool:
    """Return whether a note is about a window that a training reports again, because it was resumed."""
    return is_superseded(note.step, str(note.data.get("phase")), note.data.get("is_partial") is True, resumed_at)
