"""TensorBoard."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mtask_sinks.keys import backend_name, split_key, trainer_log_name
from mtask_sinks.sinks.base import Sink, Status
from mtask_sinks.sinks.plugins import require_backend
from mtask_sinks.snapshot import RunInfo, Snapshot

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

Layout = Literal["flat", "overlay"]

#: Tasks that get a sub-run of their own in the overlay layout. A sub-run costs a file, a thread and 120 us a scalar.
MAX_SUBRUNS = 32

# Of file names: sub-runs are told from other runs, which may be in the same directory, by theirs.
_SUFFIX = ".mtask"
_SUBRUN_SUFFIX = f".task{_SUFFIX}"


class TensorBoardSink(Sink):
    """Scalars in TensorBoard's event files, grouped per task.

    >>> sink = TensorBoardSink("runs/bert")         # tags: mlm/train/loss, mlm/eval/loss, nsp/train/loss, ...

    Writes one event with all values of a snapshot: 4-8 us a value, where a loop of ``add_scalar`` costs 32-72 us. The
    file is the sink's own, in the directory of the Trainer's callback if there is one: TensorBoard shows both as one
    run. When a training goes on from a checkpoint into the directory it wrote to before, all points of that run beyond
    the checkpoint are purged, in an attached run also those of the Trainer's callback (through the callback's own file:
    an event in this sink's would purge what the callback has written since).

    Args:
        log_dir: where to write; by default the directory of the Trainer's own TensorBoard callback, else
            ``TENSORBOARD_LOGGING_DIR``, else ``<output_dir>/runs/<name of the run>``.
        layout: ``"flat"`` writes ``mlm/train/loss``, one section a task. ``"overlay"`` writes ``train/loss`` to one
            sub-run a task, so that one chart draws all tasks, one colour each (TensorBoard colours by run, not by
            tag), and the list of runs becomes a filter of tasks. The first 32 tasks get a sub-run, further ones
            stay flat.

    Values are stored as float32, as TensorBoard's scalars are.
    """

    name = "tensorboard"

    def __init__(self, log_dir: str | os.PathLike[str] | None = None, *, layout: Layout = "flat") -> None:
        require_backend(self.name)
        if layout not in ("flat", "overlay"):
            raise ValueError(f"layout={layout!r}: allowed are 'flat' and 'overlay'.")
        self._given_dir = None if log_dir is None else Path(log_dir)
        self._layout = layout
        self._dirs: dict[str, Path] = {}
        self._writers: dict[str, EventFileWriter] = {}
        #: Sub-runs with a first file since the training began; a file after that (an evaluation) is a plain sequel.
        self._begun: set[str] = set()
        self._run = RunInfo()

    def open(self, run: RunInfo) -> None:
        begins = (run.id, run.step) != (self._run.id, self._run.step)
        if run.id != self._run.id:
            self._dirs.clear()
        self._run = run
        self._dirs.setdefault("", self._choose_dir(run))
        if begins:
            self._begun.clear()
            if run.step and self._layout == "overlay":
                self._resume_subruns()

    def write(self, snapshot: Snapshot) -> None:
        by_subrun: dict[str, dict[str, float]] = {}
        for subrun, tag, value in self._scalars(snapshot):
            by_subrun.setdefault(subrun, {})[tag] = value
        for subrun, scalars in by_subrun.items():
            self._writer(subrun).add_event(_event(scalars, snapshot))
        self.flush()

    def flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()

    def close(self, status: Status) -> None:
        writers, self._writers = self._writers, {}
        for writer in writers.values():
            writer.close()

    def _choose_dir(self, run: RunInfo) -> Path:
        if self._given_dir is not None:
            return self._given_dir
        if self.name in run.attached:
            return Path(run.attached[self.name])
        if configured := os.environ.get("TENSORBOARD_LOGGING_DIR"):
            return Path(configured).expanduser()
        return Path(run.output_dir or ".", "runs", run.name or run.id)

    def _scalars(self, snapshot: Snapshot) -> Iterator[tuple[str, str, float]]:
        """Sub-run, tag and value of everything to be written."""
        for key, value in snapshot.metrics.items():
            task, name = split_key(key)
            if task and self._layout == "overlay" and self._has_subrun(task):
                yield task, backend_name(name.replace("/", "."), snapshot.phase), value
            else:
                yield "", backend_name(key, snapshot.phase), value
        if self.name not in self._run.attached:
            for log, value in snapshot.logs.items():
                if isinstance(value, (int, float)):
                    yield "", trainer_log_name(log), value

    def _has_subrun(self, task: str) -> bool:
        if task not in self._dirs and len(self._dirs) <= MAX_SUBRUNS:
            self._dirs[task] = self._dirs[""] / task
        return task in self._dirs

    def _writer(self, subrun: str) -> EventFileWriter:
        if subrun not in self._writers:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter

            suffix = _SUBRUN_SUFFIX if subrun else _SUFFIX
            writer = EventFileWriter(str(self._dirs[subrun]), filename_suffix=suffix)
            self._writers[subrun] = writer
            if subrun not in self._begun:
                self._begun.add(subrun)
                for event in self._first_events(subrun):
                    writer.add_event(event)
        return self._writers[subrun]

    def _first_events(self, subrun: str) -> Iterator[Any]:
        if self._run.step and not self._is_others(subrun):
            yield from restart_events(self._run.step)
        if not subrun and self.name not in self._run.attached and self._run.params:
            yield _text("params", json.dumps(dict(self._run.params), indent=2, default=str), self._run.step)

    def _is_others(self, subrun: str) -> bool:
        """Whether somebody else writes to the sub-run too, and so purges it."""
        attached = self._run.attached.get(self.name)
        return not subrun and attached is not None and self._dirs[""].resolve() == Path(attached).resolve()

    def _resume_subruns(self) -> None:
        """Purge every sub-run there is, also those of tasks that will not report again, and keep each task's place."""
        for path in sorted(self._dirs[""].glob(f"*/*{_SUBRUN_SUFFIX}")):
            if self._has_subrun(path.parent.name):
                self._writer(path.parent.name)


def _event(scalars: dict[str, float], snapshot: Snapshot) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
    return Event(wall_time=snapshot.time, step=snapshot.step, summary=Summary(value=values))


def restart_events(step: int) -> list[Any]:
    """What makes TensorBoard forget all points of a run beyond ``step``, of the files that it has read so far.

    It reads the files of a run in the order of their names, which begin with the second of their making.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog

    start = Event(step=step + 1, wall_time=time.time(), session_log=SessionLog(status=SessionLog.START))
    # Twice: with --load_fast=false the first of a run counts as its beginning and purges nothing.
    return [start, start]


def _text(tag: str, text: str, step: int) -> Any:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))
    shape = TensorShapeProto(dim=[TensorShapeProto.Dim(size=1)])
    # Indented lines are code in Markdown, which is how TensorBoard shows text.
    code = "".join(f"\t{line}\n" for line in text.splitlines())
    tensor = TensorProto(dtype="DT_STRING", string_val=[code.encode()], tensor_shape=shape)
    value = Summary.Value(tag=f"{tag}/text_summary", metadata=metadata, tensor=tensor)
    return Event(step=step, wall_time=time.time(), summary=Summary(value=[value]))
