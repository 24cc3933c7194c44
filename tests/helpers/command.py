"""Runs the command as a user does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def command(*arguments: str, cwd: Path | None = None, expect: int = 0, seconds: float = 240) -> str:
    """Run the command and return what it printed on both streams. Fails if the exit code is not as expected."""
    done = subprocess.run(
        [sys.executable, "-m", "mtask_sinks", *arguments], cwd=cwd, capture_output=True, text=True, timeout=seconds
    )
    assert done.returncode == expect, done.stderr[-3000:]
    return done.stdout + done.stderr
