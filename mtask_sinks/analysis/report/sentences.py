"""Describes trainings in sentences: how far each got, how each task developed, and which training is better."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mtask_sinks._util.formatting import duration, more_digits, number
from mtask_sinks.analysis.gain import compared_phase, gain
from mtask_sinks.analysis.report.checkpoints import BestCheckpoint
from mtask_sinks.analysis.report.contents import RunReport
from mtask_sinks.analysis.report.tasks import TaskCourse, TaskRow
from mtask_sinks.keys import join_key

_VERBS = {"running": "is running", "finished": "finished", "failed": "failed", "killed": "was killed"}


def how_far(run: RunReport) -> str:
    """Return how far a training got: ``bert finished at step 500 of 500 (2.5 epochs) after 12:04.``"""
    where = f"at step {run.step:,}"
    if run.max_steps:
        where += f" of {run.max_steps:,}"
    if run.epoch is not None:
        epochs = number(run.epoch)
        where += f" ({epochs} epoch{'' if epochs == '1' else 's'})"
    took = "" if run.seconds is None else f" after {duration(run.seconds)}"
    resumed = _listed([f"step {step:,}" for step in run.resumed_at])
    return (
        f"{run.label} {_VERBS.get(run.status, run.status)} {where}{took}{f', resumed at {resumed}' if resumed else ''}."
    )


def best_sentence(best: BestCheckpoint | None, no_best: str) -> str:
    """Return which checkpoint is the best, or why there is none."""
    if best is None:
        return f"It has no best checkpoint: {no_best}."
    by = f" by {best.metric}" if best.metric else ""
    at = f" at step {best.step:,}" if best.step is not None else ""
    there = "" if best.is_there else ", which no longer exists"
    value = "" if best.value is None else f" with {number(best.value)}{at}"
    about = f",{by}{value}" if by or value else ""
    unsaved = ""
    if best.unsaved_value is not None:
        unsaved = f"; the best value, {number(best.unsaved_value)} at step {best.unsaved_step:,}, has no checkpoint"
    return f"Its best checkpoint is {best.name}{there}{about}{unsaved}."


def task_sentences(rows: Sequence[TaskRow], run: int) -> list[str]:
    """Return one sentence per task that a training has.

    >>> from mtask_sinks.analysis.report.tasks import TaskCourse
    >>> train = TaskCourse("train", 4.0, 2.0, 2.0, 90, "improving", None, (4.0, 2.0))
    >>> eval = TaskCourse("eval", 4.0, 3.5, 3.0, 60, "worse", 60, (4.0, 3.5))
    >>> task_sentences([TaskRow("mlm", "loss", "min", ((train, eval),))], 0)
    ['mlm/loss: improving in train (from 4 to 2), worse in eval since step 60 (best 3, now 3.5).']

    Args:
        rows: from `task_rows`.
        run: index of the training.
    """
    return [
        f"{join_key(row.task or None, row.name)}: {', '.join(_courses(row.runs[run]))}."
        for row in rows
        if row.runs[run]
    ]


def comparisons(labels: Sequence[str], rows: Sequence[TaskRow]) -> list[str]:
    """Compare every other training with the first one: in which tasks it is better, worse or the same.

    A task is better if the best value of its main metric is better, in the first evaluation that both trainings have,
    or in training if they share none. The task that changed most comes first.
    """
    return [
        sentence for run, label in enumerate(labels) if run for sentence in _comparison(label, labels[0], rows, run)
    ]


def _comparison(label: str, first: str, rows: Sequence[TaskRow], run: int) -> Iterator[str]:
    verdicts: dict[str, list[tuple[float, str]]] = {"better": [], "worse": [], "the same": []}
    for row in rows:
        phases = [{course.phase: course for course in row.runs[at]} for at in (0, run)]
        phase = compared_phase(*phases)
        if phase is None:
            continue
        best, other = (courses[phase].best for courses in phases)
        change = gain(row.better, best, other)
        if change is None and best == 0 and other is not None and math.isfinite(other):
            change = (-math.inf if (other > 0) == (row.better == "min") else math.inf) if other else 0.0
        if change is not None:
            task = row.task or row.name
            more = more_digits((best, other))
            now, was = number(other, more=more), number(best, more=more)
            values = f" ({phase} {row.name} {now}, was {was})" if change else ""
            verdict = "the same" if not change else "better" if change > 0 else "worse"
            verdicts[verdict].append((abs(change), task + values))
    told = []
    for verdict, tasks in verdicts.items():
        largest_first = sorted(tasks, key=lambda each: each[0], reverse=True)
        if tasks:
            told.append(f"{verdict} in {_listed([text for _, text in largest_first])}")
    if told:
        yield f"Compared with {first}, {label} is {'; '.join(told)}, by best values."


def _courses(courses: Sequence[TaskCourse]) -> list[str]:
    """Return a phrase per phase; phases with the same words share one."""
    phrases: dict[tuple[str, int | None], list[TaskCourse]] = {}
    for course in courses:
        phrases.setdefault((course.word or "too few values to tell", course.since), []).append(course)
    told = []
    for (word, since), same in phrases.items():
        detail = _detail(same[0]) if len(same) == 1 else ""
        told.append(
            f"{word} in {_listed([course.phase for course in same])}"
            + (f" since step {since:,}" if since is not None else "")
            + (f" ({detail})" if detail else "")
        )
    return told


def _detail(course: TaskCourse) -> str:
    if course.word in ("worse", "flat"):
        if course.best is None:
            return ""
        if course.last == course.best and (course.best_step or 0) > (course.since or 0):
            return f"now {number(course.last)}, its best value, but not better by more than the noise"
        return f"best {number(course.best)}, now {number(course.last)}"
    if course.word == "not finite":
        return "" if course.best is None or course.best != course.best else f"best {number(course.best)}"
    if course.word == "silent":
        return f"last {number(course.last)}"
    return f"from {number(course.first)} to {number(course.last)}"


def _listed(names: Sequence[str]) -> str:
    """Return names with commas and an "and".

    >>> _listed(["a"]), _listed(["a", "b", "c"])
    ('a', 'a, b and c')
    """
    return " and ".join(part for part in (", ".join(names[:-1]), names[-1] if names else "") if part)
