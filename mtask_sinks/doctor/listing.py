"""Lists all checks, with their severities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mtask_sinks.doctor.checks import deliveries, models, reports, trainers, trainings
from mtask_sinks.doctor.finding import Check, Finding, Observation, Severity
from mtask_sinks.doctor.recorded import RecordedTraining
from mtask_sinks.doctor.script import Script


@dataclass(frozen=True)
class FindingKind:
    """A kind of finding.

    Attributes:
        of: what the finding is about: ``script``, ``training`` or ``both``.
        check, severity: as in `Finding`.
        title: what the check looks for, in one line.
    """

    of: str
    check: str
    severity: Severity
    title: str

    def finding(self, seen: Observation) -> Finding:
        """Make a finding of this kind."""
        return Finding(self.check, self.severity, seen.where, seen.what, seen.remedy)


# No check makes these findings: they come from reading the files, which happens before the checks, and from asking
# the backends, which is optional.
SYNTAX = FindingKind("script", "syntax", "error", "The script is not valid Python")
NO_JOURNAL = FindingKind("training", "no-journal", "error", "The directory has no journal, or an empty one")
NO_ANSWER = FindingKind("both", "no-answer", "error", "The backend of a sink does not answer now (only with --check)")

SCRIPT_CHECKS: tuple[Check[Script], ...] = (
    Check("nothing-reports", "warning", models.nothing_reports),
    Check("no-flag", "error", models.no_flag),
    Check("no-guard", "warning", models.no_guard),
    Check("not-imported", "error", reports.not_imported),
    Check("positional-values", "error", reports.positional_values),
    Check("reserved-key", "error", reports.reserved_key),
    Check("invalid-key", "error", reports.invalid_key),
    Check("key-per-step", "warning", reports.key_per_step),
    Check("computed-key", "hint", reports.computed_key),
    Check("needless-conversion", "hint", reports.needless_conversion),
    Check("plain-trainer", "error", trainers.plain_trainer),
    Check("mixin-order", "error", trainers.mixin_order),
    Check("predecessor", "warning", trainers.predecessor),
    Check("unknown-sink", "error", trainers.unknown_sink),
    Check("missing-sink", "warning", trainers.missing_sink),
    Check("no-sink", "hint", trainers.no_sink),
    Check("never-logs", "warning", trainers.never_logs),
)

JOURNAL_CHECKS: tuple[Check[RecordedTraining], ...] = (
    Check("nothing-reported", "error", trainings.nothing_reported),
    Check("silent-training", "warning", trainings.silent_training),
    Check("task-in-one-phase", "hint", trainings.task_in_one_phase),
    Check("task-vanished", "warning", trainings.task_vanished),
    Check("gaps", "hint", trainings.gaps),
    Check("nonfinite", "error", trainings.nonfinite),
    Check("nonfinite-before", "warning", trainings.nonfinite_before),
    Check("nonfinite-skipped", "warning", trainings.nonfinite_skipped),
    Check("renamed", "warning", trainings.renamed),
    Check("too-many-keys", "error", trainings.too_many_keys),
    Check("failed", "warning", trainings.failed),
    Check("elsewhere", "hint", trainings.elsewhere),
    Check("torn-lines", "warning", trainings.torn_lines),
    Check("several-trainings", "hint", trainings.several_trainings),
    Check("sink-in-trouble", "error", deliveries.sink_in_trouble),
    Check("undelivered", "error", deliveries.undelivered),
    Check("rejected-snapshots", "error", deliveries.rejected),
    Check("no-delivery", "hint", deliveries.no_delivery),
)


def finding_kinds() -> Iterator[FindingKind]:
    """Yield every kind of finding: first those of scripts, then those of trainings."""
    yield SYNTAX
    yield from (FindingKind("script", check.name, check.severity, check.title) for check in SCRIPT_CHECKS)
    yield NO_JOURNAL
    yield from (FindingKind("training", check.name, check.severity, check.title) for check in JOURNAL_CHECKS)
    yield NO_ANSWER
