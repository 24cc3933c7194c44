"""Writes metrics to TensorBoard."""

from __future__ import annotations

import itertools
import math
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from mtask_sinks._util.built_anew import BuiltAnew
from mtask_sinks._util.escaping import printable
from mtask_sinks._util.links import refuse_foreign_links
from mtask_sinks._util.schemes import has_scheme
from mtask_sinks.errors import Forgotten
from mtask_sinks.keys import OVERALL, backend_name, digest, split_key, trainer_log_name
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.health import check_writable
from mtask_sinks.sinks.lookup import require_backend
from mtask_sinks.sinks.tensorboard.custom_scalars import Charts
from mtask_sinks.sinks.tensorboard.relative import RelativeValues, relative_tag
from mtask_sinks.sinks.tensorboard.restart import mark_open, restart_events
from mtask_sinks.sinks.tensorboard.scalar_events import ScalarEvents
from mtask_sinks.sinks.tensorboard.subrun import RUN_SUFFIX, SUBRUN_SUFFIX, SubRun
from mtask_sinks.sinks.tensorboard.text_values import params_value, text_value
from mtask_sinks.snapshot import RunInfo, Snapshot

Layout = Literal["flat", "overlay"]

#: Largest number of tasks with a sub-run in the overlay layout. Each sub-run costs one file and one write per snapshot.
MAX_SUBRUNS = 32


#: Most file systems accept names of up to this many bytes.
MAX_FOLDER_SIZE = 255

_IS_WINDOWS = os.name == "nt"
# What no name of a folder may contain there, and the names of devices, which no folder may have, also with an ending.
_NOT_ON_WINDOWS = re.compile(r'[<>"|?*]|[. ]$')
_DEVICE = re.compile(r"^(aux|con|nul|prn|com\d|lpt\d)(?=\.|$)", re.IGNORECASE)


class TensorBoardSink(BuiltAnew, Sink):
    """Writes scalars to TensorBoard event files, grouped per task.

    >>> sink = TensorBoardSink("runs/bert")         # tags: mlm/train/loss, mlm/eval/loss, nsp/train/loss, ...

    The sink writes one event with all values of a snapshot. This costs 0.3 us per value; a loop of ``add_scalar`` costs
    30-70 us per value. The sink has its own file. If the Trainer has a TensorBoard callback, the file is in the
    callback's directory, so TensorBoard shows both as one run. If training resumes into the directory to which it wrote
    before, the sink makes TensorBoard purge all points of that run beyond the checkpoint. (It does so when it opens its
    file. If the Trainer's callback writes there too, it does so when training begins, so that later points of the
    callback stay.) If somebody removes the directory, the sink creates it again with all points of the training.

    Args:
        log_dir: directory to write to; by default the directory of the Trainer's own TensorBoard callback, else
            ``TENSORBOARD_LOGGING_DIR``, else ``<output_dir>/runs/<name of the run>``. If that directory already has
            event files, a new training writes to ``<name>-2``, the next one to ``<name>-3``.
        layout: ``"flat"`` writes ``mlm/train/loss``, one section per task. ``"overlay"`` writes ``train/loss`` to one
            sub-run per task, so that one chart shows all tasks, each in its own color (TensorBoard colors by run, not
            by tag), and the list of runs becomes a filter of tasks. The first 32 tasks get a sub-run; further tasks
            stay flat.
        custom_scalars: write a layout for TensorBoard's tab Custom Scalars: one chart per metric and phase with the
            curves of all tasks, and (only with ``flat``) one chart per metric of each task with the curves of training
            and evaluations. If the losses (or other values whose smaller ones are better) of tasks differ a lot,
            another chart shows them relative to their first values. A run can have only one such layout. Pass ``False``
            to keep your own.

    Raises:
        TypeError, ValueError: an argument is not allowed.
        MissingBackendError: the package tensorboard is not installed.

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
        if not isinstance(custom_scalars, bool):
            raise TypeError(f"custom_scalars={custom_scalars!r}: pass True or False.")
        if not isinstance(log_dir, str | os.PathLike | None):
            raise TypeError(f"log_dir={log_dir!r}: pass the path of a directory, or nothing for the default one.")
        # Absolute, because the working directory may change.
        self._given_dir = None if log_dir is None else _local_path(log_dir, "log_dir").absolute()
        self._layout = layout
        self._charts = Charts() if custom_scalars else None
        self._relative = RelativeValues()
        self._events = ScalarEvents()
        self._run = RunInfo()
        #: Task → its sub-run; under the empty string, the run itself. Before the first `open`, the dict is empty.
        self._subruns: dict[str, SubRun] = {}

    def _settings(self) -> dict[str, Any]:
        return {"log_dir": self._given_dir, "layout": self._layout, "custom_scalars": self._charts is not None}

    def open(self, run: RunInfo) -> None:
        before, directories = self._run, self._directories()
        is_other = not self._subruns or run.id != before.id
        if is_other:
            directory = self._choose_dir(run).absolute()
            if run.output_dir is not None:
                refuse_foreign_links(directory, Path(run.output_dir).absolute())
            directories = {"": directory}
        self._run = run
        if not is_other and run.step == before.step:
            return
        self._begin(directories)
        if run.step and self._layout == "overlay":
            try:
                self._resume_subruns()
            except OSError:
                self._run = before  # so that the next try starts from the beginning
                raise

    def write(self, snapshot: Snapshot) -> None:
        self._check_files()
        others = [] if self.name in self._run.logged else _texts(snapshot)
        relative = {} if self._charts is None else self._relative.add(snapshot)
        charts = None
        if self._charts is not None:
            charts = self._charts.with_metrics(snapshot.metrics, snapshot.phase).with_relative(relative, snapshot.phase)
            if charts != self._charts:
                others.append(charts.summary(self._layout == "overlay"))
        for name, scalars in self._scalars(snapshot, relative).items():
            subrun = self._subruns[name]
            further = () if name else others
            if not (scalars or further) or subrun.has_snapshot or self._is_stored(name, snapshot):
                continue
            subrun.open_file(self._first_events(name))
            event = self._events.make(scalars, snapshot.step, snapshot.time, further)
            is_open = snapshot.is_partial or snapshot.phase == OVERALL  # a training resumed here continues it
            subrun.write(mark_open(event) if is_open else event)
        if self._charts is not None:  # a resumed training needs them, even if no value is relative yet
            self._relative.save(self._subruns[""].directory)
        for subrun in self._subruns.values():
            subrun.has_snapshot = False
        self._charts = charts

    def close(self, status: Status) -> None:
        for subrun in self._subruns.values():
            subrun.close_file()

    def target(self) -> str | None:
        return str(self._subruns[""].directory) if self._subruns else None

    def environment(self) -> Mapping[str, str]:
        directory = self._given_dir or os.environ.get("TENSORBOARD_LOGGING_DIR")
        return {"TENSORBOARD_LOGGING_DIR": str(Path(directory).expanduser().absolute())} if directory else {}

    def replay_options(self) -> Sequence[str]:
        return ("--tensorboard-layout", self._layout) if self._layout != "flat" else ()

    def chosen_by(self, run: RunInfo) -> Path | None:
        directory = self._choose_dir(run)
        by_user = self._given_dir or os.environ.get("TENSORBOARD_LOGGING_DIR")
        try:
            is_of_user = by_user and directory.resolve().is_relative_to(Path(by_user).expanduser().resolve())
        except (OSError, RuntimeError, ValueError):  # not a valid path
            is_of_user = False
        return None if is_of_user else directory

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
        self._relative = RelativeValues(self._run)
        # The files of an earlier process get further points: those of the same run, or of an evaluation.
        adds = self.name in self._run.continued or not self._run.is_training
        if self._run.step or adds:
            self._relative.load(directories[""], math.inf if adds else self._run.step)
            if self._charts is not None:
                self._charts = self._stored_charts(self._charts)

    def _stored_charts(self, charts: Charts) -> Charts:
        """Add the charts of the metrics in earlier files: TensorBoard shows only the last layout of a run."""
        root = self._subruns[""]
        charts = charts.with_tags(root.stored_tags())
        for task in sorted({path.parent.name for path in root.directory.glob(f"*/*{SUBRUN_SUFFIX}")}):
            charts = charts.with_tags(SubRun(root.directory / task, SUBRUN_SUFFIX).stored_tags(), task)
        return charts

    def _directories(self) -> dict[str, Path]:
        return {name: subrun.directory for name, subrun in self._subruns.items()}

    def _check_files(self) -> None:
        """If somebody damaged a file, begin new files and raise `Forgotten`: the worker delivers the whole run again.

        It delivers the whole run, because most likely all files are lost.
        """
        if not any(subrun.is_damaged() for subrun in self._subruns.values()):
            return
        self._begin(self._directories())
        raise Forgotten(f"somebody removed or changed event files in {self._subruns[''].directory}")

    def _is_stored(self, name: str, snapshot: Snapshot) -> bool:
        """Return whether an earlier file holds this snapshot, and TensorBoard shows it.

        That is so if an earlier process wrote it, if the process was killed after the write, before it saved its
        position, or if somebody damaged only some of the files. A snapshot without a time cannot be told apart from
        others.
        """
        may_be_stored = self.name in self._run.continued or snapshot.time > 0
        return may_be_stored and self._subruns[name].has_stored(snapshot) and not self._restarts(name)

    def _choose_dir(self, run: RunInfo) -> Path:
        if self._given_dir is not None:
            return self._given_dir
        if (existing := run.existing(self.name)) is not None:
            return _local_path(existing, "the directory of the run")
        if configured := os.environ.get("TENSORBOARD_LOGGING_DIR"):
            return _local_path(configured, "TENSORBOARD_LOGGING_DIR").expanduser()
        return _own_directory(
            Path(run.output_dir or ".", "runs", *_folders(run.name or run.id)),
            is_new=run.is_training and not run.step,
            resumed=run.resumed.get(self.name),
        )

    def _scalars(self, snapshot: Snapshot, relative: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """Return for each sub-run its values by tag, with the relative values of some metrics."""
        by_subrun = {"": snapshot.metrics} if self._layout == "flat" else self._by_subrun(snapshot.metrics)
        scalars = {
            name: {backend_name(key, snapshot.phase): value for key, value in metrics.items()}
            for name, metrics in by_subrun.items()
        }
        for key, value in relative.items():
            task, name = split_key(key)
            in_subrun = task in by_subrun and name.replace("/", ".") in by_subrun[task]
            tag = relative_tag(snapshot.phase, name.replace("/", "."), "" if in_subrun else task)
            scalars[task if in_subrun else ""][tag] = value
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
        if _folders(task) != [task]:
            return False
        if task not in self._subruns and len(self._subruns) <= MAX_SUBRUNS:
            self._subruns[task] = SubRun(self._subruns[""].directory / task, SUBRUN_SUFFIX)
        return task in self._subruns

    def _first_events(self, name: str) -> Iterator[Any]:
        """Yield the events at the beginning of a sub-run's first file."""
        if self._restarts(name):
            yield from restart_events(self._run.step, self._subruns[name].directory)
        if not name and self._run.params and self._run.existing(self.name) is None:
            yield ScalarEvents().make({}, self._run.step, time.time(), [params_value(self._run.params)])

    def _restarts(self, name: str) -> bool:
        """Return whether the first file of a sub-run makes TensorBoard purge the points beyond the checkpoint.

        If this continues a run (a replay), these points are the run's own, so they must stay. If the Trainer's callback
        writes here too, they are purged when training begins.
        """
        attached = self._run.attached.get(self.name)
        if not self._run.step or self.name in self._run.continued:
            return False
        return bool(name) or attached is None or self._subruns[""].directory.resolve() != Path(attached).resolve()

    def _resume_subruns(self) -> None:
        """Purge the points beyond the checkpoint in all sub-runs, even if their tasks will not report again.

        Each of these tasks keeps its sub-run.
        """
        for path in sorted(self._subruns[""].directory.glob(f"*/*{SUBRUN_SUFFIX}")):
            task = path.parent.name
            if self._gets_subrun(task):
                self._subruns[task].open_file(self._first_events(task))


def _folders(name: str) -> list[str]:
    """Return the folders for a run or a task of this name. They never lead out of the parent folder.

    >>> _folders("me/bert"), _folders("../../x"), _folders("/etc"), _folders("..")
    (['me', 'bert'], ['x'], ['etc'], ['unnamed'])
    """
    parts = re.split(r"[/\\:]" if _IS_WINDOWS else "/", name)
    safe = [printable(part) for part in parts if part not in ("", ".", "..")] or ["unnamed"]
    if _IS_WINDOWS:
        safe = [_DEVICE.sub(r"\1_", _NOT_ON_WINDOWS.sub("_", part)) for part in safe]
    return [part if len(part.encode()) <= MAX_FOLDER_SIZE else f"{part[:50]}-{digest(part)}" for part in safe]


def _texts(snapshot: Snapshot) -> list[Any]:
    """Return the texts among the Trainer's logs, as values of an event."""
    return [text_value(trainer_log_name(log), value) for log, value in snapshot.logs.items() if isinstance(value, str)]


def _local_path(place: str | os.PathLike[str], name: str) -> Path:
    """Return a directory as a path.

    Raises:
        ValueError: it is in an object store.
    """
    if has_scheme(place):
        message = "TensorBoardSink writes to local directories only. Pass one: TensorBoardSink('runs')."
        raise ValueError(f"{name}={str(place)!r}: {message}")
    return Path(place)


def _own_directory(first: Path, is_new: bool, resumed: str | None) -> Path:
    """Return the directory of a training: ``first``, or ``first`` with "-2", "-3", … at the end of its name.

    Args:
        first: the directory that the training would like to have.
        is_new: whether the training is new. If so, return the first of these directories without event files, else the
            last of them with event files. A new training also passes over links, which could lead anywhere.
        resumed: the directory of the training that this one resumes. If it still has event files, return it.
    """
    numbered = (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))
    if not is_new:
        # By its name, because somebody may have moved the output directory.
        name = None if resumed is None else Path(resumed).name
        for own in (each for each in first.parent.glob("*") if each.name == name and _has_events(each)):
            return own
        return [first, *itertools.takewhile(_has_events, itertools.chain([first], numbered))][-1]
    if not _has_events(first):
        return first
    return next(each for each in numbered if not (_has_events(each) or each.is_symlink()))


def _has_events(directory: Path) -> bool:
    return any(directory.glob("*tfevents*"))
