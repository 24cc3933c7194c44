"""Reads single keys from a terminal."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# What terminals send for keys without a character.
_SEQUENCES = {
    "\x1b[A": "up", "\x1bOA": "up", "\x1b[B": "down", "\x1bOB": "down",
    "\x1b[5~": "pageup", "\x1b[6~": "pagedown", "\x1b[Z": "backtab",
    "\x1b[H": "home", "\x1bOH": "home", "\x1b[1~": "home", "\x1b[7~": "home",
    "\x1b[F": "end", "\x1bOF": "end", "\x1b[4~": "end", "\x1b[8~": "end",
    "\x1b": "escape", "\r": "enter", "\n": "enter", "\x7f": "backspace", "\x08": "backspace", "\t": "tab",
    "\x03": "interrupt", "\x1a": "suspend",
}  # fmt: skip
# The beginning of a sequence whose end is missing, and how long to wait for the end.
_UNFINISHED = re.compile(rb"\x1b(\[[^@-~]*|O)?$")
_SEQUENCE_SECONDS = 0.05
# For a key without a character, Windows returns one of these characters, and then one that identifies the key.
_WINDOWS_PREFIXES = ("\x00", "\xe0")
_WINDOWS = {"H": "up", "P": "down", "I": "pageup", "Q": "pagedown", "G": "home", "O": "end", "\x0f": "backtab"}


def split_keys(text: str) -> list[str]:
    r"""Split what a terminal sent into keys. Sequences of unknown keys are dropped.

    >>> split_keys("a\x1b[A\x1b[6~\x1b[1;5Cq\x1b")
    ['a', 'up', 'pagedown', 'q', 'escape']
    """
    found = []
    at = 0
    while at < len(text):
        end = at + 1
        if text[at] == "\x1b" and text[end : end + 1] in ("[", "O"):
            end += 1
            while end < len(text) and not ("@" <= text[end] <= "~"):
                end += 1
            end += 1
        part = text[at:end]
        if part in _SEQUENCES:
            found.append(_SEQUENCES[part])
        elif len(part) == 1:
            found.append(part)
        at = end
    return found


class Keyboard:
    """Waits for keys. If standard input is not a terminal, no key ever comes.

    Use `reading_keys`, which restores the settings of the terminal at the end.
    """

    def keys(self, seconds: float) -> list[str]:
        """Return the keys that the user pressed. Wait up to ``seconds`` for the first one."""
        time.sleep(seconds)
        return []

    def suspend(self) -> None:
        """Stop this process and those of its job, as Ctrl-Z does elsewhere, until the user continues the job."""


class _PosixKeyboard(Keyboard):
    #: The settings to restore; empty while the terminal has its own.
    _before: Sequence[Any] = ()

    def begin(self) -> None:
        """Make the terminal send each key immediately, also Ctrl-Z."""
        import termios
        import tty

        before = termios.tcgetattr(sys.stdin)
        tty.setcbreak(sys.stdin, termios.TCSANOW)
        settings = termios.tcgetattr(sys.stdin)
        settings[6][termios.VSUSP] = bytes([os.fpathconf(sys.stdin.fileno(), "PC_VDISABLE")])
        termios.tcsetattr(sys.stdin, termios.TCSANOW, settings)
        self._before = before

    def end(self) -> None:
        """Restore the settings of the terminal, unless the shell has it: that would stop this process."""
        import termios

        if self._before:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, list(self._before))
            self._before = ()

    def suspend(self) -> None:
        self.end()
        os.kill(0, signal.SIGTSTP)
        self.begin()

    def keys(self, seconds: float) -> list[str]:
        import select

        if not select.select([sys.stdin], [], [], seconds)[0]:
            return []
        data = os.read(sys.stdin.fileno(), 4096)
        if not data:  # the terminal is closed
            raise KeyboardInterrupt
        # A slow connection may deliver the rest of a sequence later.
        while _UNFINISHED.search(data) and select.select([sys.stdin], [], [], _SEQUENCE_SECONDS)[0]:
            data += os.read(sys.stdin.fileno(), 4096)
        return split_keys(data.decode(errors="ignore"))


class _WindowsKeyboard(Keyboard):
    def keys(self, seconds: float) -> list[str]:
        import msvcrt

        end = time.monotonic() + seconds
        while not msvcrt.kbhit():  # type: ignore[attr-defined, unused-ignore]
            if time.monotonic() >= end:
                return []
            time.sleep(0.02)
        character: str = msvcrt.getwch()  # type: ignore[attr-defined, unused-ignore]
        if character in _WINDOWS_PREFIXES:
            name = _WINDOWS.get(msvcrt.getwch())  # type: ignore[attr-defined, unused-ignore]
            return [name] if name else []
        return split_keys(character)


@contextmanager
def reading_keys() -> Iterator[Keyboard]:
    """Make the terminal send each key immediately, without echo. Restore its settings at the end of the block.

    Ctrl-C still raises `KeyboardInterrupt`, and SIGTERM raises `SystemExit`.
    """
    if not sys.stdin.isatty():
        yield Keyboard()
        return
    if sys.platform == "win32":
        yield _WindowsKeyboard()
        return
    keyboard = _PosixKeyboard()
    with exit_on_sigterm():
        keyboard.begin()
        try:
            yield keyboard
        finally:
            keyboard.end()


@contextmanager
def exit_on_sigterm() -> Iterator[None]:
    """Raise `SystemExit` in the block at SIGTERM, such as from ``timeout 60``, so that the block ends as always."""
    handler = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
