"""Checks of how a training ended, and of its journal."""

from __future__ import annotations

from collections.abc import Iterator

from mtask_sinks._util.escaping import shell_word
from mtask_sinks._util.formatting import counted
from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.recorded import RecordedTraining, UnreadableJournal


def failed(recorded: RecordedTraining) -> Iterator[Observation]:
    """The training failed, or was killed."""
    if recorded.status in ("failed", "killed"):
        how = {"failed": "raised an error or got SIGTERM", "killed": "was killed (out of memory? a scheduler?)"}
        yield Observation(
            recorded.at(recorded.training.step),
            f"the training {how[recorded.status]} after step {recorded.training.step:,}.",
            "trainer.train(resume_from_checkpoint=True) continues from the last checkpoint, in the same journal.",
        )


def elsewhere(recorded: RecordedTraining) -> Iterator[Observation]:
    """The training began on another machine, and the journal does not say that it ended."""
    if recorded.host is not None:
        run = f"{recorded.given}:{recorded.training.number}" if recorded.others else recorded.given
        yield Observation(
            recorded.at(recorded.training.step),
            f"the training began on {recorded.host}, and the journal does not say that it ended: it still runs, "
            "or it was killed.",
            f"Run this on {recorded.host}: mtask-sinks doctor {shell_word(run)}",
        )


def torn_lines(recorded: RecordedTraining) -> Iterator[Observation]:
    """The journal has incomplete lines, as after a crash or a full disk."""
    if recorded.unreadable:
        first, n = recorded.unreadable[0], len(recorded.unreadable)
        yield Observation(
            f"{recorded.path}:{first}",
            f"{counted(n, 'line', 'hold')} no complete record, from line {first} on: their contents are lost.",
            "You need not do anything: readers skip such lines, and the next training in this journal cuts off an "
            "incomplete end.",
        )


def nothing_but_torn_lines(journal: UnreadableJournal) -> Iterator[Observation]:
    """The journal has lines, and no training can be read."""
    first, n = journal.unreadable[0], len(journal.unreadable)
    yield Observation(
        f"{journal.path}:{first}",
        f"{counted(n, 'line')} cannot be read, from line {first} on, and no other line belongs to a training.",
        "If you have a copy of the journal, put it back. The sinks still have what they received. If the file is no "
        "journal, give it another name.",
    )


def several_trainings(recorded: RecordedTraining) -> Iterator[Observation]:
    """There are several trainings, and only one was examined."""
    if recorded.others:
        others, n = ", ".join(recorded.others), len(recorded.others)
        yield Observation(
            str(recorded.path),
            f"{recorded.given} holds {counted(n, 'more training')}: {others}. These findings are about "
            f"{recorded.name}.",
            f"Choose one: mtask-sinks doctor {shell_word(f'{recorded.given}:{recorded.other_numbers[0]}')}.",
        )
