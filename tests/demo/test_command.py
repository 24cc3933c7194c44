"""``mtask-sinks demo``, and what a user sees of it in each backend and on our own pages.

With ``pytest --run-demo`` the first of two trainings is the whole demonstration, else a short one.
"""

from __future__ import annotations

import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.command import command
from helpers.event_files import read_scalars, run_dirs
from helpers.mlflow_server import mlflow_server
from helpers.tensorboard_server import tensorboard_server
from helpers.terminal import Terminal
from helpers.wandb_file import read_runs
from typer.testing import CliRunner

from mtask_sinks import read_journal
from mtask_sinks._util.formatting import number
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.cli import app
from mtask_sinks.cli.demo_process import DemoProcess

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def steps(request: pytest.FixtureRequest) -> int:
    """The number of steps of the first run."""
    return 2250 if request.config.getoption("--run-demo") else 20


@pytest.fixture(scope="module")
def first_run(steps, tmp_path_factory) -> Iterator[tuple[Path, str]]:
    """Make a run in a pipe, and return its directory and its output."""
    directory = tmp_path_factory.mktemp("demo")
    shorter = ("--max_steps", str(steps)) if steps < 2250 else ()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_DIR", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        yield directory / "out", command("demo", "--output_dir", "out", *shorter, cwd=directory, seconds=1200)


# The process of the training waits at its end until the test has seen on the screen what the training reports.
_ENDS_WHEN_SEEN = """
import atexit, sys, time
from pathlib import Path

def wait():
    while not Path("seen").exists():
        time.sleep(0.05)

if "mtask_sinks.demo" in sys.orig_argv:
    atexit.register(wait)
"""


@pytest.fixture(scope="module")
def two_runs(first_run) -> tuple[Path, str]:
    """Make a second run in the same directory, a short one on a terminal. Return the output of the first one."""
    out, text = first_run
    (out.parent / "sitecustomize.py").write_text(_ENDS_WHEN_SEEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out.parent)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(out.parent), os.environ.get("PYTHONPATH", "")]))
        with Terminal("demo", "--output_dir", "out", "--max_steps", "2", "--seed", "1", lines=50) as terminal:
            terminal.wait_for("Loading torch", seconds=100)
            terminal.wait_for("q quit", seconds=200)
            terminal.wait_for(lambda screen: bool(re.search(r"^mlm +loss", screen.text, re.MULTILINE)), seconds=200)
            (out.parent / "seen").touch()
            assert terminal.wait_for_end(seconds=200) == 0, terminal.text
    (out.parent / "terminal.txt").write_text(terminal.text)
    return out, text


@pytest.mark.parametrize("where", ["pipe", "terminal"])
def test_the_demo_ends_with_a_table_a_report_and_the_commands_that_show_more(two_runs, where: str) -> None:
    out, text = two_runs
    text = text if where == "pipe" else (out.parent / "terminal.txt").read_text()
    run, numbers = ("demo-1", r"( +[\d.,]+){2}  [▁-█]+") if where == "pipe" else ("demo-2", r"( +[\d.,]+){2}  [▁-█ ]+")
    assert re.search(rf"^mlm +loss{numbers}{numbers}", text, re.MULTILINE)
    assert re.search(rf"^nsp +loss{numbers}{numbers}", text, re.MULTILINE)
    assert f"out/{run}/report.html" in text and "mlm" in (out / run / "report.html").read_text()
    beginnings = ("mtask-sinks watch", "mtask-sinks plot", "mtask-sinks report", "mtask-sinks diff")
    beginnings += ("tensorboard --logdir", "mlflow ui --backend-store-uri sqlite:///", "wandb sync")
    places = [text.index(beginning) for beginning in beginnings]
    assert places == sorted(places)


def test_the_log_is_named_and_holds_no_noise(two_runs) -> None:
    out, text = two_runs
    assert "Log: out/demo-1/training.log" in text
    logs = [(out / run / "training.log").read_text() for run in ("demo-1", "demo-2")]
    assert "mlm  loss" in logs[1] and "mlm  loss" in text and "mlm  loss" not in logs[0]
    for printed in (text.partition("first value")[0], *logs):
        assert not re.search("pin_memory|Writing model shards|it/s", printed)
        assert "" not in printed.splitlines()


def test_evaluations_are_apart(first_run, steps) -> None:
    out, _ = first_run
    found = [each.step for each in read_journal(out / "demo-1")[-1].snapshots if each.phase == "eval"]
    assert found == {20: [0, 4, 8, 12, 16, 20], 2250: [0, 375, 750, 1125, 1500, 1875, 2250]}[steps]


def test_both_tasks_learn_on_text_they_never_saw(first_run, steps) -> None:
    if steps < 2250:
        pytest.skip("the whole demonstration takes more than a minute; pass --run-demo, as tox does")
    out, _ = first_run
    scalars = read_scalars(run_dirs(out)[0])
    first, last = ({tag: points[end][1] for tag, points in scalars.items()} for end in (0, -1))
    assert last["mlm/eval/loss"] < 0.75 * first["mlm/eval/loss"]
    assert last["nsp/eval/loss"] < 0.95 * first["nsp/eval/loss"]
    assert last["nsp/eval/accuracy"] > 0.6


def test_the_first_line_comes_before_torch(tmp_path) -> None:
    code = (
        "import subprocess, sys\nfrom typer.testing import CliRunner\nfrom mtask_sinks.cli import app\n"
        "def start(*words, **options): raise RuntimeError('torch' in sys.modules)\n"
        "subprocess.Popen = start\n"
        "done = CliRunner().invoke(app, ['demo', '--report_to', 'none'])\n"
        "print(done.output, done.exception)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert "Training a small BERT on two tasks" in done.stdout and done.stdout.rstrip().endswith("False"), done


def test_ctrl_c_stops_the_training(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Terminal("demo", "--output_dir", "out", "--max_steps", "100000", "--report_to", "none") as terminal:
        terminal.wait_for("q quit", seconds=200).press("interrupt")
        assert terminal.wait_for_end(seconds=100) == 130
        assert "Stopped." in terminal.text
    assert read_trainings(tmp_path / "out" / "demo-1")[0].status in ("failed", "killed")


def test_sigterm_to_the_demo_stops_the_training(monkeypatch) -> None:
    class Process:
        log, is_stopped = "training.log", False

        def __init__(self, *args, **kwargs) -> None:
            made.append(self)

        def wait(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(100)

        def is_over(self) -> bool:
            return self.is_stopped

        def stop(self) -> None:
            self.is_stopped = True

    made: list[Process] = []
    monkeypatch.setattr("mtask_sinks.cli.demo_process.DemoProcess", Process)
    before = signal.getsignal(signal.SIGTERM)
    done = CliRunner().invoke(app, ["demo", "--report_to", "none"])
    assert (done.exit_code, [process.is_stopped for process in made]) == (143, [True])
    assert "Stopped. The log is training.log." in done.output
    assert signal.getsignal(signal.SIGTERM) == before


def test_the_training_stops_where_a_process_cannot_be_interrupted(tmp_path, monkeypatch) -> None:
    send, refused = subprocess.Popen.send_signal, []

    def send_as_on_windows(process, number) -> None:
        if number == signal.SIGINT:
            refused.append(number)
            raise ValueError(f"Unsupported signal: {number}")
        send(process, number)

    monkeypatch.setattr(subprocess.Popen, "send_signal", send_as_on_windows)
    process = DemoProcess(tmp_path, 100_000, 0, [], dict(os.environ), to_log=True)
    process.stop()
    assert refused == [signal.SIGINT] and process.is_over()


def test_a_training_that_fails_shows_the_end_of_its_log(tmp_path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nif 'mtask_sinks.demo' in sys.orig_argv: raise SystemExit('no memory left')\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
        text = command("demo", "--report_to", "none", "--output_dir", "runs [new]", cwd=tmp_path, expect=1)
    assert "no memory left" in text and "The whole log is runs [new]/demo-1/training.log" in text
    assert "for 2,250 steps, in runs [new]/demo-1. " in text and "Log: runs [new]/demo-1/training.log\n" in text


def test_the_demo_writes_all_three_backends_once_a_run(two_runs) -> None:
    out, _ = two_runs
    logs = run_dirs(out)
    assert [path.relative_to(out).parts[0] for path in logs] == ["demo-1", "demo-2"]
    names = {"mlm/train/loss", "mlm/eval/loss", "mlm/train/n_tokens", "mlm/eval/perplexity", "nsp/train/accuracy"}
    for path in logs:
        assert names <= set(read_scalars(path))
    with sqlite3.connect(out / "mlflow.db") as store:
        runs = store.execute("select name, status from runs order by start_time").fetchall()
        keys = {key for (key,) in store.execute("select distinct key from metrics")}
    assert runs == [("demo-1", "FINISHED"), ("demo-2", "FINISHED")]
    assert names <= keys
    first, second = read_runs(out)
    for run in (first, second):
        assert names <= {name for row in run.history for name in row}
        assert run.exit_code == 0


def test_the_demo_keeps_the_first_run_when_a_second_is_made(two_runs) -> None:
    out, _ = two_runs
    for name in ("demo-1", "demo-2"):
        assert list((out / name).glob("checkpoint-*"))


def test_the_demo_reports_what_it_says(first_run, steps) -> None:
    out, _ = first_run
    scalars = read_scalars(run_dirs(out)[0])
    tokens = sum(value for _, value in scalars["mlm/train/n_tokens"])
    # Each step has 24 pairs of up to 64 tokens, 15 % of them masked.
    assert steps * 24 * 30 * 0.15 < tokens < steps * 24 * 64 * 0.2
    at, losses = zip(*scalars["mlm/eval/loss"])
    assert (at[0], at[-1]) == (0, steps)
    assert losses[-1] < losses[0]
    for (_, loss), (_, perplexity) in zip(scalars["mlm/eval/loss"], scalars["mlm/eval/perplexity"]):
        assert perplexity == pytest.approx(math.exp(loss), rel=1e-5)


def last_values(run: Path) -> dict[tuple[str, str, str], float]:
    """Return the last values from the journal: (task, phase, name) → value."""
    values = {}
    for snapshot in read_journal(run)[-1].snapshots:
        for key, value in snapshot.metrics.items():
            task, name = key.split("/")
            values[task, snapshot.phase, name] = value
    return values


class TestInABrowser:
    def test_tensorboard_has_both_runs_and_a_section_a_task(self, two_runs, browser, tmp_path) -> None:
        out, _ = two_runs
        with tensorboard_server(out, tmp_path / "log") as url:
            browser.open(f"{url}/#timeseries")
            titles = {"mlm\n12 cards", "nsp\n6 cards"}  # 4 and 2 metrics, in 3 phases
            expected = titles | {"demo-1", "demo-2"}
            browser.wait_for(lambda page: expected <= set(re.findall(r"\w+\n\d+ cards|demo-\d", page.deep_text())))

    def test_mlflow_has_a_group_a_task_and_phase_and_the_last_values(self, two_runs, browser, tmp_path) -> None:
        out, _ = two_runs
        with sqlite3.connect(out / "mlflow.db") as database:
            ((run, experiment),) = database.execute("select run_uuid, experiment_id from runs where name = 'demo-1'")
        with mlflow_server(tmp_path, out / "mlflow.db") as server:
            server.start()
            page = f"{server.uri}/#/experiments/{experiment}/runs/{run}"
            browser.open(f"{page}/model-metrics")
            shown = browser.wait_for(lambda page: text if "(mlm/eval/loss)" in (text := page.text()) else "")
            groups = dict(re.findall(r"^(\w+/\w+)\n\((\d+)\)$", shown, re.MULTILINE))
            browser.open("about:blank")
            browser.open(page)
            shown = browser.wait_for(lambda page: text if "nsp/train/loss" in (text := page.text()) else "")
        phases = ("eval", "overall", "train")
        assert groups == {f"{task}/{phase}": n for task, n in (("mlm", "4"), ("nsp", "2")) for phase in phases}
        values = {name: float(value) for name, value in re.findall(r"^(\w+/\w+/\w+)\s+(\S+)$", shown, re.MULTILINE)}
        expected = {"/".join(parts): value for parts, value in last_values(out / "demo-1").items()}
        assert values == pytest.approx(expected, rel=1e-4)

    def test_our_pages_have_both_runs_with_their_curves_and_last_values(self, two_runs, browser) -> None:
        out, _ = two_runs
        browser.errors()  # forget the errors of earlier pages
        command("plot", "demo-1", "demo-2", "-o", "plot.html", cwd=out)
        browser.driver.set_window_size(1400, 4000)  # panels out of view are not drawn
        browser.open(out / "plot.html")
        browser.wait_for(lambda page: page.evaluate("return document.documentElement.dataset.charts === 'drawn'"))
        points = browser.evaluate(
            "return [...document.querySelectorAll('.group:not([data-fixed]) .panel .plot')]"
            ".flatMap(p => p.data.filter(c => c.mode === 'lines').map(c => c.y[c.y.length - 1]))"
        )
        last = {run: last_values(out / run) for run in ("demo-1", "demo-2")}
        expected = [
            value for run in last.values() for (_, phase, _), value in run.items() if phase in ("train", "eval")
        ]
        assert sorted(points) == pytest.approx(sorted(expected), rel=1e-9)
        command("report", "demo-1", "demo-2", "-o", "report.html", cwd=out)
        browser.open(out / "report.html")
        browser.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        rows = [line.split("\t") for line in browser.text().splitlines()]
        for run in last.values():
            for (task, phase, name), value in run.items():
                assert any({phase, name, number(value)} <= set(row) for row in rows), (task, phase, name, value)
        assert browser.errors() == []
