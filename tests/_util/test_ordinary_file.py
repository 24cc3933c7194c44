from __future__ import annotations

import os

import pytest

from mtask_sinks._util.ordinary_file import read_ordinary


def test_a_file_is_read_also_through_a_link(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    assert (read_ordinary(tmp_path / "file"), read_ordinary(tmp_path / "link")) == (b"text", b"text")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_directory_a_pipe_and_a_device_are_refused(tmp_path, make) -> None:
    make(tmp_path / "file")
    with pytest.raises(OSError, match="it is no ordinary file"):
        read_ordinary(tmp_path / "file")
