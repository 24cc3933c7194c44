"""Writes metrics to TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from mtask_sinks.errors import Forgotten
from mtask_sinks.keys import backend_name, split_key, trainer_log_name
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.health import check_writable
from mtask_sinks.sinks.lookup import require_backend
from mtask_sinks.sinks.tensorboard.custom_scalars import Charts
from mtask_sinks.sinks.tensorboard.restart import restart_events
from mtask_sinks.sinks.tensorboard.scalar_events import ScalarEvents
from mtask_sinks.sinks.tensorboard.subrun import RUN_SUFFIX, SUBRUN_SUFFIX, SubRun
from mtask_sinks.sinks.tensorboard.text_values import params_value, text_value
from mtask_sinks.snapshot import RunInfo, Snapshot

Layout = Literal["flat", "overlay"]

#: Largest number of tasks with a sub-run in the overlay layout. Each sub-run costs one file and one write per snapshot.
MAX_SUBRUNS = 32


class TensorBoardSink(Sink):
    """Writes scalars to TensorBoard event files, grouped per task.

    >>> sink = TensorBoardSink("runs/bert")         # tags: mlm/train/loss, mlm/eval/loss, nsp/train/loss, ...

    The sink writes one event with all values of a snapshot. This costs 0.3 us per value; a loop of ``add_scalar`` costs
    30-70 us per value. The sink has its own file. If the Trainer has a TensorBoard callback, the file is in the
    callback's directory, so TensorBoard shows both as one run. If training resumes into the directory to which it wrote
    before, the sink makes TensorBoard purge all points of that run beyond the checkpoint. (In an attached run this
    happens when training begins, so points that others write after that stay.) If somebody removes the directory, the
    sink creates it again with all points of the training.

    Args:
        log_dir: directory to write to; by default the directory of the Trainer's own TensorBoard callback, else
            ``TENSORBOARD_LOGGING_DIR``, else ``<output_dir>/runs/<name of the run>``.
        layout: ``"flat"`` writes ``mlm/train/loss``, one section per task. ``"overlay"`` writes ``train/loss`` to one
            sub-run per task, so that one chart shows all tasks, each in its own color (TensorBoard colors by run, not
            by tag), and the list of runs becomes a filter of tasks. The first 32 tasks get a sub-run; further tasks
            stay flat.
        custom_scalars: write a layout for TensorBoard's tab Custom Scalars: one chart per metric with the curves of
            all tasks, and one chart per metric of each task with the curves of training and evaluations. A run can have
            only one such layout. Pass ``False`` to keep your own.

    The sink stores values as float32, because TensorBoard's scalars are float32.
    """

    name = "tensorboard"

    def __init__(
        self,
        log_dir: str | os.PathLike[str] | None = None,
        *,
        layout: Layout = "flat",
        custom_scalars: bool = True,
    ) -> None:
        require_backend(self.name)
        if layout not in ("flat", "overlay"):
            raise ValueError(f"layout={layout!r} is not allowed. Use 'flat' or 'overlay'.")
        self._given_dir = None if log_dir is None else Path(log_dir)
        self._layout = layout
        self._charts = Charts() if custom_scalars else None
        self._events = ScalarEvents()
        self._run = RunInfo()
        #: Task → its sub-run. The empty string stands for the run itself. Empty before the first `open`.
        self._subruns: dict[str, SubRun] = {}

    def open(self, run: RunInfo) -> None:
        before, self._run = self._run, run
        if not self._subruns or run.id != before.id:
            self._begin({"": self._choose_dir(run)})
        elif run.step != before.step:
            self._begin(self._directories())
        else:
            return
        if run.step and self._layout == "overlay":
            try:
                self._resume_subruns()
            except OSError:
                self._run = before  # so that the next try starts from the beginning
                raise

    def write(self, snapshot: Snapshot) -> None:
        self._check_files()
        others = [] if self.name in self._run.logged else _texts(snapshot)
        charts = None if self._charts is None else self._charts.with_metrics(snapshot.metrics, snapshot.phase)
        if charts is not None and charts != self._charts:
            others.append(charts.summary(self._layout == "overlay"))
        for name, scalars in self._scalars(snapshot).items():
            subrun = self._subruns[name]
            further = () if name else others
            if not (scalars or further) or subrun.has_snapshot or self._is_stored(subrun, snapshot):
                continue
            subrun.open_file(self._first_events(name))
            subrun.write(self._events.make(scalars, snapshot.step, snapshot.time, further))
        for subrun in self._subruns.values():
            subrun.has_snapshot = False
        self._charts = charts

    def close(self, status: Status) -> None:
        for subrun in self._subruns.values():
            subrun.close_file()

    def target(self) -> str | None:
        return str(self._subruns[""].directory.absolute()) if self._subruns else None

    def check(self, run: RunInfo, seconds: float) -> str | None:
        return f"{check_writable(self._choose_dir(run))} can be written"

    def _begin(self, directories: Mapping[str, Path]) -> None:
        """Start with new files and a new chart layout in these directories, as if the sink had written nothing yet."""
        for subrun in self._subruns.values():
            subrun.close_file()
        self._subruns = {
            name: SubRun(directory, SUBRUN_SUFFIX if name else RUN_SUFFIX) for name, directory in directories.items()
        }
        self._charts = None if self._charts is None else Charts()

    def _directories(self) -> dict[str, Path]:
        return {name: subrun.directory for name, subrun in self._subruns.items()}

    def _check_files(self) -> None:
        """If somebody removed a file, start again and ask for the whole run, because most likely all files are lost."""
        if not any(subrun.is_removed() for subrun in self._subruns.values()):
            return
        self._begin(self._directories())
        raise Forgotten(f"somebody removed event files from {self._subruns[''].directory}")

    def _is_stored(self, subrun: SubRun, snapshot: Snapshot) -> bool:
        """Return whether an earlier process, or an earlier write without a saved cursor, has written this snapshot."""
        return self.name in self._run.continued and subrun.has_stored(snapshot)

    def _choose_dir(self, run: RunInfo) -> Path:
        if self._given_dir is not None:
            return self._given_dir
        if (existing := run.existing(self.name)) is not None:
            return Path(existing)
        if configured := os.environ.get("TENSORBOARD_LOGGING_DIR"):
            return Path(configured).expanduser()
        return Path(run.output_dir or ".", "runs", run.name or run.id)

    def _scalars(self, snapshot: Snapshot) -> dict[str, dict[str, float]]:
        """Return for each sub-run its values by tag."""
        by_subrun = {"": snapshot.metrics} if self._layout == "flat" else self._by_subrun(snapshot.metrics)
        scalars = {
            name: {backend_name(key, snapshot.phase): value for key, value in metrics.items()}
            for name, metrics in by_subrun.items()
        }
        if self.name not in self._run.logged:
            numbers = {log: value for log, value in snapshot.logs.items() if isinstance(value, (int, float))}
            scalars[""].update((trainer_log_name(log), value) for log, value in numbers.items())
        return scalars

    def _by_subrun(self, metrics: Mapping[str, float]) -> Mapping[str, Mapping[str, float]]:
        """Return the metrics of each sub-run without the task in the key. Tasks without a sub-run keep the full key."""
        by_subrun: dict[str, dict[str, float]] = {"": {}}
        for key, value in metrics.items():
            task, name = split_key(key)
            name = name.replace("/", ".")
            if task and self._gets_subrun(task) and name not in by_subrun.setdefault(task, {}):
                by_subrun[task][name] = value
            else:
                by_subrun[""][key] = value
        return by_subrun

    def _gets_subrun(self, task: str) -> bool:
        """Return whether the task has a sub-run. Create one if the limit allows it."""
        if task not in self._subruns and len(self._subruns) <= MAX_SUBRUNS:
            self._subruns[task] = SubRun(self._subruns[""].directory / task, SUBRUN_SUFFIX)
        return task in self._subruns

    def _first_events(self, name: str) -> Iterator[Any]:
        """Yield the events at the beginning of a sub-run's first file."""
        # In a continued run, the points beyond the step belong to this run, so they must stay.
        if self._run.step and self.name not in self._run.continued and not self._is_attached(name):
            yield from restart_events(self._run.step)
        if not name and self._run.params and self._run.existing(self.name) is None:
            yield ScalarEvents().make({}, self._run.step, time.time(), [params_value(self._run.params)])

    def _is_attached(self, name: str) -> bool:
        """Return whether somebody else writes to this sub-run too. `write_restart` purges its points."""
        attached = self._run.attached.get(self.name)
        return not name and attached is not None and self._subruns[""].directory.resolve() == Path(attached).resolve()

    def _resume_subruns(self) -> None:
        """Purge all existing sub-runs, also of tasks that do not report again. Each task keeps its sub-run."""
        for path in sorted(self._subruns[""].directory.glob(f"*/*{SUBRUN_SUFFIX}")):
            task = path.parent.name
            if self._gets_subrun(task):
                self._subruns[task].open_file(self._first_events(task))


def _texts(snapshot: Snapshot) -> list[Any]:
    """Return the texts among the Trainer's logs, as values of an event."""
    return [text_value(trainer_log_name(log), value) for log, value in snapshot.logs.items() if isinstance(value, str)]
