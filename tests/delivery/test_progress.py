from __future__ import annotations

import threading
from dataclasses import replace

from mtask_sinks import Snapshot
from mtask_sinks.delivery.backend_state import BackendState
from mtask_sinks.delivery.counts import SinkCounts
from mtask_sinks.delivery.cursor import Cursor
from mtask_sinks.delivery.progress import Progress


def progress_of(cursor: Cursor | None = None, position: int = 0, given: int = 0) -> Progress:
    return Progress(cursor or Cursor(), position, given, BackendState(60.0), threading.Condition())


def test_every_snapshot_is_delivered_rejected_or_pending() -> None:
    progress = progress_of(given=2)
    for _ in range(4):
        progress.count_given()
    progress.count_delivered("1")
    progress.count_delivered("1")
    assert [progress.reject("1", Snapshot(step), f"no {step}") for step in (3, 4)] == [True, False]
    assert (progress.counts, progress.counts.pending) == (SinkCounts(6, 2, 2, "starting", "no 4"), 2)


def test_a_snapshot_that_was_computed_again_was_not_given() -> None:
    progress = progress_of(given=3)
    progress.count_skipped("1")
    assert (progress.counts.given, progress.counts.pending) == (2, 2)


def test_counts_are_those_of_the_moment_at_which_they_were_asked_for() -> None:
    progress = progress_of()
    before = progress.counts
    progress.count_given()
    assert (before.given, progress.counts.given) == (0, 1)


def test_a_position_is_done_when_it_is_reached_and_saved() -> None:
    progress = progress_of(position=10)
    assert [progress.is_done(position) for position in (0, 10, 11)] == [True, True, False]
    progress.advance(20)
    assert (progress.is_saved, [progress.is_done(position) for position in (10, 20)]) == (False, [False, False])
    progress.mark_saved()
    assert (progress.is_saved, [progress.is_done(position) for position in (20, 21)]) == (True, [True, False])


def test_skipped_lines_need_no_save() -> None:
    progress = progress_of()
    progress.skip_to(20)
    assert (progress.position, progress.is_done(20)) == (20, True)


def test_a_run_that_is_rewound_is_to_be_delivered_again_and_others_are_not() -> None:
    progress = progress_of(given=5)
    for run in ("1", "1", "2", "2", "2"):
        progress.count_delivered(run)
    progress.advance(500)
    progress.rewind("2", 200, again=3)
    assert (progress.position, progress.counts.delivered, progress.counts.pending) == (200, 2, 3)
    progress.rewind("3", 200, again=0)  # nothing of this run was delivered
    assert (progress.counts.delivered, progress.counts.pending) == (2, 3)


def test_after_a_rewind_every_snapshot_of_the_run_is_counted_once() -> None:
    cursor = Cursor()
    progress = progress_of(cursor, given=4)

    def deliver() -> None:
        progress.count_skipped("1")
        progress.reject("1", Snapshot(2), "too long")
        progress.count_delivered("1")
        progress.count_delivered("1")

    deliver()
    progress.rewind("1", 0, again=6)  # this process began after the first two
    assert (progress.counts.given, progress.counts.delivered, progress.counts.rejected) == (6, 0, 0)
    deliver()
    progress.count_delivered("1")
    progress.count_delivered("1")
    assert (progress.counts.given, progress.counts.delivered, progress.counts.rejected) == (5, 4, 1)
    assert (progress.counts.pending, cursor.rejected) == (0, 1)


def test_the_cursor_tells_another_process_what_it_needs() -> None:
    earlier = Cursor("f", 100, {"1": "there"}, 7, 1, [{"step": 1, "phase": "train", "error": "E"}])
    progress = progress_of(replace(earlier, reasons=[*earlier.reasons]), given=3)
    progress.count_delivered("1")
    progress.reject("1", Snapshot(2, "eval"), "F")
    reasons = [*earlier.reasons, {"step": 2, "phase": "eval", "error": "F"}]
    assert progress.to_cursor("g", 120) == Cursor("g", 120, {"1": "there"}, 1, 2, reasons, 1, "starting", None)


def test_the_cursor_has_the_error_of_an_outage_while_it_lasts() -> None:
    progress = progress_of()
    progress.note_error("OSError: no route")
    assert (progress.to_cursor("f", 0).state, progress.to_cursor("f", 0).error) == ("starting", None)
    progress.backend.go_down()
    assert (progress.to_cursor("f", 0).state, progress.to_cursor("f", 0).error) == ("down", "OSError: no route")
    progress.backend.recover()
    assert progress.to_cursor("f", 0).error is None
    assert progress.counts.error == "OSError: no route"  # until a call succeeds
    progress.reject("1", Snapshot(3), "too long")
    assert progress.counts.error == "OSError: no route"
    progress.clear_error()
    assert progress.counts.error == "too long"


def test_a_target_that_is_found_later_is_in_the_next_cursor() -> None:
    cursor = Cursor()
    progress = progress_of(cursor)
    cursor.targets["1"] = "there"
    assert progress.to_cursor("f", 0).targets == {"1": "there"}


def test_what_is_safe_follows_the_position_only_when_that_is_said() -> None:
    progress = progress_of(position=10)
    progress.advance(30)
    progress.mark_saved()
    assert progress.safe_position == 10
    progress.mark_safe()
    assert progress.safe_position == 30


def test_whoever_waits_for_a_position_is_woken_when_it_is_saved() -> None:
    moved = threading.Condition()
    progress = Progress(Cursor(), 0, 0, BackendState(60.0), moved)
    threads = [threading.Thread(target=act) for act in (lambda: progress.advance(10), progress.mark_saved)]
    with moved:
        for thread in threads:
            thread.start()
            assert moved.wait(30)
    assert progress.is_done(10)
