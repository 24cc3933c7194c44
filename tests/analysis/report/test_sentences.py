from __future__ import annotations

import math
from dataclasses import replace

from helpers.journals import losses, write

from mtask_sinks import RunInfo
from mtask_sinks.analysis.report import make_report
from mtask_sinks.analysis.report.checkpoints import BestCheckpoint
from mtask_sinks.analysis.report.sentences import best_sentence, comparisons, how_far, task_sentences
from mtask_sinks.analysis.report.tasks import TaskCourse, TaskRow
from mtask_sinks.analysis.selection import open_runs


def course(
    phase: str = "train", best: float | None = 2.0, word: str | None = "improving", since: int | None = None, **more
):
    return TaskCourse(
        phase,
        **{"first": 4.0, "last": 2.5, "best": best, "best_step": 60, "word": word, "since": since, "curve": ()} | more,
    )


def test_how_far_a_run_is(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="bert", params={"max_steps": 8}), losses(2, 4), "failed"))
    (run,) = make_report(open_runs([tmp_path])).runs
    run = replace(run, seconds=124.0)
    assert how_far(run) == "bert failed at step 4 of 8 (0.4 epochs) after 2:04."
    assert how_far(replace(run, step=8, epoch=1.0)) == "bert failed at step 8 of 8 (1 epoch) after 2:04."
    odd = replace(run, status="running", max_steps=None, epoch=None, seconds=None, resumed_at=(1, 2_000))
    assert how_far(odd) == "bert is running at step 4, resumed at step 1 and step 2,000."


def test_which_checkpoint_is_the_best() -> None:
    best = BestCheckpoint("checkpoint-500", True, "eval_mlm/loss", 5.9344, 500)
    assert best_sentence(best, "") == "Its best checkpoint is checkpoint-500, by eval_mlm/loss with 5.934 at step 500."
    gone = replace(best, is_there=False, metric="", step=None)
    assert best_sentence(gone, "") == "Its best checkpoint is checkpoint-500, which no longer exists, with 5.934."
    between = replace(best, unsaved_value=5.5, unsaved_step=1_250)
    assert best_sentence(between, "") == (
        "Its best checkpoint is checkpoint-500, by eval_mlm/loss with 5.934 at step 500; the best value, 5.5 at step "
        "1,250, has no checkpoint."
    )
    assert best_sentence(replace(between, metric="", value=None), "") == (
        "Its best checkpoint is checkpoint-500; the best value, 5.5 at step 1,250, has no checkpoint."
    )
    assert best_sentence(None, "there is none") == "It has no best checkpoint: there is none."


def test_phases_of_a_task_with_the_same_word_share_a_phrase() -> None:
    courses = (
        course("train"),
        course("eval_a", word="worse", since=60),
        course("eval_b", word="worse", since=60),
        course("eval_c", word="flat", since=20, best=None),
        course("eval_d", word="silent", since=30),
        course("eval_e", word="not finite", since=40, best=math.nan),
        course("test", word=None),
    )
    assert task_sentences([TaskRow("a", "loss", "min", (courses, ())), TaskRow("", "x", None, ((), ()))], 0) == [
        "a/loss: improving in train (from 4 to 2.5), worse in eval_a and eval_b since step 60, flat in eval_c since "
        "step 20, silent in eval_d since step 30 (last 2.5), not finite in eval_e since step 40, too few values to "
        "tell in test (from 4 to 2.5)."
    ]


def row(task: str, *bests: float | None) -> TaskRow:
    return TaskRow(task, "loss", "min", tuple((course("train", 9.0), course("eval", best)) for best in bests))


def test_where_a_run_is_better_and_worse_than_the_first() -> None:
    rows = [row("a", 2.0, 1.0, 2.0), row("b", 2.0, 3.0, 2.0), row("c", 2.0, 2.0, 2.0), row("d", 2.0, math.nan, None)]
    assert comparisons(["one", "two", "three"], rows) == [
        "Compared with one, two is better in a (eval loss 1, was 2); worse in b (eval loss 3, was 2); the same in c, "
        "by best values.",
        "Compared with one, three is the same in a, b and c, by best values.",
    ]
    assert comparisons(["one"], rows) == []


def test_best_values_of_which_one_is_better_look_different() -> None:
    assert comparisons(["one", "two"], [row("a", 3.0, 2.9999)]) == [
        "Compared with one, two is better in a (eval loss 2.9999, was 3), by best values."
    ]


def test_a_comparison_names_the_task_that_changed_most_first() -> None:
    changes = {"a": (2.0, 2.1), "b": (1.0, 1.9), "c": (4.0, 3.0), "d": (100.0, 120.0), "e": (8.0, 2.0)}
    rows = [
        TaskRow(task, "loss", "min", ((course("eval", before),), (course("eval", after),)))
        for task, (before, after) in changes.items()
    ]
    assert comparisons(["one", "two"], rows) == [  # by -75 and -25 %; by +90, +20 and +5 %
        "Compared with one, two is better in e (eval loss 2, was 8) and c (eval loss 3, was 4); worse in b (eval loss "
        "1.9, was 1), d (eval loss 120, was 100) and a (eval loss 2.1, was 2), by best values."
    ]


def test_a_comparison_names_tasks_whose_best_value_in_the_first_run_is_zero_before_all_others() -> None:
    bests = {"a": ("max", 0.5, 0.6), "b": ("max", 0.0, 0.25), "c": ("min", 0.0, 0.1), "d": ("min", 0.0, 0.0)}
    rows = [
        TaskRow(task, "score", better, ((course("eval", before),), (course("eval", after),)))
        for task, (better, before, after) in bests.items()
    ]
    assert comparisons(["one", "two"], rows) == [
        "Compared with one, two is better in b (eval score 0.25, was 0) and a (eval score 0.6, was 0.5); worse in c "
        "(eval score 0.1, was 0); the same in d, by best values."
    ]


def test_a_flat_metric_whose_last_value_is_its_best_one_is_not_said_to_contradict_itself() -> None:
    flat = course("eval", best=0.6148, word="flat", since=1_125, last=0.6148, best_step=2_250)
    (sentence,) = task_sentences([TaskRow("nsp", "loss", "min", ((flat,),))], 0)
    assert sentence == (
        "nsp/loss: flat in eval since step 1,125 (now 0.6148, its best value, but not better by more than the noise)."
    )
    older = replace(flat, best_step=1_125)
    (sentence,) = task_sentences([TaskRow("nsp", "loss", "min", ((older,),))], 0)
    assert sentence == "nsp/loss: flat in eval since step 1,125 (best 0.6148, now 0.6148)."
