"""Opens the trainings that ``DIR``, ``DIR:N`` or ``DIR:name`` name, and gives each one its own label."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from mtask_sinks._util.formatting import short
from mtask_sinks.analysis.choice import choose
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.analysis.find import find_journals, find_readable_journals, run_path, warn_left_out
from mtask_sinks.analysis.training import Training
from mtask_sinks.errors import NoTrainingError


@dataclass(frozen=True)
class LabelledTraining:
    """A training, with a label that distinguishes it from the others.

    Attributes:
        label: a name that none of the others has.
        journal: the file that holds the training.
        training: the training.
        left_out: how many other trainings its journal has, if the user named none of them, only the journal.
    """

    label: str
    journal: Path
    training: Training
    left_out: int = 0


def check_runs(function: str, runs: object) -> None:
    """Raise a TypeError if an argument of a function is not what `open_runs` returns.

    >>> check_runs("make_report", "out")
    Traceback (most recent call last):
    ...
    TypeError: make_report('out'): pass the list that open_runs([output_dir]) returns.
    """
    if not (isinstance(runs, Sequence) and all(isinstance(run, LabelledTraining) for run in runs)):
        raise TypeError(f"{function}({short(runs)}): pass the list that open_runs([output_dir]) returns.")


class _Opened(NamedTuple):
    journal: Path
    training: Training
    left_out: int


def open_run(run: str | os.PathLike[str]) -> Training:
    """Open the training that ``DIR``, ``DIR:N`` or ``DIR:name`` names.

    ``DIR`` alone means the last training in the journal. If the directory has no journal, it means the last training in
    the newest journal below it. A path that exists counts as a path even if it contains a colon.

    Raises:
        NoJournalError: there is no such journal.
        OSError: the journal cannot be read.
        NoTrainingError: the journal has no such training, or several of that name.
    """
    return _open(run).training


def _open(run: str | os.PathLike[str]) -> _Opened:
    path, which = split_run(run)
    newest = find_readable_journals(path)[-1].path
    trainings = read_trainings(newest if which is None else path)
    training = choose(trainings, which, path)
    return _Opened(training.journal or newest, training, len(trainings) - 1 if which is None else 0)


def split_run(run: str | os.PathLike[str]) -> tuple[str, str | None]:
    """Split ``DIR:N`` into the path and the chosen training, which is ``None`` if the user chose none.

    >>> split_run("out"), split_run("out:2"), split_run("out/metrics.jsonl:bert")
    (('out', None), ('out', '2'), ('out/metrics.jsonl', 'bert'))
    """
    text = os.fspath(run)
    parts = text.split(":")
    # Take the longest part that is a path: names of trainings and labels such as name:2 may contain colons too.
    for end in range(len(parts), 0, -1):
        path = ":".join(parts[:end])
        if Path(path).exists():
            return path, ":".join(parts[end:]) or None
    path, _, which = text.partition(":")
    return path, which or None


def open_runs(given: Sequence[str | os.PathLike[str]]) -> list[LabelledTraining]:
    """Open the trainings that ``DIR``, ``DIR:N`` or ``DIR:name`` name, each once, in the given order.

    A directory without a journal means all output directories below it, the newest one last. The label of a training is
    then its path below the directory. Journals there that cannot be read, or that hold no training, are left out,
    with a warning. The label of any other training is its name, as far as no other one has it.

    Args:
        given: the paths. ``DIR`` means the last training in it.

    Raises:
        TypeError: ``given`` is one path, not a list of them.
        NoJournalError, NoTrainingError, OSError: as in `open_run`.
    """
    if isinstance(given, str | os.PathLike):
        raise TypeError(f"open_runs({os.fspath(given)!r}): pass a list, open_runs([{os.fspath(given)!r}]).")
    opened: dict[tuple[Path, str], tuple[_Opened, str]] = {}
    for each, name in (found for item in given for found in _open_all(item)):
        # The number of a training differs if it counts the trainings of one journal, or those of its directory.
        opened.setdefault((each.journal.resolve(), each.training.id), (each, name))
    chosen = list(opened.values())
    every = [list(_labels(each.journal, each.training, name)) for each, name in chosen]
    # Pick the shortest label that no other training has; the last candidate is always unique.
    taken = [Counter(labels) for labels in zip(*every, strict=True)]
    picked = [next(name for name, count in zip(labels, taken, strict=True) if count[name] == 1) for labels in every]
    shown = Counter(journal for journal, _ in opened)
    return [
        LabelledTraining(label, each.journal, each.training, each.left_out if shown[journal] == 1 else 0)
        for label, (journal, _), (each, _) in zip(picked, opened, chosen, strict=True)
    ]


def _open_all(run: str | os.PathLike[str]) -> list[tuple[_Opened, str]]:
    """Open the trainings that one argument means, each with its path below the directory.

    The path is empty for one run, and for trainings with names in the journals of the directory itself.
    """
    directory = Path(split_run(run)[0])
    opened: list[tuple[_Opened, str]] = []
    errors: list[OSError | NoTrainingError] = []
    for one, name in with_names(run):
        try:
            each = _open(one)
            opened.append((each, "" if each.training.name and each.journal.parent == directory else name))
        except (OSError, NoTrainingError) as error:
            errors.append(error)
    if not opened:
        raise errors[0]
    for reason in errors:
        warn_left_out(reason)
    return opened


def with_names(run: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Return the runs that an argument means, each with its path below the directory; the path is empty for one run.

    >>> import tempfile
    >>> from mtask_sinks import RunInfo
    >>> from mtask_sinks.journal.writer import Journal
    >>> out = tempfile.mkdtemp()
    >>> journal = Journal(f"{out}/lr/1/metrics.jsonl", eager=True); journal.begin(RunInfo(id="1")); journal.close()
    >>> [(run.removeprefix(out), name) for run, name in with_names(out)], with_names(f"{out}/lr/1")[0][1]
    ([('/lr/1', 'lr/1')], '')

    Raises:
        NoJournalError: there is no journal.
        OSError: the directory cannot be read.
    """
    path, which = split_run(run)
    if which is not None:
        return [(os.fspath(run), "")]
    return [(run_path(found.path) if found.name else path, found.name) for found in find_journals(path)]


def _labels(path: Path, training: Training, given: str) -> Iterator[str]:
    """Yield candidates, from the shortest to one that is always unique."""
    folder = path.absolute().parent
    name = given or training.name or folder.name
    yield name
    yield f"{name} ({folder.name})"
    yield f"{name} ({folder.name}/{path.stem})"
    yield f"{name} ({folder.name}:{training.number})"
    yield f"{name} ({path.absolute()}:{training.number})"
