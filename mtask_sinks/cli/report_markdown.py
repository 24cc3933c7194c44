"""Writes a report as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mtask_sinks._util.formatting import number
from mtask_sinks._util.shown import shown
from mtask_sinks.analysis.report import Report, TaskCourse
from mtask_sinks.cli.health_markdown import alert_table, gradient_tables
from mtask_sinks.cli.sparkline import sparkline

# Characters that mean something in Markdown. An underscore means something only at the edge of a word.
_MARKS = re.compile(r"[\\`*\[\]<>|#~]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")
# The mark of a list, which counts only at the beginning of a line.
_ITEM = re.compile(r"^(\d*)([-+.)])(?=\s)")


def report_markdown(report: Report) -> str:
    """Return the sentences of a report, and its tables of tasks, of problems and of final and best values."""
    report = shown(report)
    parts = [f"# Report: {_text(', '.join(run.label for run in report.runs))}", *_sentences(report)]
    parts += [
        *_tasks(report),
        *_table(*alert_table(report.runs)),
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


def _gradients(report: Report) -> Iterator[str]:
    for run in report.runs:
        suffix = f": {run.label}" if len(report.runs) > 1 else ""
        for table in gradient_tables(run, suffix):
            yield from _table(*table)


def _course(course: TaskCourse) -> list[str]:
    at = "-" if course.best_step is None else f"{course.best_step:,}"
    since = "" if course.since is None else f" since step {course.since:,}"
    return [
        sparkline(course.curve, width=16),
        *map(number, (course.first, course.last, course.best)),
        at,
        f"{course.word or '-'}{since}",
    ]


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
        for at, (run, each) in enumerate(zip(report.runs, row.outcomes, strict=True)):
            if each is not None:
                best = number(each.best) + (" (best run)" if at in row.winners else "")
                step = "-" if each.best_step is None else f"{each.best_step:,}"
                rows.append([row.task or "-", row.name, row.phase, run.label, number(each.final), best, step])
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
