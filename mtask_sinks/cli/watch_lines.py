"""Prints one line per new item of a journal, for ``mtask-sinks watch --follow``."""

from __future__ import annotations

import time
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import typer

from mtask_sinks._util.escaping import printable
from mtask_sinks._util.formatting import number
from mtask_sinks._util.shown import shown
from mtask_sinks.analysis.axes import STEP, places
from mtask_sinks.cli.formatting import print_json
from mtask_sinks.cli.watch_axis import axis_note, place_text
from mtask_sinks.journal.records import Begin, End, Item
from mtask_sinks.note import Note
from mtask_sinks.patterns import no_match
from mtask_sinks.snapshot import Snapshot

if TYPE_CHECKING:
    from mtask_sinks.analysis.progress import Watch
    from mtask_sinks.analysis.training import Training
    from mtask_sinks.cli.watch_screen import WatchedTrainings


def print_lines(trainings: WatchedTrainings, interval: float, as_json: bool) -> None:
    """Print one line per new item of the shown training's journal, from now on, until Ctrl-C.

    If another journal takes the place of the shown one, print also what was written to it since this call. Of a
    snapshot, print the metrics that the user wants to see. If it has only others, print no line for it.
    """
    began, watched = time.time(), trainings.watch
    for _ in watched.update():
        pass
    noted: list[str] = []
    while True:
        _print_new(watched, as_json)
        trainings.search_if_due()
        if trainings.watch is not watched:
            _print_new(watched, as_json)  # its last items may have been written just before the search
            watched = trainings.watch
            _print_new(watched, as_json, since=began)
        notes = _notes(watched, watched.training) if watched.training is not None else []
        for note in notes:
            if note not in noted:
                typer.echo(shown(note), err=True)
        noted = notes
        time.sleep(interval)


def _print_new(watched: Watch, as_json: bool, since: float = 0.0) -> None:
    """Print what is new in a journal, without items from before a time."""
    for training, item in watched.update():
        if item.time < since:
            continue
        if isinstance(item, Snapshot) and item.metrics:
            item = matching(item, watched.only)
            if not item.metrics:
                continue
        x, _ = watched.axis_of(training)
        if as_json:
            print_json(_record(training, item, x))
        else:
            typer.echo(shown(item_line(training, item, x)))


def _notes(watched: Watch, training: Training) -> list[str]:
    """Return why the user does not see what the options ask for."""
    error = watched.axis_of(training)[1]
    notes = [axis_note(error)] if error else []
    keys = list(dict.fromkeys(series.key for series in training.series.values()))
    if keys and not any(fnmatchcase(key, watched.only) for key in keys):
        notes.append(f"--only: {no_match(watched.only, keys)}")
    return notes


def matching(snapshot: Snapshot, pattern: str) -> Snapshot:
    """Return a snapshot with only the metrics whose keys match a shell pattern.

    >>> matching(Snapshot(10, metrics={"mlm/loss": 2.5, "nsp/loss": 0.7}), "mlm/*").metrics
    {'mlm/loss': 2.5}
    """
    metrics = {key: value for key, value in snapshot.metrics.items() if fnmatchcase(key, pattern)}
    counts = {key: count for key, count in snapshot.counts.items() if fnmatchcase(key, pattern)}
    return replace(snapshot, metrics=metrics, counts=counts)


def item_line(training: Training, item: Item, x: str = STEP) -> str:
    """Return an item of a journal, the last one of its training, as one line of text.

    Args:
        training: the training, which includes the item.
        item: the item.
        x: the axis on which the line tells the place of a snapshot.
    """
    name = printable(training.name or f"training {training.number}")
    if isinstance(item, Begin):
        if any((each.run.id, each.run.step) == (item.run.id, item.run.step) for each in training.begins[:-1]):
            return f"{name}  goes on"  # with an evaluation after the training, or in another run of a backend
        return f"{name}  resumed at step {item.run.step:,}" if item.run.step else f"{name}  begins"
    if isinstance(item, End):
        return f"{name}  {item.status}"
    if isinstance(item, Note):
        return f"{name}  step {item.step:,}  {item.text}"
    values = "  ".join(f"{key} {number(value)}" for key, value in item.metrics.items())
    place = f"{printable(x)} {place_text(x, _last_place(training, x))}"
    phase = printable(item.phase) + (" (partial)" if item.is_partial else "")
    return f"{name}  {place}  {phase}  {printable(values) or '-'}"


def _last_place(training: Training, x: str) -> float | None:
    return places(training, x, [len(training.steps) - 1])[0]


def _record(training: Training, item: Item, x: str) -> dict[str, Any]:
    record: dict[str, Any] = {"training": training.number, "name": training.name, "event": "snapshot"}
    if isinstance(item, Begin):
        record |= {"event": "begin", "step": item.run.step, "time": item.time}
    elif isinstance(item, End):
        record |= {"event": "end", "status": item.status, "time": item.time}
    elif isinstance(item, Note):
        record |= {"event": item.kind, "step": item.step, "time": item.time, "text": item.text, "data": dict(item.data)}
    else:
        for part in ("phase", "step", "epoch", "time", "metrics", "counts"):
            record[part] = getattr(item, part)
        record |= {"partial": item.is_partial, "x": x, "x_value": _last_place(training, x)}
    return record
