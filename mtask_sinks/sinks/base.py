"""Defines `Sink`, the interface through which snapshots reach a tracking backend, a file or a plot."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from mtask_sinks.note import Note
from mtask_sinks.snapshot import RunInfo, Snapshot

Status = Literal["finished", "failed", "killed"]

#: How the names of the threads begin that call a sink. The name of the sink follows.
THREAD_NAME = "mtask-sinks-"

# A call of such a function runs nothing of it, and raises nothing.
_DEFERRED = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)


class Sink(ABC):
    """Writes snapshots to a tracking backend, a file or a plot.

    >>> class PrintSink(Sink):
    ...     name = "print"
    ...     def write(self, snapshot):
    ...         print(snapshot.step, snapshot.metrics)
    >>> PrintSink().write(Snapshot(step=10, metrics={"mlm/loss": 2.5}))
    10 {'mlm/loss': 2.5}

    A worker thread makes the calls, one at a time: `open`, then `write` for each snapshot, oldest first, `flush` now
    and then, and `close` at the end. The worker may open a sink again after `close`, perhaps in a new thread. With the
    same `RunInfo.id` the sink continues the run (an evaluation after training). With another id it begins a new run (a
    second training, the next trial of a search). If several trainers have the same sink object, it is closed for one
    trainer before it is opened for another. The training's thread calls `environment`, `replay_options` and
    `chosen_by`, perhaps while the worker is in another call.

    A sink may raise exceptions: they do not affect the training or other sinks. The type of the exception decides what
    the worker does next:

    * `Rejected`: the worker leaves out this snapshot.
    * `Forgotten`: it delivers the whole run again.
    * `NoSuchRun`: it repeats the call, until a later run begins in the journal. Then it leaves out the snapshots.
    * An HTTP error of urllib, requests or httpx with status 4xx (but not 408, 425 or 429): it leaves out this snapshot.
    * Any sign of an outage (an `OSError`, a time-out, an unknown error): it repeats the call until the call succeeds,
      however long that takes. Until then, snapshots wait in the journal, not in memory.

    Attributes:
        name: the sink's name in ``report_to``, and the key of its run in `RunInfo.attached` and `RunInfo.continued`.
            The file with the sink's progress has this name.
        can_replay: whether a replay of the journal can send missing snapshots to this sink.
    """

    name: ClassVar[str]
    can_replay: ClassVar[bool] = True

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for name in [name for name, function in vars(Sink).items() if inspect.isfunction(function)]:
            if any(is_deferred(getattr(cls, name)) for is_deferred in _DEFERRED):
                raise TypeError(
                    f"{cls.__name__}.{name} is a coroutine or a generator. The worker calls it without `await`, so its "
                    "code would never run. Write a plain function that calls asyncio.run(...)."
                )

    def open(self, run: RunInfo) -> None:  # noqa: B027  # not every sink has something to open
        """Prepare to write. If this raises, the worker calls it again.

        If ``run.step`` is above 0, the training was resumed from a checkpoint. If the sink writes to the same backend
        run as before, that run may hold steps beyond the checkpoint, and the training will report these steps again:
        drop either the old or the new ones.
        If ``self.name in run.continued``, for example after a crash or in a replay, the backend run may already hold
        some of the snapshots that `write` will get.
        """

    @abstractmethod
    def write(self, snapshot: Snapshot) -> None:
        """Write one snapshot.

        ``snapshot.metrics`` holds the task metrics, ``snapshot.logs`` the Trainer's own logs. Write the logs too,
        unless somebody else writes them to this backend (``self.name in run.logged``).
        """

    def note(self, note: Note) -> None:  # noqa: B027
        """Show or send a note, such as an alert, if the backend has a place for it. Replays do not call this."""

    def flush(self) -> None:  # noqa: B027
        """Store all written data where it survives the end of the process."""

    def close(self, status: Status) -> None:  # noqa: B027
        """Release what `open` acquired. End the backend's run with this status, unless the run is attached."""

    def target(self) -> str | None:
        """Return an identifier by which any process finds the open run. A later `open` gets it in ``run.continued``."""
        return None

    def survives(self) -> bool:
        """Return whether all flushed snapshots survive the end of this process. If not, they are delivered again."""
        return True

    def environment(self) -> Mapping[str, str]:
        """Return the environment variables with which another process finds this backend.

        A message shows them in the command that delivers the rest. If a value holds a password or a token, the message
        shows ``***`` instead, and asks the user to set the variable.
        """
        return {}

    def replay_options(self) -> Sequence[str]:
        """Return options of ``mtask-sinks replay`` with which another process makes the same sink."""
        return ()

    def chosen_by(self, run: RunInfo) -> Path | str | None:
        """Return the place to which ``open(run)`` would write, so that a replay can refuse a place of somebody else.

        Returns:
            The directory, for a sink that writes files; else the identifier of a backend run; ``None`` if the sink
            makes a new backend run, or if the user has chosen the place.
        """
        return run.existing(self.name)

    def check(self, run: RunInfo, seconds: float) -> str | None:
        """Ask the backend whether it could accept ``run`` now, without writing.

        The command ``mtask-sinks sinks --check`` calls this, without `open`.

        Args:
            run: the training that would write.
            seconds: time limit of the check.

        Returns:
            The place of the backend, in a few words; ``None`` if the sink has no check.

        Raises:
            NotReady: the backend is not ready. Any other exception means the same. Its message tells the user why.
        """
        return None


def check_are_sinks(given: object) -> None:
    """Raise an error for anything but a sequence of sinks that have names.

    >>> check_are_sinks(["tensorboard"])
    Traceback (most recent call last):
    TypeError: sinks=['tensorboard']: pass a list of objects such as TensorBoardSink(); names go to report_to.
    """
    if not isinstance(given, Sequence) or isinstance(given, str) or not all(isinstance(sink, Sink) for sink in given):
        raise TypeError(f"sinks={given!r}: pass a list of objects such as TensorBoardSink(); names go to report_to.")
    for sink in given:
        if not hasattr(sink, "name"):
            raise TypeError(f"{type(sink).__name__} has no name: write name = 'my_sink' in the class.")
