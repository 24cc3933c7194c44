from __future__ import annotations

from pathlib import Path

import pytest

from mtask_sinks._util.state_directory import state_directory


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {"XDG_STATE_HOME": "/state"}, "/state/mtask-sinks"),
        ("linux", {}, "/home/me/.local/state/mtask-sinks"),
        ("linux", {"XDG_STATE_HOME": "relative"}, "/home/me/.local/state/mtask-sinks"),
        ("linux", {"LOCALAPPDATA": "/local"}, "/home/me/.local/state/mtask-sinks"),
        ("darwin", {}, "/home/me/Library/Application Support/mtask-sinks"),
        ("darwin", {"XDG_STATE_HOME": "/state"}, "/state/mtask-sinks"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/mtask-sinks"),
        ("win32", {}, "/home/me/AppData/Local/mtask-sinks"),
    ],
)
def test_the_directory_is_where_the_system_wants_it(platform, variables, expected, monkeypatch) -> None:
    for name in ("XDG_STATE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert state_directory(platform) == Path(expected)


def test_without_a_home_there_is_an_error_that_callers_know(monkeypatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(OSError, match="no home directory"):
        state_directory("linux")
