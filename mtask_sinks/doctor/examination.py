"""Examines a script, or the output directory of a training."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mtask_sinks.analysis.selection import split_run
from mtask_sinks.doctor.finding import Finding, Observation, examine
from mtask_sinks.doctor.listing import JOURNAL_CHECKS, NO_ANSWER, NO_JOURNAL, SCRIPT_CHECKS, SYNTAX, UNREADABLE_CHECKS
from mtask_sinks.doctor.noqa import without_noqa
from mtask_sinks.doctor.recorded import read_recorded_training, unreadable_journals
from mtask_sinks.doctor.script import Script
from mtask_sinks.doctor.settings import reported_to
from mtask_sinks.errors import NoJournalError, NothingThereError, NoTrainingError
from mtask_sinks.journal.paths import FILE_NAME
from mtask_sinks.sinks.health import check_sinks
from mtask_sinks.sinks.lookup import has_sink
from mtask_sinks.snapshot import RunInfo


@dataclass(frozen=True)
class Examination:
    """The result for one path.

    Attributes:
        of: the path that the user gave.
        read: the files that the doctor read.
        checks: names of the checks that ran.
        findings: the most severe first.
        left_out: how many findings a comment such as ``# noqa: reserved-key`` leaves out.
        unread: modules beside a script that the doctor did not read, because they are no valid Python, or too many.
    """

    of: str
    read: Sequence[str]
    checks: Sequence[str]
    findings: Sequence[Finding]
    left_out: int = 0
    unread: Sequence[str] = ()


def examine_path(given: str, seconds: float | None = None) -> Examination:
    """Examine a script (``train.py``) or a training (``DIR``, ``DIR:N``, a journal).

    >>> import tempfile
    >>> script = Path(tempfile.mkdtemp(), "train.py")
    >>> _ = script.write_text("from hf_mtask_trainer import HfMultiTaskTrainer")
    >>> [(finding.check, finding.remedy) for finding in examine_path(str(script)).findings]
    [('predecessor', 'Change the import: from mtask_sinks import HfMultiTaskTrainer.')]

    Args:
        given: the path of the script or the training.
        seconds: how long to wait until the backends of its sinks answer; ``None`` does not ask them.

    Raises:
        NothingThereError: there is no script and no training at the path.
        OSError: a script cannot be read.
    """
    path, which = split_run(given)
    if not Path(path).exists():
        raise NothingThereError(f"there is no {given}. Pass a training script, or the output directory of a training.")
    if Path(path).is_file() and Path(path).suffix == ".py":
        if which is not None:
            raise NothingThereError(f"{path} is a script, so it has no training {which!r}. Pass {path} alone.")
        return _examine_script(Path(path), seconds)
    return _examine_training(given, path, which, seconds)


def _examine_script(path: Path, seconds: float | None) -> Examination:
    try:
        script = Script(path)
    except (SyntaxError, ValueError) as error:
        line, column = (getattr(error, name, None) or 1 for name in ("lineno", "offset"))
        what = f"Python {platform.python_version()} cannot parse it: {getattr(error, 'msg', error)}."
        seen = Observation(
            f"{path}:{line}:{column}", what, "Fix that first: the other checks need valid Python and did not run."
        )
        return Examination(str(path), [str(path)], [SYNTAX.check], [SYNTAX.finding(seen)])
    asked = _ask([name for _, _, name in reported_to(script)], str(path), Path(), seconds)
    checks = [SYNTAX.check, *(check.name for check in SCRIPT_CHECKS)]
    read = [str(path), *(str(source.path) for source in script.sources[1:])]
    unread = [str(module) for module in script.unread]
    return _examination(str(path), read, checks, [*asked, *examine(script, SCRIPT_CHECKS)], seconds, unread)


def _examine_training(given: str, path: str, which: str | None, seconds: float | None) -> Examination:
    try:
        recorded = read_recorded_training(given)
    except (NoJournalError, NoTrainingError) as error:
        return _examine_without_training(given, path, which, error)
    except OSError as error:
        where = str(error.filename)
        seen = Observation(where, f"it cannot be read: {error.strerror}.", "Change its permissions, or move it away.")
        return Examination(given, [where], [NO_JOURNAL.check], [NO_JOURNAL.finding(seen)])
    where = recorded.at(recorded.training.step)
    asked = _ask([sink.name for sink in recorded.sinks], where, recorded.path.parent, seconds)
    checks = [NO_JOURNAL.check, *(check.name for check in JOURNAL_CHECKS)]
    findings = [*asked, *examine(recorded, JOURNAL_CHECKS)]
    return _examination(given, [str(recorded.path)], checks, findings, seconds)


def _examine_without_training(
    given: str, path: str, which: str | None, error: NoJournalError | NoTrainingError
) -> Examination:
    if Path(path).is_file() and Path(path).suffix != Path(FILE_NAME).suffix:
        raise NothingThereError(f"{path} is neither a training script (.py) nor a journal ({FILE_NAME}).") from None
    journals = unreadable_journals(path) if isinstance(error, NoTrainingError) else []
    if journals:
        checks = [NO_JOURNAL.check, *(check.name for check in UNREADABLE_CHECKS)]
        findings = [finding for journal in journals for finding in examine(journal, UNREADABLE_CHECKS)]
        return Examination(given, [str(journal.path) for journal in journals], checks, findings)
    if which is not None:
        raise NothingThereError(str(error.args[0])) from None
    remedy = (
        "Pass the output_dir of a training that reports metrics. If the training reports none, examine its script: "
        "mtask-sinks doctor SCRIPT.py."
    )
    seen = Observation(path, str(error.args[0]), remedy)
    return Examination(given, [path], [NO_JOURNAL.check], [NO_JOURNAL.finding(seen)])


def _examination(
    of: str,
    read: Sequence[str],
    checks: Sequence[str],
    findings: Sequence[Finding],
    seconds: float | None,
    unread: Sequence[str] = (),
) -> Examination:
    kept = without_noqa(findings)
    names = [*checks, *([] if seconds is None else [NO_ANSWER.check])]
    return Examination(of, read, names, kept, len(findings) - len(kept), unread)


def _ask(names: Sequence[str], where: str, directory: Path, seconds: float | None) -> list[Finding]:
    """Ask the backends; return a finding for each that does not answer now. Without ``seconds``, ask none."""
    if seconds is None:
        return []
    known = [name for name in dict.fromkeys(names) if has_sink(name)]
    answers = check_sinks(known, RunInfo(id="check", output_dir=str(directory)), seconds)
    remedy = (
        "Start the backend, or set the same environment variables as for the training. Then ask again: "
        "mtask-sinks sinks --check"
    )
    return [
        NO_ANSWER.finding(
            Observation(where, f"the backend of {name} does not answer: {answer.detail}.", f"{remedy} {name}.")
        )
        for name, answer in answers.items()
        if answer.is_ready is False
    ]
