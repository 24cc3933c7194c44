"""TensorBoard."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from mtask_sinks.errors import Forgotten
from mtask_sinks.keys import backend_name, split_key, trainer_log_name
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.health import check_writable
from mtask_sinks.sinks.plugins import require_backend
from mtask_sinks.sinks.tensorboard.custom_scalars import Charts
from mtask_sinks.sinks.tensorboard.event_file import EventFile, read_events
from mtask_sinks.sinks.tensorboard.scalar_events import ScalarEvents
from mtask_sinks.snapshot import RunInfo, Snapshot

Layout = Literal["flat", "overlay"]

#: Tasks that get a sub-run of their own in the overlay layout. A sub-run costs a file and a write a snapshot.
MAX_SUBRUNS = 32

# Of file names: sub-runs are told from other runs, which may be in the same directory, by theirs.
_SUFFIX = ".mtask"
_SUBRUN_SUFFIX = f".task{_SUFFIX}"


class TensorBoardSink(Sink):
    """Scalars in TensorBoard's event files, grouped per task.

    >>> sink = TensorBoardSink("runs/bert")         # tags: mlm/train/loss, mlm/eval/loss, nsp/train/loss, ...

    Writes one event with all values of a snapshot: 0.3 us a value, where a loop of ``add_scalar`` costs 30-70 us. The
    file is the sink's own, in the directory of the Trainer's callback if there is one: TensorBoard shows both as one
    run. When a training goes on from a checkpoint into the directory it wrote to before, all points of that run beyond
    the checkpoint are purged (in an attached one when the training begins, so that what others have written since
    stays). If the directory is removed, it is made again with all points of the training.

    Args:
        log_dir: where to write; by default the directory of the Trainer's own TensorBoard callback, else
            ``TENSORBOARD_LOGGING_DIR``, else ``<output_dir>/runs/<name of the run>``.
        layout: ``"flat"`` writes ``mlm/train/loss``, one section a task. ``"overlay"`` writes ``train/loss`` to one
            sub-run a task, so that one chart draws all tasks, one colour each (TensorBoard colours by run, not by
            tag), and the list of runs becomes a filter of tasks. The first 32 tasks get a sub-run, further ones
            stay flat.
        custom_scalars: write a layout for TensorBoard's tab Custom Scalars: a chart a metric that lays all tasks over
            one another, and a chart a metric of each task that lays training and evaluations over one another. It is
            the run's one layout: pass ``False`` to keep one of your own.

    Values are stored as float32, as TensorBoard's scalars are.
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
            raise ValueError(f"layout={layout!r}: allowed are 'flat' and 'overlay'.")
        self._given_dir = None if log_dir is None else Path(log_dir)
        self._layout = layout
        self._dirs: dict[str, Path] = {}
        self._files: dict[str, EventFile] = {}
        #: Sub-runs with a first file since the training began; a file after that (an evaluation) is a plain sequel.
        self._begun: set[str] = set()
        self._charts = Charts() if custom_scalars else None
        self._events = ScalarEvents()
        self._run = RunInfo()
        #: Sub-run, step and time of the events that a run which is continued had before.
        self._stored: dict[str, set[tuple[int, float]]] = {}
        #: Sub-runs that have the snapshot at hand, if another one did not take it.
        self._taken: set[str] = set()

    def open(self, run: RunInfo) -> None:
        begins = (run.id, run.step) != (self._run.id, self._run.step)
        if run.id != self._run.id:
            self._dirs.clear()
            self._stored.clear()
        self._run = run
        self._dirs.setdefault("", self._choose_dir(run))
        if begins:
            self._begun.clear()
            self._forget_charts()
            if run.step and self._layout == "overlay":
                self._resume_subruns()

    def write(self, snapshot: Snapshot) -> None:
        self._check_files()
        others = [] if self.name in self._run.logged else _texts(snapshot)
        charts = None if self._charts is None else self._charts.with_metrics(snapshot.metrics, snapshot.phase)
        if charts is not None and charts != self._charts:
            others.append(charts.summary(self._layout == "overlay"))
        for subrun, scalars in self._scalars(snapshot).items():
            further = () if subrun else others
            if not (scalars or further) or subrun in self._taken or self._is_stored(subrun, snapshot):
                continue
            self._file(subrun).add(self._events.make(scalars, snapshot.step, snapshot.time, further))
            self._taken.add(subrun)
        self._taken.clear()
        self._charts = charts

    def _forget_charts(self) -> None:
        """Begin the layout anew, in a run that may have none."""
        self._charts = None if self._charts is None else Charts()

    def close(self, status: Status) -> None:
        files, self._files = self._files, {}
        for file in files.values():
            file.close()

    def target(self) -> str | None:
        return str(self._dirs[""].absolute()) if self._dirs else None

    def check(self, run: RunInfo, seconds: float) -> str | None:
        return f"{check_writable(self._choose_dir(run))} can be written"

    def _check_files(self) -> None:
        """Whatever removed a file most likely removed all: begin anew, and ask for what was in them."""
        if all(file.is_there() for file in self._files.values()):
            return
        self.close("failed")
        self._begun.clear()
        self._stored.clear()
        self._taken.clear()
        self._forget_charts()
        raise Forgotten(f"event files in {self._dirs['']} were removed")

    def _is_stored(self, subrun: str, snapshot: Snapshot) -> bool:
        """Whether this very snapshot was written by an earlier process, or before it was found to be undelivered."""
        if self.name not in self._run.continued:
            return False
        if subrun not in self._stored:
            suffix = _SUBRUN_SUFFIX if subrun else _SUFFIX
            events = read_events(self._dirs[subrun], suffix)
            self._stored[subrun] = {(event.step, event.wall_time) for event in events if event.HasField("summary")}
        return (snapshot.step, snapshot.time) in self._stored[subrun]

    def _choose_dir(self, run: RunInfo) -> Path:
        if self._given_dir is not None:
            return self._given_dir
        if (existing := run.existing(self.name)) is not None:
            return Path(existing)
        if configured := os.environ.get("TENSORBOARD_LOGGING_DIR"):
            return Path(configured).expanduser()
        return Path(run.output_dir or ".", "runs", run.name or run.id)

    def _scalars(self, snapshot: Snapshot) -> dict[str, dict[str, float]]:
        """Value by tag of each sub-run."""
        by_subrun = {"": snapshot.metrics} if self._layout == "flat" else self._by_subrun(snapshot.metrics)
        found = {
            subrun: {backend_name(key, snapshot.phase): value for key, value in values.items()}
            for subrun, values in by_subrun.items()
        }
        if self.name not in self._run.logged:
            numbers = {log: value for log, value in snapshot.logs.items() if isinstance(value, (int, float))}
            found[""].update((trainer_log_name(log), value) for log, value in numbers.items())
        return found

    def _by_subrun(self, metrics: Mapping[str, float]) -> Mapping[str, Mapping[str, float]]:
        found: dict[str, dict[str, float]] = {"": {}}
        for key, value in metrics.items():
            task, name = split_key(key)
            name = name.replace("/", ".")
            if task and self._has_subrun(task) and name not in found.setdefault(task, {}):
                found[task][name] = value
            else:
                found[""][key] = value
        return found

    def _has_subrun(self, task: str) -> bool:
        if task not in self._dirs and len(self._dirs) <= MAX_SUBRUNS:
            self._dirs[task] = self._dirs[""] / task
        return task in self._dirs

    def _file(self, subrun: str) -> EventFile:
        if subrun not in self._files:
            file = EventFile(self._dirs[subrun], _SUBRUN_SUFFIX if subrun else _SUFFIX)
            try:
                for event in self._first_events(subrun):
                    file.add(event)
            except OSError:
                file.close()
                file.path.unlink(missing_ok=True)
                raise
            self._files[subrun] = file
            self._begun.add(subrun)
        return self._files[subrun]

    def _first_events(self, subrun: str) -> Iterator[Any]:
        if subrun in self._begun:
            return
        # Not in a run that is continued: there the points beyond the step are this run's own.
        if self._run.step and self.name not in self._run.continued and not self._is_others(subrun):
            yield from restart_events(self._run.step)
        if not subrun and self._run.params and self._run.existing(self.name) is None:
            text = json.dumps(dict(self._run.params), indent=2, default=str)
            # Indented lines are code in Markdown, which is how TensorBoard shows text.
            code = "".join(f"\t{line}\n" for line in text.splitlines())
            yield ScalarEvents().make({}, self._run.step, time.time(), [_text("params", code)])

    def _is_others(self, subrun: str) -> bool:
        """Whether somebody else writes to the sub-run too, and so purges it."""
        attached = self._run.attached.get(self.name)
        return not subrun and attached is not None and self._dirs[""].resolve() == Path(attached).resolve()

    def _resume_subruns(self) -> None:
        """Purge every sub-run there is, also those of tasks that will not report again, and keep each task's place."""
        for path in sorted(self._dirs[""].glob(f"*/*{_SUBRUN_SUFFIX}")):
            if self._has_subrun(path.parent.name):
                self._file(path.parent.name)


def _texts(snapshot: Snapshot) -> list[Any]:
    """What the Trainer logged that is no number, as values of an event."""
    return [_text(trainer_log_name(log), value) for log, value in snapshot.logs.items() if isinstance(value, str)]


def _text(tag: str, text: str) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    tensor = TensorProto(dtype="DT_STRING", string_val=[text.encode()], tensor_shape=shape)
    return Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=tensor)


def write_restart(directory: Path, step: int) -> None:
    """Make TensorBoard forget all points beyond ``step`` that a directory holds so far; raises `OSError`."""
    file = EventFile(directory, _SUFFIX)
    try:
        for event in restart_events(step):
            file.add(event)
    finally:
        file.close()


def restart_events(step: int) -> list[Any]:
    """What makes TensorBoard forget all points of a run beyond ``step``, of the files that it has read so far.

    It reads the files of a run in the order of their names, which begin with the second of their making.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    start = Event(step=step + 1, wall_time=time.time(), session_log=SessionLog(status=SessionLog.START))
    # Twice: with --load_fast=false the first of a run counts as its beginning and purges nothing.
    return [start, start]
