from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mtask_sinks._util.append_file import AppendFile


def full_after(monkeypatch: pytest.MonkeyPatch, room: int) -> Callable[[], None]:
    """Let the disk accept ``room`` more bytes. Returns a function that removes the limit."""
    write, left = os.write, [room]

    def limited(descriptor: int, data: bytes) -> int:
        if not left[0]:
            raise OSError("no space left")
        written = write(descriptor, data[: left[0]])
        left[0] -= written
        return written

    monkeypatch.setattr(os, "write", limited)
    return lambda: monkeypatch.setattr(os, "write", write)


@pytest.mark.parametrize("room", range(4))
def test_what_the_disk_takes_only_in_part_is_cut_off_again(tmp_path: Path, monkeypatch, room: int) -> None:
    file = AppendFile(tmp_path / "f")
    file.append(b"one\n")
    free = full_after(monkeypatch, room)
    with pytest.raises(OSError, match="no space left"):
        file.append(b"two\n")
    assert (file.path.read_bytes(), file.size) == (b"one\n", 4)
    free()
    file.append(b"three\n")
    file.close()
    assert file.path.read_bytes() == b"one\nthree\n"


def test_a_write_of_several_parts_is_whole(tmp_path: Path, monkeypatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:2]))
    file = AppendFile(tmp_path / "f")
    file.append(b"three\n")
    assert (file.path.read_bytes(), file.size) == (b"three\n", 6)


def test_what_could_not_be_cut_off_at_once_is_cut_off_before_the_next_record(tmp_path: Path, monkeypatch) -> None:
    file = AppendFile(tmp_path / "f")
    file.append(b"one\n")
    free = full_after(monkeypatch, 2)
    with monkeypatch.context() as broken:
        broken.setattr(os, "ftruncate", lambda *_: (_ for _ in ()).throw(OSError("input/output error")))
        with pytest.raises(OSError, match="input/output error"):
            file.append(b"two\n")
    assert file.path.read_bytes() == b"one\ntw"
    free()
    file.append(b"three\n")
    assert file.path.read_bytes() == b"one\nthree\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"", b""),
        (b"one\n", b"one\n"),
        (b"one\ntw", b"one\n"),
        (b"on", b""),
        (b"one\n" + b"x" * 200_000, b"one\n"),
        (b"x" * 200_000, b""),
        (b"x" * 70_000 + b"\n" + b"y" * 65_536, b"x" * 70_000 + b"\n"),
    ],
)
def test_a_torn_line_is_cut_off_and_whole_lines_stay(tmp_path: Path, before: bytes, after: bytes) -> None:
    path = tmp_path / "f"
    path.write_bytes(before)
    file = AppendFile(path)
    assert file.size == len(before)
    file.cut_torn_line()
    assert (path.read_bytes(), file.size) == (after, len(after))
    file.append(b"next\n")
    assert path.read_bytes() == after + b"next\n"


def test_a_file_that_was_removed_or_replaced_is_changed(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "f")
    assert file.is_unchanged()
    file.path.rename(tmp_path / "elsewhere")
    assert not file.is_unchanged()
    file.path.touch()
    assert not file.is_unchanged()
    (tmp_path / "elsewhere").replace(file.path)
    assert file.is_unchanged()


def test_a_file_whose_path_shows_an_old_size_is_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = AppendFile(tmp_path / "f")
    late = file.path.stat()
    file.append(b"one\n")
    monkeypatch.setattr(Path, "stat", lambda self: late)
    assert file.is_unchanged()


def test_a_file_to_which_others_wrote_is_changed(tmp_path: Path) -> None:
    file = AppendFile(tmp_path / "f")
    file.append(b"one\n")
    assert file.is_unchanged()
    for data in (b"", b"on", b"one\ntwo\n"):
        file.path.write_bytes(data)
        assert not file.is_unchanged()


def test_a_file_that_must_be_new_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(FileExistsError):
        AppendFile(tmp_path / "f", os.O_WRONLY | os.O_EXCL)


def test_an_interrupt_right_after_the_write_leaves_no_part_of_the_record(tmp_path: Path, monkeypatch) -> None:
    file = AppendFile(tmp_path / "f")
    file.append(b"one\n")
    write = os.write

    def interrupted(descriptor: int, data: bytes) -> int:
        write(descriptor, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            file.append(b"two\n")
    assert (file.path.read_bytes(), file.size) == (b"one\n", 4)
    file.append(b"two\n")
    assert (file.path.read_bytes(), file.size) == (b"one\ntwo\n", 8)
