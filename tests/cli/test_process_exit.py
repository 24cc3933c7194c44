"""How a command ends whose sink never returns from a call."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.journals import write

from mtask_sinks import RunInfo, Snapshot

# A sink of another package. Its backend has native code, which crashes if Python takes down its modules too early.
_STUCK = """
import atexit, os, signal, sys, threading
from pathlib import Path

from mtask_sinks import Sink

class Native:
    def __del__(self, kill=os.kill, process=os.getpid(), number=signal.SIGSEGV):
        kill(process, number)

sys.native = Native()
atexit.register(Path("handled").touch)

class Stuck(Sink):
    name = "stuck"

    def write(self, snapshot):
        threading.Event().wait()

    def check(self, run, seconds):
        threading.Event().wait()
"""


@pytest.fixture
def with_stuck(tmp_path) -> dict[str, str]:
    """The environment of a process in which the package of the sink is installed."""
    package = tmp_path / "installed"
    (package / "stuck-1.0.dist-info").mkdir(parents=True)
    (package / "stuck.py").write_text(_STUCK)
    (package / "stuck-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: stuck\nVersion: 1.0\n")
    (package / "stuck-1.0.dist-info" / "entry_points.txt").write_text("[mtask_sinks.sinks]\nstuck = stuck:Stuck\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")])}


def run(tmp_path: Path, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mtask_sinks", *words],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_a_replay_whose_sink_hangs_exits_with_1_after_the_exit_handlers_of_the_backends(tmp_path, with_stuck) -> None:
    journal = write(tmp_path / "out", (RunInfo(id="1"), [Snapshot(1, metrics={"a/loss": 0.5})], "finished"))
    done = run(tmp_path, with_stuck, "replay", str(journal), "--to", "stuck", "--patience", "0.1")
    assert (done.returncode, done.stdout) == (1, "stuck: 0 delivered, 0 rejected, 1 left\n"), done.stderr
    assert Path(tmp_path, "handled").exists()


@pytest.mark.parametrize("words", [["sinks", "stuck"], ["doctor", "train.py"]])
def test_a_check_of_a_backend_that_hangs_exits_with_1(tmp_path, with_stuck, words) -> None:
    Path(tmp_path, "train.py").write_text('TrainingArguments("out", report_to="stuck")\n')
    done = run(tmp_path, with_stuck, *words, "--check", "--timeout", "0.1")
    assert done.returncode == 1, done.stderr
    assert "did not answer within 0.1 s" in done.stdout
