"""Every Python block of the README runs, in order, as one program; the commands are the ones that are used."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.mark.usefixtures("mlflow_store")
def test_the_python_blocks_run(tmp_path, capsys) -> None:
    namespace = {"output_dir": str(tmp_path / "out"), "__name__": "readme"}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), namespace)
    assert "1 train {'price/loss': " in capsys.readouterr().out


def test_ci_runs_the_command_that_the_readme_names() -> None:
    _, tests = blocks("sh")
    assert tests.strip() in (ROOT / ".ci" / "run").read_text()


def test_the_first_command_installs_and_runs_the_main_job() -> None:
    first, _ = blocks("sh")
    assert first.strip().endswith("mtask-sinks demo")
    assert "-c constraints.txt" in first
