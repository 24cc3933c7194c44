"""The command, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from itertools import pairwise

import pytest
from helpers.command import command
from helpers.journals import write
from typer.testing import CliRunner

from mtask_sinks import RunInfo, Snapshot
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


@pytest.fixture
def chinese(tmp_path) -> str:
    metrics = {"翻译/loss": float("nan"), "übung/f1": 0.5}
    return str(write(tmp_path / "ü", (RunInfo(id="1", name="ü"), [Snapshot(1, metrics=metrics)], "finished")).parent)


def printed(encoding: str, *arguments: str) -> bytes:
    """What a command prints to a pipe in a locale with another encoding than UTF-8."""
    done = subprocess.run(
        [sys.executable, "-m", "mtask_sinks", *arguments],
        env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    return done.stdout


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("command", [("watch", "--once"), ("diff",), ("doctor",)])
def test_what_an_encoding_lacks_is_printed_as_an_escape(chinese, command, encoding) -> None:
    runs = [chinese, chinese] if command == ("diff",) else [chinese]
    assert rb"\u7ffb\u8bd1" in printed(encoding, *command, *runs)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_json_keeps_its_texts_in_any_encoding(chinese, encoding) -> None:
    # click takes ASCII for a mistake, and prints UTF-8
    text = printed(encoding, "doctor", "--json", chinese).decode("utf-8" if encoding == "ascii" else encoding)
    assert "'翻译/loss' (train)" in json.loads(text)[0]["findings"][0]["what"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_values_are_exported_to_a_pipe_as_to_a_file(chinese, encoding, tmp_path) -> None:
    printed(encoding, "export", chinese, "-o", str(tmp_path / "values.csv"))
    assert printed(encoding, "export", chinese) == (tmp_path / "values.csv").read_bytes()
    assert "翻译" in (tmp_path / "values.csv").read_text(encoding="utf-8")
