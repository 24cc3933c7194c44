"""The command, run as a user runs it."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.event_files import read_scalars, run_dirs
from helpers.wandb_file import read_runs


def command(*arguments: str, cwd: Path | None = None, expect: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mtask_sinks", *arguments], cwd=cwd, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == expect, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_help_shows_every_option_and_an_example() -> None:
    text = command("demo", "--help")
    for option in ("--output_dir", "--max_steps", "--report_to", "--seed"):
        assert option in text
    assert "Example" in text


def test_version_is_printed() -> None:
    from mtask_sinks import __version__

    assert command("--version").strip() == __version__


def test_help_needs_no_torch() -> None:
    code = (
        "import sys\nimport mtask_sinks.cli\nprint([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_an_unknown_sink_is_a_usage_error_and_leaves_nothing_behind(tmp_path) -> None:
    text = command("demo", "--report_to", "tensorbord", "--max_steps", "1", cwd=tmp_path, expect=2)
    assert "tensorboard" in " ".join(re.sub(r"[│\s]+", " ", text).split())
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory) -> tuple[Path, str]:
    """Two short runs into one directory, and what the second printed."""
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
    import math

    for (_, loss), (_, perplexity) in zip(scalars["mlm/eval/loss"], scalars["mlm/eval/perplexity"]):
        assert perplexity == pytest.approx(math.exp(loss), rel=1e-5)
