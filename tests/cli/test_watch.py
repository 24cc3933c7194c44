from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.journals import as_of_process, losses, write
from helpers.toy import InOrder, Toy, arguments, numbers
from typer.testing import CliRunner

from mtask_sinks import HfMultiTaskTrainer, RunInfo, Snapshot
from mtask_sinks.analysis.grouping import Trainings
from mtask_sinks.cli import app
from mtask_sinks.cli.watch_lines import item_line
from mtask_sinks.delivery.cursor import Cursor, cursor_path
from mtask_sinks.journal.records import Begin, fingerprint_of


def watch(*arguments: str):
    return CliRunner().invoke(app, ["watch", *arguments], env={"COLUMNS": "200"})


def start(*arguments: str, **options) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "COLUMNS": "100", "LINES": "20", "TERM": "xterm"}
    return subprocess.Popen([sys.executable, "-m", "mtask_sinks", "watch", *arguments], env=environment, **options)


@pytest.fixture
def follow(monkeypatch):
    """Return a function that runs ``watch --follow``, with one of some actions in place of each wait, and then Ctrl-C.

    The command looks for other trainings before each wait, not only every few seconds.
    """

    def run(path: Path, *options: str, waits: list[Callable[[], object]]):
        left = iter(waits)

        def wait(seconds: float) -> None:
            action = next(left, None)
            if action is None:
                raise KeyboardInterrupt
            action()

        monkeypatch.setattr("mtask_sinks.cli.watch_lines.time", SimpleNamespace(time=time.time, sleep=wait))
        monkeypatch.setattr("mtask_sinks.cli.watch_screen._SEARCH_SECONDS", -1.0)
        done = watch(str(path), "--follow", *options)
        assert (done.exit_code, list(left)) == (0, []), done.output
        return done

    return run


def test_a_pipe_gets_one_picture_without_colour_whose_lines_say_all(tmp_path) -> None:
    snapshots = [*losses(2, 4), *losses(4, phase="eval"), Snapshot(4, metrics={"a/acc": 0.5}, time=1005.0)]
    write(tmp_path, (RunInfo(id="1", name="bert", params={"max_steps": 8}), snapshots, "finished"))
    done = watch(str(tmp_path))
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0] == f"bert  finished  {tmp_path}/metrics.jsonl"
    assert lines[1].startswith("step 4 of 8  50%  epoch 0.40  ")
    columns = ["change", "curve", "step", "reports"]
    assert [line.split() for line in lines[3:]] == [
        ["task", "metric", "train", *columns, "eval", *columns],
        ["a", "loss", "40", "+20", "▁█", "4", "4", "40", "▁", "4", "4"],
        ["a", "acc", "0.5", "▁", "4", "-", "-"],
    ]
    assert "\x1b" not in done.output


def test_a_pipe_that_gets_colours_gets_one_picture_too(tmp_path) -> None:
    """Jupyter sets FORCE_COLOR for all commands of a notebook, and many CI systems do."""
    write(tmp_path, (RunInfo(id="1", name="bert"), losses(2, 4), "finished"))
    environment = {**os.environ, "FORCE_COLOR": "1"}
    words = [sys.executable, "-m", "mtask_sinks", "watch", str(tmp_path)]
    done = subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "\x1b[1m" in done.stdout
    assert "\x1b[?1049h" not in done.stdout  # what fills the screen of a terminal


def test_an_output_that_can_only_write_gets_one_picture_too(tmp_path, monkeypatch) -> None:
    class Lines:
        encoding = "utf-8"

        def __init__(self) -> None:
            self.texts: list[str] = []

        def write(self, text: str) -> int:
            self.texts.append(text)
            return len(text)

        def flush(self) -> None:
            pass

    path, lines = write(tmp_path, (RunInfo(id="1", name="bert"), losses(2, 4), "finished")), Lines()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys, "stdout", lines)
    app(["watch", str(path)], standalone_mode=False)
    assert "bert" in "".join(lines.texts)
    assert "\x1b[?1049h" not in "".join(lines.texts)


def test_json_says_the_same(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="bert"), losses(2, 4), "failed"))
    done = watch(str(tmp_path), "--json", "--only", "a/*")
    view = json.loads(done.output)
    assert (done.exit_code, view["status"], view["step"], view["name"]) == (1, "failed", 4, "bert")
    where = {"task": "a", "name": "loss", "phase": "train", "step": 4, "x_value": 4}
    assert view["rows"] == [
        {**where, "last": 40.0, "change": 20.0, "count": 4, "better": "min", "partial": False, "points": 2}
    ]
    assert view["sinks"] == []


def test_json_says_how_far_a_sink_is_and_not_which_notes_wait_for_it(tmp_path) -> None:
    """A note holds as much text as a snapshot, and every one may wait for a sink that is away."""
    path = write(tmp_path, (RunInfo(id="1"), losses(2, 4), None))
    with path.open("a") as file:
        file.write('{"record": "note", "kind": "alert", "step": 4, "text": "high", "data": {}, "time": 1.0}\n')
    with path.open("rb") as file:
        cursor = Cursor(fingerprint_of(file.readline()), delivered=1, pending=1)
    cursor_path(path, "s").parent.mkdir(exist_ok=True)
    cursor.save(cursor_path(path, "s"))
    view = json.loads(watch(str(tmp_path), "--json").output)
    assert [each["text"] for each in view["alerts"]] == ["high"]
    assert view["sinks"] == [{"name": "s", "state": "up", "delivered": 1, "rejected": 0, "pending": 1, "error": None}]


def test_followed_into_a_pipe_each_new_snapshot_is_a_line(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), [Snapshot(2, metrics={"b/loss": 20.0})], None))
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = start(str(tmp_path), "--follow", "--only", "a/*", "--interval", "0.1", **pipes)
    try:
        said = process.stderr.readline()  # from now on, it prints what is new
        write(tmp_path, (RunInfo(id="2", step=2), losses(4), "finished"))
        lines = [process.stdout.readline() for _ in range(3)]
    finally:
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=120)
    assert said == "--only: no metric matches 'a/*'. The metrics are: b/loss.\n"
    assert lines == ["r  resumed at step 2\n", "r  step 4  train  a/loss 40\n", "r  finished\n"]
    assert (process.returncode, rest) == (0, ("", ""))


@pytest.mark.parametrize("before", [[], ["earlier"]], ids=["an empty directory", "an ended training"])
def test_followed_into_a_pipe_each_training_that_begins_below_the_directory_has_its_lines(
    tmp_path, follow, before
) -> None:
    def train(name: str) -> None:
        write(tmp_path / name, (RunInfo(id=name, name=name), losses(1, at=time.time()), "finished"))

    for name in ("earlier", "first", "second"):  # in this order too if a clock gives two files the same time
        (tmp_path / name).mkdir()
    for name in before:
        train(name)
    lines = follow(tmp_path, waits=[lambda: train("first"), lambda: train("second"), list]).stdout.splitlines()
    assert lines == [
        f"{name}  {what}" for name in ("first", "second") for what in ("begins", "step 1  train  a/loss 10", "finished")
    ]


def test_the_lines_of_the_first_training_of_an_empty_directory_appear_once(tmp_path, follow) -> None:
    def train() -> None:
        write(tmp_path, (RunInfo(id="1", name="r"), losses(1, at=time.time()), None))

    assert follow(tmp_path, waits=[train, list, list]).stdout == "r  begins\nr  step 1  train  a/loss 10\n"


def test_a_line_tells_whether_a_training_begins_resumes_or_goes_on() -> None:
    trainings, lines = Trainings(), []
    for run_id, step in (("1", 0), ("1", 0), ("2", 4), ("2", 4), ("1", 0)):
        begin = Begin(RunInfo(id=run_id, name="r", step=step))
        trainings.add(begin)
        lines.append(item_line(trainings.current, begin))
    assert lines == ["r  begins", "r  goes on", "r  resumed at step 4", "r  goes on", "r  goes on"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_followed_lines_have_only_the_metrics_that_match(tmp_path, follow, form) -> None:
    def at(step: int, **values: float) -> Snapshot:
        metrics = {key.replace("__", "/"): value for key, value in values.items()}
        return Snapshot(step, metrics=metrics, counts=dict.fromkeys(metrics, 4))

    def resume() -> None:
        snapshots = [at(4, a__loss=3.0, b__loss=4.0), at(6, a__loss=5.0), at(8, b__loss=6.0)]
        write(tmp_path, (RunInfo(id="2", step=2), snapshots, "finished"))

    write(tmp_path, (RunInfo(id="1", name="r"), [at(2, a__loss=1.0, b__loss=2.0)], None))
    more = ["--json"] if form == "json" else []
    lines = follow(tmp_path, "--only", "b/*", *more, waits=[resume, list]).stdout.splitlines()
    if form == "json":
        records = [json.loads(line) for line in lines]
        assert [(each["metrics"], each["counts"]) for each in records if each["event"] == "snapshot"] == [
            ({"b/loss": 4.0}, {"b/loss": 4}), ({"b/loss": 6.0}, {"b/loss": 4}),
        ]  # fmt: skip
    else:
        shown = ["r  step 4  train  b/loss 4", "r  step 8  train  b/loss 6"]
        assert lines == ["r  resumed at step 2", *shown, "r  finished"]


@pytest.mark.parametrize("form", ["text", "json"])
def test_followed_lines_tell_that_the_end_cut_a_window_short(tmp_path, follow, form) -> None:
    def resume() -> None:
        cut = Snapshot(5, metrics={"a/n": 20.0}, is_partial=True)
        write(tmp_path, (RunInfo(id="2", step=2), [Snapshot(4, metrics={"a/n": 40.0}), cut], None))

    write(tmp_path, (RunInfo(id="1", name="r"), [Snapshot(2, metrics={"a/n": 40.0})], None))
    more = ["--json"] if form == "json" else []
    lines = follow(tmp_path, *more, waits=[resume, list]).stdout.splitlines()[1:]
    if form == "json":
        found = [(each["step"], each["metrics"], each["partial"]) for each in map(json.loads, lines)]
        assert found == [(4, {"a/n": 40.0}, False), (5, {"a/n": 20.0}, True)]
    else:
        assert lines == ["r  step 4  train  a/n 40", "r  step 5  train (partial)  a/n 20"]


def test_a_note_says_once_that_no_followed_metric_matches(tmp_path, follow) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), losses(2, 4), None))
    done = follow(tmp_path, "--only", "b/*", waits=[list, list])
    lines = [line for line in done.stderr.splitlines() if "--only" in line]  # other threads may write there too
    assert (done.stdout, lines) == ("", ["--only: no metric matches 'b/*'. The metrics are: a/loss."])


def test_on_a_terminal_it_lives_until_ctrl_c_and_leaves_the_last_picture(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="first"), losses(2, 4), "finished"))
    ours, theirs = pty.openpty()
    process = start(str(tmp_path), "--interval", "0.1", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    try:
        assert "first" in _read_until(ours, "loss")
        write(tmp_path, (RunInfo(id="2", name="second"), losses(7), "killed"))
        assert "killed" in _read_until(ours, "second", "killed", "loss")
        process.send_signal(signal.SIGINT)
        rest = _read_to_end(ours)
        process.wait(120)
    finally:
        process.kill()
        os.close(ours)
    assert rest.index("\x1b[?1049l") < rest.rindex("second")  # it leaves the alternate screen first
    assert process.returncode == 1


def _read_until(terminal: int, *words: str) -> str:
    text, end = "", time.monotonic() + 120.0
    while not all(word in text for word in words):
        assert time.monotonic() < end, text
        if select.select([terminal], [], [], 0.2)[0]:
            text += os.read(terminal, 65_536).decode(errors="replace")
    return text


def _read_to_end(terminal: int) -> str:
    text = b""
    with suppress(OSError):  # the reader has closed its end
        while True:
            text += os.read(terminal, 65_536)
    return text.decode(errors="replace")


def test_a_terminal_without_blocks_gets_ascii(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), losses(1, 2), "finished"))
    done = subprocess.run(
        [sys.executable, "-m", "mtask_sinks", "watch", str(tmp_path)],
        capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert b"_%" in done.stdout


def test_a_running_training_elsewhere_is_said_to_be_elsewhere(tmp_path) -> None:
    path = write(tmp_path, (RunInfo(id="1", name="r"), losses(2), None))
    as_of_process(path, "node7", 1)
    assert watch(str(path)).output.startswith("r  running on node7, as far as the journal shows  ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "there is no nowhere. Pass a journal"),
        (["."], "It appears with the first log event that has metrics."),
        ([".", "--follow", "--once"], "choose one"),
    ],
)
def test_what_cannot_be_watched_is_refused(arguments, said) -> None:
    done = watch(*arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_pattern_that_matches_no_metric_is_a_usage_error(tmp_path, form) -> None:
    write(tmp_path, (RunInfo(id="1"), losses(1), "finished"))
    done = watch(str(tmp_path), "--only", "nix", *form)
    assert done.exit_code == 2
    assert "--only: no metric matches 'nix'. The metrics are: a/loss." in done.output


def test_a_pattern_may_match_nothing_as_long_as_there_is_no_metric(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1", name="r"), [], None))
    assert watch(str(tmp_path), "--only", "nix").output.startswith("r  running")


def test_no_torch(tmp_path, without_torch) -> None:
    write(tmp_path, (RunInfo(id="1"), losses(1), "finished"))
    assert "finished" in without_torch("watch", str(tmp_path))


def test_a_real_training(tmp_path) -> None:
    class Trainer(InOrder, HfMultiTaskTrainer):
        pass

    args = arguments(tmp_path / "out", report_to="tensorboard", logging_steps=2, run_name="toy")
    Trainer(Toy(), args, train_dataset=numbers(1, 2, 3, 5, 8, 13)).train()
    view = json.loads(watch(str(tmp_path / "out"), "--json").output)
    assert (view["name"], view["status"], view["step"], view["max_steps"]) == ("toy", "finished", 6, 6)
    row, overall = view["rows"]
    assert (overall["phase"], overall["last"]) == ("overall", (1 + 2 + 3 + 5 + 8 + 13) / 6)
    # The last window is (8 + 13) / 2, the one before it (3 + 5) / 2.
    assert (row["task"], row["name"], row["last"], row["change"], row["count"]) == ("a", "loss", 10.5, 6.5, 2)
    (sink,) = view["sinks"]
    assert (sink["name"], sink["state"], sink["pending"], sink["rejected"]) == ("tensorboard", "closed", 0, 0)
    assert Path(view["journal"]) == tmp_path / "out" / "metrics.jsonl"
