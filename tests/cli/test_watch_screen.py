"""`mtask-sinks watch` on terminals: what they show, and what the keys do."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.journals import losses, write
from helpers.large_journal import METRICS, PHASES, TASKS, value, write_large
from helpers.terminal import Terminal

from mtask_sinks import RunInfo, Snapshot
from mtask_sinks._util.formatting import number
from mtask_sinks.cli.watch_screen import WatchedTrainings

KEYS = [f"{task}/{metric}" for task in TASKS for metric in METRICS]


@pytest.fixture(scope="module")
def large() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:  # a short name: a long one takes a line of its own
        write_large(Path(directory, "out"))
        yield Path(directory, "out")


@pytest.fixture(scope="module")
def opened(large) -> Iterator[Terminal]:
    with Terminal("watch", str(large), "--interval", "0.2") as terminal:
        yield terminal.wait_for("quit")


@pytest.fixture
def terminal(opened) -> Terminal:
    """A terminal of 80 columns and 24 lines that shows everything."""
    return opened.press("enter", "escape").wait_for("↓ 31 more  / filter  s by task  p phases")


def table(terminal: Terminal) -> tuple[str, list[tuple[str, str]]]:
    """The heading of the table on a screen; key → rest of the row, for each row."""
    lines = terminal.lines
    at = next(i for i, line in enumerate(lines) if line.startswith("task "))
    metric = lines[at].index("metric")
    rows, task = [], ""
    for line in lines[at + 1 : -2]:
        if line:
            task = line[:metric].strip() or task
            name, _, rest = line[metric:].partition(" ")
            rows.append((f"{task}/{name}", rest))
    return lines[at], rows


def shown_keys(terminal: Terminal) -> list[str]:
    return [key for key, _ in table(terminal)[1]]


@pytest.mark.parametrize(
    ("columns", "lines", "rows", "dropped"),
    [
        (80, 24, 17, ["reports", "change", "other curves", "curve"]),
        (200, 50, 44, []),
        (40, 12, 3, ["reports", "change", "other curves", "curve", "eval_wiki", "eval_news", "eval_books"]),
    ],
)
def test_a_row_is_a_metric_and_phases_are_columns_as_far_as_they_fit(large, columns, lines, rows, dropped) -> None:
    with Terminal("watch", str(large), columns=columns, lines=lines) as terminal:
        terminal.wait_for("quit" if columns > 40 else "  q")
        heading, shown = table(terminal)
        assert [key for key, _ in shown] == KEYS[:rows]
        phases = [phase for phase in PHASES if phase not in dropped]
        for key, rest in shown:
            cells = re.sub("[▁-█]", " ", rest).split()
            values = [number(value(*key.split("/"), phase, 2000)) for phase in phases]
            assert [cell for cell in cells if cell in values] == values, (
                f"a value of {key} is missing or broken: {rest}"
            )
        assert all(heading.count(phase) == 1 for phase in phases)
        no_room = f"no room for: {', '.join(dropped)}" if dropped else ""
        assert terminal.lines[-2] == (no_room if len(no_room) <= columns else f"{no_room[: columns - 1]}…")
        assert f"↓ {len(KEYS) - rows} more" in terminal.lines[-1]


def test_curves_take_the_width_that_is_left(large) -> None:
    with Terminal("watch", str(large), "--only", "mlm/loss", columns=240) as terminal:
        terminal.wait_for("quit")
        (line,) = (line for line in terminal.lines if line.startswith("mlm "))
        longest, *others = sorted((len(curve) for curve in re.findall("[▁-█]+", line)), reverse=True)
        assert others == [10, 10, 10]  # one character per evaluation
        assert len(line) == 240 and longest > 50


def test_keys_scroll_to_every_row(terminal) -> None:
    seen = set(shown_keys(terminal))
    terminal.press("down").wait_for("↑ 1 more")
    assert shown_keys(terminal)[0] == KEYS[1]
    terminal.press("up", "pagedown").wait_for("↑ 17 more  ↓ 14 more")
    seen |= set(shown_keys(terminal))
    terminal.press("end").wait_for("↑ 31 more")
    assert "↓" not in terminal.lines[-1]
    assert seen | set(shown_keys(terminal)) == set(KEYS)
    terminal.press("home").wait_for("↓ 31 more")
    assert shown_keys(terminal)[0] == KEYS[0]


def test_typing_filters(terminal) -> None:
    terminal.press("/", "loss").wait_for("6 of 48 rows")
    assert shown_keys(terminal) == [f"{task}/loss" for task in TASKS]
    terminal.press("backspace", "enter").wait_for("/ los")
    terminal.press("escape").wait_for("/ filter")
    terminal.press("/", "T*N/q", "enter").wait_for("no metric matches")
    terminal.press("/", "backspace", "F", "*", "enter").wait_for("f1")
    assert shown_keys(terminal) == ["translation/f1"]


def test_s_sorts(terminal) -> None:
    terminal.press("s").wait_for("s by metric")
    assert shown_keys(terminal)[:7] == [*(f"{task}/accuracy" for task in TASKS), "mlm/f1"]
    terminal.press("s").wait_for("s worse first")
    terminal.press("s", "s").wait_for("s by task")


def test_p_chooses_a_phase_which_then_has_room_for_more_columns(terminal) -> None:
    terminal.press("p", "p").wait_for("p eval_books")
    heading, shown = table(terminal)
    assert heading.split() == ["task", "metric", "eval_books", "change", "curve", "reports"]
    assert shown[0][1].split()[0] == number(value("mlm", "loss", "eval_books", 2000))


def test_q_quits_and_leaves_the_picture_that_was_chosen(large) -> None:
    with Terminal("watch", str(large)) as terminal:
        terminal.wait_for("quit").press("/", "nsp/loss", "enter").wait_for("/ nsp/loss").press("q")
        assert terminal.wait_for_end() == 0
        left = terminal.text[terminal.text.rindex("bert  finished") :]
    assert left.count("nsp ") == 1 and "mlm" not in left and "quit" not in left


def test_ctrl_c_quits_too_and_the_terminal_is_as_before(large) -> None:
    script = 'trap : INT; old=$(stty -g); "$0" -m mtask_sinks watch "$1"; test "$old" = "$(stty -g)"; echo differs $?'
    with Terminal(program=["sh", "-c", script, sys.executable, str(large)]) as terminal:
        terminal.wait_for("quit").press("/", "nsp/loss", "enter").wait_for("/ nsp/loss").press("interrupt")
        terminal.wait_for("differs 0")
        left = terminal.text[terminal.text.rindex("bert  finished") :]
    assert left.count("nsp ") == 1 and "mlm" not in left


def test_a_watch_that_ctrl_z_stopped_ends_by_kill(large) -> None:
    with Terminal(program=["bash", "--norc", "-i"]) as terminal:
        terminal.press(f"{sys.executable} -m mtask_sinks watch {large}\n").wait_for("s by task").press("\x1a")
        terminal.wait_for("Stopped").wait_for(lambda terminal: not terminal.screen.cursor.hidden)
        wait = "while kill -0 $watch 2>/dev/null; do sleep 0.1; done"  # then the shell tells how its job has ended
        terminal.press(f"clear; watch=$(jobs -p); kill %1; {wait}\n").wait_for("Exit 143")


def test_sigterm_leaves_the_terminal_as_before(large, tmp_path) -> None:
    pid = tmp_path / "pid"
    watch = f"sh -c 'echo $$ > {pid}; exec {sys.executable} -m mtask_sinks watch {large}'"
    with Terminal(program=["bash", "-c", f"{watch}; echo code $?; stty -a"]) as terminal:
        terminal.wait_for("quit")
        os.kill(int(pid.read_text()), signal.SIGTERM)
        terminal.wait_for("code 143").wait_for(" icanon ")
        assert not terminal.screen.cursor.hidden


def test_ctrl_z_gives_the_terminal_to_the_shell_and_fg_continues_with_all_keys(large) -> None:
    with Terminal(program=["bash", "--norc", "-i"]) as terminal:
        terminal.press(f"{sys.executable} -m mtask_sinks watch {large}\n").wait_for("s by task").press("\x1a")
        terminal.wait_for("Stopped").wait_for(lambda terminal: not terminal.screen.cursor.hidden)
        terminal.press("clear; fg\n").wait_for("s by task").press("s").wait_for("s by metric").press("q")
        terminal.wait_for(lambda terminal: not terminal.screen.cursor.hidden)
        terminal.press("clear; stty -a\n").wait_for(" icanon ").wait_for(" echo ")


def test_another_size_makes_another_picture(terminal) -> None:
    terminal.resize(200, 50).wait_for("↓ 4 more")
    assert "no room" not in terminal.text
    terminal.resize(80, 24).wait_for("↓ 31 more")


def test_the_newest_of_several_is_shown_and_tab_switches(tmp_path) -> None:
    for age, name in enumerate(("c", "a", "deep/b")):
        path = write(make(tmp_path / name), (RunInfo(id=name, name=f"run of {name}"), losses(2, 4), "finished"))
        os.utime(path, (1000 + age, 1000 + age))
    with Terminal("watch", str(tmp_path), "--interval", "0.2", columns=120) as terminal:
        terminal.wait_for("run of deep/b  finished").wait_for("tab 3/3")
        assert "3 of 3 journals, newest last" in " ".join(terminal.text.split())
        terminal.press("tab").wait_for("run of c  finished").wait_for("tab 1/3")
        terminal.press("backtab", "backtab").wait_for("run of a  finished").wait_for("tab 2/3")


def make(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


def test_one_that_runs_goes_before_a_newer_one_that_has_ended(tmp_path) -> None:
    for age, (name, status) in enumerate((("a", "finished"), ("b", None), ("c", "failed"))):
        os.utime(write(make(tmp_path / name), (RunInfo(id=name), losses(2), status)), (1000 + age, 1000 + age))
    trainings = WatchedTrainings(tmp_path)
    assert (trainings.shown.name, trainings.position) == ("b", "2/3")
    write(tmp_path / "b", (RunInfo(id="b", step=2), [], "finished"))
    write(make(tmp_path / "d"), (RunInfo(id="d"), losses(2), None))
    trainings.search()
    assert trainings.shown.name == "d"  # the one that was shown has ended, and another one runs
    trainings.move(1)
    chosen = trainings.shown
    write(make(tmp_path / "e"), (RunInfo(id="e"), losses(2), None))
    trainings.search()
    assert trainings.shown == chosen  # the user chose it
    shutil.rmtree(chosen.path.parent)
    trainings.search()
    assert (trainings.shown.name, trainings.position) == ("e", "4/4")  # the chosen one is gone


def test_a_directory_without_any_training_is_waited_for(tmp_path) -> None:
    trainings = WatchedTrainings(tmp_path)
    assert (trainings.progress().status, trainings.position) == ("waiting", "")
    write(make(tmp_path / "a" / "b"), (RunInfo(id="1"), losses(2), "finished"))
    trainings.search()
    assert trainings.progress().status == "finished"


def with_settings(directory: Path, *settings: str) -> Terminal:
    """A terminal of 80 columns on which `mtask-sinks watch` has these environment variables."""
    return Terminal(program=["env", *settings, sys.executable, "-m", "mtask_sinks", "watch", str(directory)])


def test_a_terminal_that_cannot_overwrite_text_gets_the_table_once(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), losses(1, 2), "finished"))
    with with_settings(tmp_path, "TERM=dumb") as terminal:
        assert terminal.wait_for_end() == 0
        assert re.search(r"^a +loss +20 ", terminal.text, re.MULTILINE), terminal.text


@pytest.mark.parametrize("task", ["summarization_" + "x" * 60, "翻译" * 20, "übersetzung_" + "ß" * 40])
def test_long_names_take_one_line_each_also_in_ascii(tmp_path, task) -> None:
    names = [f"accuracy_of_{'long' * 10}_{n}" for n in range(30)]
    values = [Snapshot(step, metrics={f"{task}/{name}": 1.0 / step for name in names}) for step in (1, 2)]
    write(tmp_path, (RunInfo(id="1"), values, None))
    with with_settings(tmp_path, "PYTHONIOENCODING=ascii") as terminal:
        terminal.wait_for("q quit")
        heading = next(at for at, line in enumerate(terminal.lines) if line.startswith("task "))
        end = next(at for at, line in enumerate(terminal.lines) if line.startswith(("v ", "no room for")))
        rows = [row for row in terminal.lines[heading + 1 : end] if row]
        assert [re.search(r"_(\d+) +0\.5", row)[1] for row in rows] == [str(n) for n in range(len(rows))]
        assert "v " in terminal.lines[-1]
        assert "\\u2026" not in terminal.text


def test_a_long_name_of_an_evaluation_leaves_room_for_the_names_of_the_metrics(tmp_path) -> None:
    long = "eval_natural_questions_open_book_validation"
    write(tmp_path, (RunInfo(id="1"), losses(10, 20, phase=long), "finished"))
    with Terminal("watch", str(tmp_path), columns=40, lines=12) as terminal:
        heading, shown = table(terminal.wait_for("  q"))
        assert heading.split()[:2] == ["task", "metric"] and heading.split()[2].startswith("eval_")
        assert [(key, rest.split()[0]) for key, rest in shown] == [("a/loss", "200")]


def test_keys_choose_by_names_that_the_encoding_of_the_terminal_lacks(tmp_path) -> None:
    rows = [
        Snapshot(step, phase, metrics={"翻译/loss": 1.0, "b/loss": 2.0})
        for step in (1, 2)
        for phase in ("train", "评估")
    ]
    write(tmp_path, (RunInfo(id="1"), rows, None))
    task = r"\u7ffb\u8bd1"
    with with_settings(tmp_path, "PYTHONIOENCODING=ascii") as terminal:
        terminal.wait_for("p phases")
        terminal.press("p", "p").wait_for(r"p \u8bc4\u4f30")
        assert {key for key, _ in table(terminal)[1]} == {f"{task}/loss", "b/loss"}
        terminal.press("escape").wait_for("p phases")
        terminal.press("/", "翻", "enter").wait_for(r"/ \u7ffb  ")
        assert shown_keys(terminal) == [f"{task}/loss"]
