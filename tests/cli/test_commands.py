"""The command, as a user runs it."""

from __future__ import annotations

import re
import subprocess
import sys

from helpers.command import command


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
