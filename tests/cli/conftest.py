from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def without_torch() -> Callable[..., str]:
    """Return a function that runs a command in a new process without torch and returns its output."""

    def run(*arguments: str) -> str:
        code = (
            "import sys\nfrom typer.testing import CliRunner\nfrom mtask_sinks.cli import app\n"
            f"done = CliRunner().invoke(app, {list(arguments)!r})\n"
            "assert done.exception is None or isinstance(done.exception, SystemExit), done.exception\n"
            "assert 'torch' not in sys.modules\nprint(done.output)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
