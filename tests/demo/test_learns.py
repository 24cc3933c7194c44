"""The whole demonstration. It takes minutes, so it runs only with `pytest --run-demo`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.event_files import read_scalars, run_dirs

pytestmark = [pytest.mark.long, pytest.mark.timeout(1500)]


def test_both_tasks_learn_on_text_they_never_saw(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    if not request.config.getoption("--run-demo"):
        pytest.skip("takes more than a minute; pass --run-demo, as tox does")
    subprocess.run(
        [sys.executable, "-m", "mtask_sinks", "demo", "--output_dir", str(tmp_path)],
        check=True, stderr=subprocess.DEVNULL, timeout=1200,
    )  # fmt: skip
    (run,) = run_dirs(tmp_path)
    scalars = read_scalars(run)
    first, last = ({tag: points[end][1] for tag, points in scalars.items()} for end in (0, -1))
    assert last["mlm/eval/loss"] < 0.75 * first["mlm/eval/loss"]
    assert last["nsp/eval/loss"] < 0.95 * first["nsp/eval/loss"]
    assert last["nsp/eval/accuracy"] > 0.6
