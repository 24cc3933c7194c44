"""``mtask-sinks demo``, and what a user sees of it in each backend and on our own pages."""

from __future__ import annotations

import math
import re
import sqlite3
from pathlib import Path

import pytest
from helpers.command import command
from helpers.event_files import read_scalars, run_dirs
from helpers.mlflow_server import mlflow_server
from helpers.tensorboard_server import tensorboard_server
from helpers.wandb_file import read_runs

from mtask_sinks import read_journal


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory) -> tuple[Path, str]:
    """Make two short runs in one directory. Returns the directory and the output of the second."""
    directory = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("WANDB_DIR", "WANDB_MODE", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        command("demo", "--output_dir", "out", "--max_steps", "20", cwd=directory)
        text = command("demo", "--output_dir", "out", "--max_steps", "2", "--seed", "1", cwd=directory)
    return directory / "out", text


def test_the_demo_ends_with_a_table_and_the_commands_that_open_each_backend(two_runs) -> None:
    _, text = two_runs
    assert re.search(r"mlm\s+│ loss\s+│\s+[\d.]+ │\s+[\d.]+ │\s+[\d.]+ │\s+[\d.]+ │", text)
    assert re.search(r"nsp\s+│ loss", text)
    for beginning in ("tensorboard --logdir", "mlflow ui --backend-store-uri sqlite:///", "wandb sync"):
        assert beginning in text


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


def test_the_demo_reports_what_it_says(two_runs) -> None:
    out, _ = two_runs
    scalars = read_scalars(run_dirs(out)[0])
    tokens = sum(value for _, value in scalars["mlm/train/n_tokens"])
    # 20 steps of 24 pairs of up to 96 tokens, 15 % of them masked.
    assert 20 * 24 * 30 * 0.15 < tokens < 20 * 24 * 96 * 0.2
    steps, losses = zip(*scalars["mlm/eval/loss"])
    assert (steps[0], steps[-1]) == (0, 20)
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
            shown = browser.wait_for(lambda page: text if "nsp" in (text := page.deep_text()) else "")
            titles = dict(re.findall(r"^(\w+)\n(\d+) cards$", shown, re.MULTILINE))
            assert {"mlm": "8", "nsp": "4"}.items() <= titles.items()
            assert {"demo-1", "demo-2"} <= set(re.findall(r"demo-\d", shown))

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
        assert groups == {"mlm/eval": "4", "mlm/train": "4", "nsp/eval": "2", "nsp/train": "2"}
        values = {name: float(value) for name, value in re.findall(r"^(\w+/\w+/\w+)\s+(\S+)$", shown, re.MULTILINE)}
        expected = {"/".join(parts): value for parts, value in last_values(out / "demo-1").items()}
        assert values == pytest.approx(expected, rel=1e-4)

    def test_our_pages_have_both_runs_with_their_curves_and_last_values(self, two_runs, browser) -> None:
        out, _ = two_runs
        browser.errors()  # forget the errors of earlier pages
        command("plot", "demo-1", "demo-2", "-o", "plot.html", cwd=out)
        browser.open(out / "plot.html")
        points = browser.evaluate(
            "return [...document.querySelectorAll('.plot')].flatMap(p => p.data.map(c => c.y[c.y.length - 1]))"
        )
        expected = [*last_values(out / "demo-1").values(), *last_values(out / "demo-2").values()]
        assert sorted(points) == pytest.approx(sorted(expected), rel=1e-9)
        command("report", "demo-1", "demo-2", "-o", "report.html", cwd=out)
        browser.open(out / "report.html")
        rows = re.findall(r"^(mlm|nsp)\t(\w+)\t(\w+)\t\S+\t(\S+)\t\S+\t\d+\t(\S+)", browser.text(), re.MULTILINE)
        shown = {(task, phase, name): (first, second) for task, name, phase, first, second in rows}
        assert len(shown) == 12
        for at, run in enumerate(("demo-1", "demo-2")):
            for parts, value in last_values(out / run).items():
                assert float(shown[parts][at].replace(",", "")) == pytest.approx(value, rel=1e-3)
        assert browser.errors() == []
