"""What the commands print, whatever standard output is."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.journals import write

from mtask_sinks import RunInfo, Snapshot


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
    text = printed(encoding, "doctor", "--json", chinese).decode(encoding)
    assert "'翻译/loss' (train)" in json.loads(text)[0]["findings"][0]["what"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_marks_in_a_name_are_no_marks_of_the_commands(tmp_path, encoding) -> None:
    name = "lr 1→2 … a–b ü"
    write(tmp_path, (RunInfo(id="1", name=name), [Snapshot(1, metrics={"a/loss": 0.5})], "finished"))
    watched = json.loads(printed(encoding, "watch", "--json", str(tmp_path)).decode(encoding))
    reported = json.loads(printed(encoding, "report", "--json", str(tmp_path)).decode(encoding))
    assert watched["name"] == reported["runs"][0]["label"] == name
    assert rb"A  lr 1\u21922 \u2026 a\u2013b " in printed(encoding, "diff", str(tmp_path), str(tmp_path))


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_values_are_exported_to_a_pipe_as_to_a_file(chinese, encoding, tmp_path) -> None:
    printed(encoding, "export", chinese, "-o", str(tmp_path / "values.csv"))
    assert printed(encoding, "export", chinese) == (tmp_path / "values.csv").read_bytes()
    assert "翻译" in (tmp_path / "values.csv").read_text(encoding="utf-8")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("name", ["watch", "export", "report", "doctor"])
def test_a_full_disk_behind_the_output_is_named_and_nothing_else(chinese, name) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mtask_sinks", name, chinese],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "mtask-sinks: the output cannot be written: No space left on device\n"


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
def test_a_closed_output_is_no_error(chinese, tmp_path) -> None:
    line = f"{shlex.quote(sys.executable)} -m mtask_sinks export {shlex.quote(chinese)} >&-"
    done = subprocess.run(["sh", "-c", line], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
