from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mtask_sinks._util import process
from mtask_sinks._util.process import is_running, process_start


@pytest.fixture
def other():
    """Another process, which ends when its input does."""
    running = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield running
    if running.poll() is None:
        running.communicate(b"\n", timeout=30)


def test_a_process_runs_from_its_start_to_its_end(other) -> None:
    start = process_start(other.pid)
    assert start is not None and start == process_start(other.pid)
    assert (is_running(other.pid, start), is_running(other.pid, None)) == (True, True)
    other.communicate(b"\n", timeout=30)
    assert (is_running(other.pid, start), is_running(other.pid, None)) == (False, False)
    assert process_start(other.pid) is None


def test_a_later_process_with_the_same_number_is_another_one(other) -> None:
    assert process_start(other.pid) != process_start(os.getpid())
    assert not is_running(other.pid, process_start(os.getpid()))


@pytest.mark.parametrize("number", [0, -1, pytest.param(-os.getpid(), id="minus our own"), 2**40, 2**80])
def test_what_is_no_number_of_a_process_does_not_run(number) -> None:
    assert (is_running(number, None), is_running(number, "start")) == (False, False)


def test_where_the_system_does_not_tell_the_start_the_number_decides(other, monkeypatch) -> None:
    monkeypatch.setattr(process, "_look_up", lambda number: None)
    assert is_running(other.pid, "a start that was recorded elsewhere")
    assert process_start(other.pid) is None


def test_on_other_systems_ps_tells_the_start(other, monkeypatch) -> None:
    monkeypatch.setattr(process.sys, "platform", "darwin")
    start = process_start(other.pid)
    assert start is not None and is_running(other.pid, start) and not is_running(other.pid, "another time")


def test_ps_tells_the_same_start_in_each_time_zone_and_locale(other, monkeypatch) -> None:
    monkeypatch.setattr(process.sys, "platform", "darwin")
    start = process_start(other.pid)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert process_start(other.pid) == start and is_running(other.pid, start)


@pytest.mark.skipif(sys.platform != "linux", reason="it is about Linux's /proc")
def test_a_name_with_parentheses_does_not_confuse_it(tmp_path) -> None:
    program = tmp_path / "a) R (b"
    program.symlink_to(sys.executable)
    running = subprocess.Popen([str(program), "-c", "input()"], stdin=subprocess.PIPE)
    fields = Path(f"/proc/{running.pid}/stat").read_text()
    assert process_start(running.pid) is not None and process_start(running.pid).rpartition(":")[2] in fields.split()
    running.communicate(b"\n", timeout=30)
