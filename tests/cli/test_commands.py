"""The command, as a user runs it."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from itertools import pairwise

import pytest
from helpers.command import command
from typer.testing import CliRunner

from mtask_sinks.cli import app


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


#: Before 0.21, typer puts no empty line between the paragraphs of a help text.
HAS_EMPTY_LINES = tuple(map(int, version("typer").split(".")[:2])) >= (0, 21)
COMMANDS = [command.callback.__name__ for command in app.registered_commands]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_at_80_columns_has_whole_names_and_lines_that_end_where_the_terminal_does(name: str) -> None:
    lines = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "80", "TERM": "dumb"}).output.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if re.search(r"--\w*…", line)]
    text = [line.strip() for line in lines if not line.startswith(("╭", "│", "╰"))]
    for line, after in pairwise(text) if HAS_EMPTY_LINES else ():
        if line and after:  # two lines of one paragraph
            assert len(line) + 1 + len(after.split()[0]) > 78, line


def test_options_are_understood_with_hyphens_too() -> None:
    for option in ("--output_dir", "--output-dir"):
        assert CliRunner().invoke(app, ["sinks", option, "x", "--json"]).exit_code == 0
    assert CliRunner().invoke(app, ["sinks", "--output+dir", "x"]).exit_code == 2
