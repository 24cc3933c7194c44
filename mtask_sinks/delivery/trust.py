"""Finds out where a journal wants a replay to write, and whether this user has chosen that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from mtask_sinks.delivery.cursor import cursor_path, load_cursor
from mtask_sinks.delivery.own_record import OwnRecord
from mtask_sinks.delivery.run_targets import RunTargets
from mtask_sinks.errors import UntrustedJournalError
from mtask_sinks.journal.records import Begin
from mtask_sinks.journal.stream import JournalStream
from mtask_sinks.sinks.base import Sink


def check_trust(path: Path, stream: JournalStream, sinks: Sequence[Sink], *, use_targets: bool) -> None:
    """Raise an error if a journal names a place to write to that this user has not chosen.

    A journal may come from somebody else. A replay may write to new backend runs, to the directory of the journal, and
    to backend runs to which processes of this user have delivered this journal before.

    Args:
        path: the journal.
        stream: its lines.
        sinks: the sinks to deliver to.
        use_targets: whether the delivery goes to the backend runs that the journal and its cursors name.

    Raises:
        UntrustedJournalError: the message names the places, and what to do.
    """
    places = dict.fromkeys(_places_of_files(path, sinks))
    for sink in sinks:
        places.update(dict.fromkeys(untrusted_places(path, stream, sink, use_targets=use_targets)))
    if not places:
        return
    listed = list(places)[:3]
    more = f", and {len(places) - len(listed)} more" if len(places) > len(listed) else ""
    raise UntrustedJournalError(
        f"{path} may come from somebody else: it names {', '.join(listed)}{more}. If you trust it, run the same "
        "command with --trust (in Python: trust=True). To deliver it into new runs of your own, use --new."
    )


def untrusted_places(path: Path, stream: JournalStream, sink: Sink, *, use_targets: bool = True) -> Iterator[str]:
    """Yield the places to which a sink would write because the journal, and not this user, has chosen them."""
    cursor = load_cursor(cursor_path(path, sink.name), stream.fingerprint) if use_targets else None
    targets = RunTargets(stream, sink.name, dict(cursor.targets) if cursor else {}, use_journal=use_targets)
    own = OwnRecord()
    begins = {record.run.id: record for _, record in stream.run_records if isinstance(record, Begin)}
    for begin in begins.values():
        place = sink.chosen_by(targets.run_for_sink(begin)[0])
        if isinstance(place, Path):
            if not is_inside(place, path.parent):
                yield f"the directory {place}, which is outside of {path.parent}"
        elif place is not None and not own.holds(stream.fingerprint, sink.name, place):
            yield f"the run {place} of {sink.name}, to which you have not delivered this journal from this machine"


def is_inside(place: Path, directory: Path) -> bool:
    """Return whether a path and all entries in it are inside a directory. This follows symbolic links."""
    inside = directory.resolve()
    try:
        entries = [place, *(place.iterdir() if place.is_dir() else ())]
        return all(entry.resolve().is_relative_to(inside) for entry in entries)
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a name that no file system has
        return False


def _places_of_files(path: Path, sinks: Sequence[Sink]) -> Iterator[str]:
    for file in (path, *(cursor_path(path, sink.name) for sink in sinks)):
        if not is_inside(file, path.parent):
            yield f"the file {file.resolve()}, to which {file} is a link"
