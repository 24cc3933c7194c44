"""Lists all checks, with their severities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mtask_sinks.doctor.checks import (
    arguments,
    coverage,
    deliveries,
    evaluations,
    keys,
    models,
    oversight,
    predecessor,
    reports,
    trainers,
    trainings,
    values,
)
from mtask_sinks.doctor.finding import Check, Finding, Observation, Severity
from mtask_sinks.doctor.recorded import RecordedTraining, UnreadableJournal
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
NO_JOURNAL = FindingKind(
    "training", "no-journal", "error", "The directory has no journal, an empty one, or one that cannot be read"
)
NO_ANSWER = FindingKind("both", "no-answer", "error", "The backend of a sink does not answer now (only with --check)")

SCRIPT_CHECKS: tuple[Check[Script], ...] = (
    Check("nothing-reports", "warning", models.nothing_reports),
    Check("no-flag", "error", models.no_flag),
    Check("no-guard", "warning", models.no_guard),
    Check("not-imported", "error", reports.not_imported),
    Check("positional-values", "error", reports.positional_values),
    Check("needless-conversion", "hint", reports.needless_conversion),
    Check("report-in-worker", "error", reports.report_in_worker),
    Check("reserved-key", "error", keys.reserved_key),
    Check("invalid-key", "error", keys.invalid_key),
    Check("phase-as-task", "hint", keys.phase_as_task),
    Check("key-per-step", "warning", keys.key_per_step),
    Check("computed-key", "hint", keys.computed_key),
    Check("plain-trainer", "error", trainers.plain_trainer),
    Check("mixin-order", "error", trainers.mixin_order),
    Check("log-without-super", "error", trainers.log_without_super),
    Check("own-evaluation", "hint", evaluations.own_evaluation),
    Check("no-label-names", "warning", evaluations.no_label_names),
    Check("predecessor", "warning", predecessor.predecessor),
    Check("additional-state", "error", predecessor.additional_state),
    Check("copied-log", "warning", predecessor.copied_log),
    Check("replaced-bases", "warning", predecessor.replaced_bases),
    Check("unknown-sink", "error", arguments.unknown_sink),
    Check("missing-sink", "warning", arguments.missing_sink),
    Check("no-sink", "hint", arguments.no_sink),
    Check("keeps-worst", "warning", arguments.keeps_worst),
    Check("never-logs", "warning", arguments.never_logs),
)

JOURNAL_CHECKS: tuple[Check[RecordedTraining], ...] = (
    Check("nothing-reported", "error", coverage.nothing_reported),
    Check("silent-training", "warning", coverage.silent_training),
    Check("silent-evaluation", "warning", coverage.silent_evaluation),
    Check("task-in-one-phase", "hint", coverage.task_in_one_phase),
    Check("task-vanished", "warning", coverage.task_vanished),
    Check("gaps", "hint", coverage.gaps),
    Check("nonfinite", "error", values.nonfinite),
    Check("nonfinite-before", "warning", values.nonfinite_before),
    Check("nonfinite-skipped", "warning", values.nonfinite_skipped),
    Check("renamed", "warning", values.renamed),
    Check("too-many-keys", "error", values.too_many_keys),
    Check("stopped-by-alert", "warning", oversight.stopped_by_alert),
    Check("alert-holds", "warning", oversight.alert_holds),
    Check("health-is-off", "warning", oversight.health_is_off),
    Check("failed", "warning", trainings.failed),
    Check("elsewhere", "hint", trainings.elsewhere),
    Check("torn-lines", "warning", trainings.torn_lines),
    Check("several-trainings", "hint", trainings.several_trainings),
    Check("sink-in-trouble", "error", deliveries.sink_in_trouble),
    Check("undelivered", "error", deliveries.undelivered),
    Check("rejected-snapshots", "error", deliveries.rejected),
    Check("no-delivery", "hint", deliveries.no_delivery),
)

# For a journal of which no training can be read.
UNREADABLE_CHECKS: tuple[Check[UnreadableJournal], ...] = (
    Check("torn-lines", "warning", trainings.nothing_but_torn_lines),
)


def finding_kinds() -> Iterator[FindingKind]:
    """Yield every kind of finding: first those of scripts, then those of trainings."""
    yield SYNTAX
    yield from (FindingKind("script", check.name, check.severity, check.title) for check in SCRIPT_CHECKS)
    yield NO_JOURNAL
    yield from (FindingKind("training", check.name, check.severity, check.title) for check in JOURNAL_CHECKS)
    yield NO_ANSWER
