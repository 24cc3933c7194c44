"""Writes a report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mtask_sinks._util.formatting import number
from mtask_sinks._util.shown import shown
from mtask_sinks.analysis.compare import more_digits_of
from mtask_sinks.analysis.report import Report, TaskCourse
from mtask_sinks.analysis.task_health import GradientSummary, MeasuredMean, cosine_text
from mtask_sinks.cli.formatting import last_value
from mtask_sinks.cli.sparkline import sparkline
from mtask_sinks.keys import TOTAL

# Characters that mean something in Markdown. An underscore means something only at the edge of a word.
_MARKS = re.compile(r"[\\`*\[\]<>|#~]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")
# The mark of a list, which counts only at the beginning of a line.
_ITEM = re.compile(r"^(\d*)([-+.)])(?=\s)")


def report_markdown(report: Report) -> str:
    """Return the sentences of a report, and its tables of tasks, of problems and of final and best values."""
    report = shown(report)
    parts = [
        f"# Report: {_text(', '.join(run.label for run in report.runs))}",
        *_sentences(report),
        *_tasks(report),
        *_alerts(report),
        *_gradients(report),
        *_nonfinite(report),
        *_missing(report),
        *_values(report),
    ]
    return "\n\n".join(parts) + "\n"


def _sentences(report: Report) -> Iterator[str]:
    for sentences in report.sentences:
        yield _text(" ".join(sentences[:2]))
        if sentences[2:]:
            yield "\n".join(f"- {_text(sentence)}" for sentence in sentences[2:])
    yield from map(_text, report.comparisons)


def _tasks(report: Report) -> Iterator[str]:
    columns = ["task", "metric", "run", "phase", "curve", "first", "last", "best", "at step", "trend"]
    rows = [
        [row.task or "-", row.name, run.label, course.phase, *_course(course)]
        for row in report.tasks
        for run, courses in zip(report.runs, row.runs, strict=True)
        for course in courses
    ]
    yield from _table("Tasks", columns, rows, right=range(5, 9))


def _course(course: TaskCourse) -> list[str]:
    at = "-" if course.best_step is None else f"{course.best_step:,}"
    since = "" if course.since is None else f" since step {course.since:,}"
    return [
        sparkline(course.curve, width=16),
        number(course.first),
        last_value(course.last, course.partial),
        number(course.best),
        at,
        f"{course.word or '-'}{since}",
    ]


def _alerts(report: Report) -> Iterator[str]:
    rows = [
        [run.label, f"{row.step:,}", row.text, "-" if row.until is None else f"{row.until:,}"]
        for run in report.runs
        for row in run.alerts
    ]
    yield from _table("Alerts", ["run", "step", "alert", "over at step"], rows, right=range(1, 2))


def _gradients(report: Report) -> Iterator[str]:
    """Yield, for each run that measured task health, the matrix of cosines and the parts of the tasks."""
    for run in report.runs:
        if run.health is not None and run.health.tasks:
            suffix = f": {run.label}" if len(report.runs) > 1 else ""
            yield from _cosines(run.health, suffix)
            yield from _parts(run.health, suffix)


def _cosines(health: GradientSummary, suffix: str) -> Iterator[str]:
    names = [part.task for part in health.tasks]
    columns = [TOTAL] if any(pair.b == TOTAL for pair in health.pairs) else names
    rows = [[a, *("1" if a == b else _cosine(health, a, b) for b in columns)] for a in names if health.pairs]
    right = range(1, len(columns) + 1)
    yield from _table(f"Cosines of the tasks' gradients{suffix}", ["task", *columns], rows, right)


def _cosine(health: GradientSummary, a: str, b: str) -> str:
    pair = health.pair(a, b)
    return "-" if pair is None else f"{cosine_text(pair.recent.mean)} ({pair.recent.measurements:,})"


def _parts(health: GradientSummary, suffix: str) -> Iterator[str]:
    columns = ["task", "gradient norm", "effective weight", "share of the loss", "share of the gradient", "progress"]
    rows = [
        [
            part.task,
            *map(_mean, (part.grad_norm, part.effective_weight, part.loss_share, part.grad_share)),
            number(part.progress),
        ]
        for part in health.tasks
    ]
    yield from _table(f"Parts of the tasks{suffix}", columns, rows, right=range(1, 6))


def _mean(measured: MeasuredMean | None) -> str:
    return "-" if measured is None else number(measured.mean)


def _nonfinite(report: Report) -> Iterator[str]:
    columns = ["run", "task", "metric", "phase", "windows", "since step", "up to step"]
    rows = [
        [
            run.label,
            row.task or "-",
            row.name,
            row.phase,
            f"{row.windows:,}",
            f"{row.first_step:,}",
            f"{row.last_step:,}",
        ]
        for run in report.runs
        for row in run.nonfinite
    ]
    yield from _table("Values that are not finite", columns, rows, right=range(4, 7))


def _missing(report: Report) -> Iterator[str]:
    columns = ["run", "task", "metrics", "phase", "windows without", "first at step", "last at step"]
    rows = [
        [
            *(run.label, row.task or "-", ", ".join(row.names), row.phase),
            *(f"{row.windows:,} of {row.of:,}", f"{row.first_step:,}", f"{row.last_step:,}"),
        ]
        for run in report.runs
        for row in run.missing
    ]
    yield from _table("Missing values", columns, rows, right=range(4, 7))


def _values(report: Report) -> Iterator[str]:
    columns = ["task", "metric", "phase", "run", "last", "best", "at step"]
    rows = []
    for row in report.metrics:
        more, more_best = more_digits_of(row.outcomes)
        for at, (run, each) in enumerate(zip(report.runs, row.outcomes, strict=True)):
            if each is not None:
                last = last_value(each.final, each.partial, more)
                best = number(each.best, more=more_best) + (" (best run)" if at in row.winners else "")
                step = "-" if each.best_step is None else f"{each.best_step:,}"
                rows.append([row.task or "-", row.name, row.phase, run.label, last, best, step])
    yield from _table("Final and best values", columns, rows, right=range(4, 7))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: range) -> Iterator[str]:
    if not rows:
        return
    lines = [[_text(cell) for cell in row] for row in rows]
    shapes = ["---:" if at in right else "---" for at in range(len(columns))]
    yield f"## {title}"
    yield "\n".join(f"| {' | '.join(line)} |" for line in (list(columns), shapes, *lines))


def _text(text: str) -> str:
    """Return a text without anything that Markdown would read as markup."""
    return _ITEM.sub(r"\1\\\2", _MARKS.sub(r"\\\g<0>", text)).replace("\n", " ")
