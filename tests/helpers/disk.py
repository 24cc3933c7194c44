"""A small disk that a test can fill."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Disk:
    """A file system of a few hundred kilobytes, mounted on ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def fill(self) -> None:
        """Fill the disk to the last byte. Open files stay open."""
        with self._filler.open("ab", buffering=0) as filler:
            for size in (4096, 1):
                try:
                    while True:
                        filler.write(b"\0" * size)
                except OSError:
                    continue

    def free(self) -> None:
        """Free the space again."""
        self._filler.unlink()


@contextmanager
def small_disk(path: Path, kilobytes: int = 256) -> Iterator[Disk]:
    """Mount a disk on a new directory, and unmount it in any case. Skips the test if mounting is not allowed."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("mounting a small disk takes Linux and root")
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True, timeout=30)
    if done.returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {done.stderr.strip()}")
    try:
        yield Disk(path)
    finally:
        # Unmount lazily, because an open file would prevent the unmounting otherwise.
        subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=30)
