from __future__ import annotations

from pathlib import Path

from helpers.journals import as_of_process, losses, write

from mtask_sinks import RunInfo
from mtask_sinks.delivery.run_targets import RunTargets
from mtask_sinks.journal.records import Begin
from mtask_sinks.journal.stream import JournalStream

# Three runs of one training, which was killed after step 8 and resumed twice, and one run of another training.
FIRST = RunInfo(id="1", output_dir="elsewhere")
SECOND = RunInfo(id="2", step=4)
THIRD = RunInfo(id="3", step=2)
OTHER = RunInfo(id="4")


def stream(directory: Path, *runs: RunInfo) -> JournalStream:
    """Return the stream of a journal with these runs, which a process on another host wrote and did not end."""
    path = write(directory, *[(run, losses(run.step + 2), None) for run in runs])
    as_of_process(path, "elsewhere", 1)
    return JournalStream(path)


def seen(targets: RunTargets, of: JournalStream) -> list[tuple[str | None, int | None]]:
    """Return, for each run of a journal, the backend run that the sink continues, and the last step that counts."""
    begins = [record for _, record in of.run_records if isinstance(record, Begin)]
    told = [targets.run_for_sink(begin) for begin in begins]
    return [(run.continued.get("s"), last_step) for run, last_step in told]


def test_a_run_that_the_sink_wrote_continues_there_and_a_resumed_one_in_that_of_what_it_was_resumed_from(
    tmp_path,
) -> None:
    lines = stream(tmp_path, FIRST, SECOND, THIRD, OTHER)
    assert seen(RunTargets(lines, "s", {"1": "a"}), lines) == [("a", 2), ("a", 2), ("a", None), (None, None)]


def test_a_resumed_run_with_a_backend_run_of_its_own_leaves_all_steps_of_the_first(tmp_path) -> None:
    lines = stream(tmp_path, FIRST, SECOND)
    assert seen(RunTargets(lines, "s", {"1": "a", "2": "b"}), lines) == [("a", None), ("b", None)]


def test_a_run_is_the_same_one_whether_an_identifier_is_its_whole_path_or_the_end_of_it(tmp_path) -> None:
    """Journals of earlier versions hold the id of a W&B run, newer ones its path."""
    lines = stream(tmp_path, FIRST, SECOND)
    assert seen(RunTargets(lines, "s", {"1": "a", "2": "us/prices/a"}), lines) == [("a", 4), ("us/prices/a", None)]
    assert seen(RunTargets(lines, "s", {"1": "us/a", "2": "we/a"}), lines) == [("us/a", None), ("we/a", None)]
    targets = RunTargets(lines, "s", {"1": "a"})
    targets.live["2"] = RunInfo(id="2", step=4, attached={"s": "us/prices/a"})
    begin = lines.run_records[0][1]
    assert isinstance(begin, Begin)
    assert targets.run_for_sink(begin)[0].attached == {"s": "a"}


def test_without_any_target_runs_are_new_and_recomputed_steps_do_not_count(tmp_path) -> None:
    lines = stream(tmp_path, FIRST, SECOND)
    assert seen(RunTargets(lines, "s", {}), lines) == [(None, 4), (None, None)]


def test_where_the_journal_says_a_run_was_written_counts_unless_that_is_switched_off(tmp_path) -> None:
    lines = stream(tmp_path, RunInfo(id="1", continued={"s": "theirs"}, attached={"t": "x"}))
    assert seen(RunTargets(lines, "s", {}), lines) == [("theirs", None)]
    assert seen(RunTargets(lines, "s", {}, use_journal=False), lines) == [(None, None)]


def test_a_run_of_another_process_is_told_with_the_directory_of_its_journal(tmp_path) -> None:
    lines = stream(tmp_path, FIRST)
    (_, begin) = lines.run_records[0]
    assert isinstance(begin, Begin)
    run, _ = RunTargets(lines, "s", {}).run_for_sink(begin)
    assert (run.output_dir, run.attached) == (str(tmp_path), {})


def test_a_run_of_this_process_is_told_as_it_is(tmp_path) -> None:
    lines = stream(tmp_path, FIRST, SECOND)
    targets = RunTargets(lines, "s", {"1": "a"})
    live = RunInfo(id="2", step=4, attached={"s": "mine"})
    targets.live["2"] = live
    begin = lines.run_records[1][1]
    assert isinstance(begin, Begin)
    assert targets.run_for_sink(begin) == (live, None)


def test_a_backend_run_that_is_in_use_is_not_the_sinks_to_end(tmp_path) -> None:
    lines = stream(tmp_path, FIRST, SECOND)
    targets = RunTargets(lines, "s", {"1": "a"})
    targets.live["2"] = RunInfo(id="2", step=4, continued={"s": "a"})
    begin = lines.run_records[0][1]
    assert isinstance(begin, Begin)
    run, last_step = targets.run_for_sink(begin)
    assert (run.attached, run.continued, last_step) == ({"s": "a"}, {"s": "a"}, 4)


def test_a_run_of_this_process_may_go_anywhere_until_the_sink_was_opened_for_it(tmp_path) -> None:
    lines = stream(tmp_path, FIRST, SECOND)
    targets = RunTargets(lines, "s", {"1": "a"})
    targets.live["2"] = RunInfo(id="2", step=4)
    begin = lines.run_records[0][1]
    assert isinstance(begin, Begin)
    assert targets.run_for_sink(begin)[1] is None
    targets.targets["2"] = "a"
    assert targets.run_for_sink(begin)[1] == 4


def test_a_run_starts_after_the_line_that_begins_it(tmp_path) -> None:
    lines = stream(tmp_path, FIRST, OTHER)
    targets = RunTargets(lines, "s", {})
    assert [targets.start_of("1"), targets.start_of("4")] == [end for end, _ in lines.run_records[:2]]
