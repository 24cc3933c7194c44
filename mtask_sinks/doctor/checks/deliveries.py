"""Checks of the delivery of a journal to the sinks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mtask_sinks._util.escaping import shell_word
from mtask_sinks._util.formatting import counted
from mtask_sinks.alerts.webhook import NAME_START, takes
from mtask_sinks.delivery.cursor import cursor_path, load_cursor
from mtask_sinks.delivery.status import SinkStatus
from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.recorded import RecordedTraining
from mtask_sinks.journal.lines import read_lines
from mtask_sinks.journal.records import fingerprint_of
from mtask_sinks.note import Note
from mtask_sinks.sinks.lookup import has_sink


def sink_in_trouble(recorded: RecordedTraining) -> Iterator[Observation]:
    """A sink of a running training is down, hung or behind."""
    for sink in recorded.sinks:
        if recorded.status == "running" and sink.is_in_trouble:
            waiting = counted(_waiting(recorded, sink), "alert" if _is_webhook(sink.name) else "snapshot", "wait")
            yield Observation(
                recorded.at(recorded.training.step),
                f"sink {sink.name} is {sink.state}{_error(sink)}; {waiting} in the journal.",
                "No metrics are lost: delivery continues when the backend answers again."
                + (f" To ask it now: mtask-sinks sinks --check {sink.name}." if has_sink(sink.name) else ""),
            )


def undelivered(recorded: RecordedTraining) -> Iterator[Observation]:
    """The training is over, but a sink has not received everything."""
    for sink in recorded.sinks:
        if recorded.status != "running" and _waiting(recorded, sink):
            yield Observation(
                recorded.at(recorded.training.step),
                f"sink {sink.name} {_undelivered(sink)}{_error(sink)}.",
                _replay(recorded, sink.name, ""),
            )


def rejected(recorded: RecordedTraining) -> Iterator[Observation]:
    """The backend of a sink rejected some snapshots."""
    for sink in recorded.sinks:
        if sink.rejected:
            yield Observation(
                recorded.at(recorded.training.step),
                f"the backend of sink {sink.name} rejected {counted(sink.rejected, 'snapshot')}{_error(sink)}.",
                "Fix the cause, then deliver again: " + _replay(recorded, sink.name, " --all"),
            )


def no_delivery(recorded: RecordedTraining) -> Iterator[Observation]:
    """No sink has delivered anything from the journal."""
    if not recorded.sinks and recorded.training.series:
        yield Observation(
            str(recorded.path),
            "no sink delivered anything: the metrics are in the journal only.",
            f"To deliver all of them: {_replay(recorded, 'tensorboard', '')} (or mlflow, or wandb).",
        )


def _waiting(recorded: RecordedTraining, sink: SinkStatus) -> int:
    """Return how many snapshots wait for a sink; for a webhook, which gets no snapshots, how many alerts."""
    return _alerts_left(recorded.path, sink.name) if _is_webhook(sink.name) else sink.pending


def _alerts_left(journal: Path, webhook: str) -> int:
    """Return how many alerts of a journal come after the cursor of a webhook that sends them."""
    with journal.open("rb") as file:
        cursor = load_cursor(cursor_path(journal, webhook), fingerprint_of(file.readline()))
        if cursor is None:
            return 0
        file.seek(cursor.offset)
        items = (line.item() for line in read_lines(file) if line.is_whole)
        return sum(isinstance(item, Note) and takes(webhook, item) for item in items)


def _undelivered(sink: SinkStatus) -> str:
    if _is_webhook(sink.name):
        return "has not delivered all alerts"
    return f"received {sink.delivered:,} of {counted(sink.delivered + sink.pending, 'snapshot')}"


def _is_webhook(name: str) -> bool:
    return name.startswith(NAME_START)


def _replay(recorded: RecordedTraining, name: str, options: str) -> str:
    if _is_webhook(name):
        return "A replay cannot deliver alerts later. To see all of them: mtask-sinks report."
    path = shell_word(str(recorded.path))
    if has_sink(name):
        return f"mtask-sinks replay {path} --to {name}{options}"
    what = ", what='all'" if options else ""
    return f"from mtask_sinks.delivery.replay import replay; replay({str(recorded.path)!r}, [the {name} sink]{what})"


def _error(sink: SinkStatus) -> str:
    return f" ({sink.error})" if sink.error else ""
