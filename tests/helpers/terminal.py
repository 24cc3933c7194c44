"""A terminal of a given size that shows what a command draws, and sends it keys."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

import pyte
import pytest

KEYS = {
    "up": "\x1b[A", "down": "\x1b[B", "pagedown": "\x1b[6~", "pageup": "\x1b[5~", "home": "\x1b[H", "end": "\x1b[F",
    "tab": "\t", "backtab": "\x1b[Z", "enter": "\r", "escape": "\x1b", "backspace": "\x7f", "interrupt": "\x03",
}  # fmt: skip

# The mode that a command sets to fill the screen: pyte moves the numbers of private modes.
_FILLS_SCREEN = 1049 << 5

# Makes the terminal the controlling one, so that Ctrl-C arrives as a signal, and then runs the program. In a process of
# its own, because a `preexec_fn` runs between fork and exec, where a lock of another thread stays locked forever.
_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""


class Shown:
    """What a terminal of a given size shows."""

    def __init__(self, columns: int, lines: int) -> None:
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)

    @property
    def lines(self) -> list[str]:
        """The lines on the screen, without blanks at their ends."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The lines on the screen as one text."""
        return "\n".join(self.lines)


class Terminal(Shown):
    """Runs ``mtask-sinks`` with some arguments on a terminal.

    Use it in a ``with`` statement, which ends the command.
    """

    def __init__(self, *arguments: str, columns: int = 80, lines: int = 24, program: list[str] | None = None) -> None:
        super().__init__(columns, lines)
        ours, theirs = pty.openpty()
        self._ours = ours
        _set_size(theirs, columns, lines)
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [sys.executable, "-ISc", _TAKE_TERMINAL, *(program or [sys.executable, "-m", "mtask_sinks", *arguments])],
            env={**kept, "TERM": "xterm-256color", "LANG": "C.UTF-8"},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):  # the command and what it has started, such as the demo's training
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        os.close(self._ours)

    def wait_for(self, shown: str | Callable[[Terminal], bool], seconds: float = 120.0) -> Terminal:
        """Read until the screen shows a text or fulfils a condition; fail if that never happens.

        Of a command that fills the screen, this sees only whole pictures: the rest of one may come later.
        """
        is_shown = (lambda terminal: shown in terminal.text) if isinstance(shown, str) else shown
        end = time.monotonic() + seconds
        while self._is_drawing() or not is_shown(self):
            assert time.monotonic() < end, f"{shown!r} does not appear:\n{self.text}"
            self._read(0.1)
        return self

    def press(self, *keys: str) -> Terminal:
        """Send keys, by name or as text."""
        for key in keys:
            os.write(self._ours, KEYS.get(key, key).encode())
        return self

    def resize(self, columns: int, lines: int) -> Terminal:
        """Change the size of the terminal, as a window manager does."""
        self.screen.resize(lines, columns)
        _set_size(self._ours, columns, lines)
        return self

    def wait_for_end(self, seconds: float = 60.0) -> int:
        """Read until the command ends; return its exit code."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, self.text
            self._read(0.1)
        self._read(0.1)
        return self.process.returncode

    def _is_drawing(self) -> bool:
        """Whether a command that fills the screen has drawn only a part: a whole picture ends in the last corner."""
        corner = (self.screen.columns, self.screen.lines - 1)
        return _FILLS_SCREEN in self.screen.mode and (self.screen.cursor.x, self.screen.cursor.y) != corner

    def _read(self, seconds: float) -> None:
        with suppress(OSError):  # the command has ended
            while select.select([self._ours], [], [], seconds)[0]:
                data = os.read(self._ours, 65_536)
                if not data:
                    return
                self.stream.feed(data)
                seconds = 0.0


def _set_size(terminal: int, columns: int, lines: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextmanager
def this_process_on_a_terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 80, lines: int = 24) -> Iterator[Shown]:
    """Make standard output and error of this process a terminal; what it showed can be read when the block ends."""
    shown = Shown(columns, lines)
    ours, theirs = pty.openpty()
    _set_size(theirs, columns, lines)

    def read() -> None:
        with suppress(OSError):  # the other end is closed
            while data := os.read(ours, 65_536):
                shown.stream.feed(data)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with os.fdopen(theirs, "w", buffering=1) as file, monkeypatch.context() as patch:
            patch.setenv("COLUMNS", str(columns))
            patch.setattr(sys, "stdout", file)
            patch.setattr(sys, "stderr", file)
            yield shown
    finally:
        reader.join(120)
        os.close(ours)
