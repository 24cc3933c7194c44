"""Takes pictures of commands in a terminal, as SVG files."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH, HEIGHT = 100, 40


def watch(runs: Path, path: Path) -> None:
    """Write what ``watch`` shows about a training that has ended."""
    record(["watch", "demo-1", "--once"], runs, path)


def record(words: Sequence[str], folder: Path, path: Path) -> None:
    """Run a command in a terminal of its own, and write what it shows."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(Text.from_ansi(run_in_terminal([sys.executable, "-m", "mtask_sinks", *words], folder)))
    picture = console.export_svg(title=f"mtask-sinks {' '.join(words)}", unique_id="terminal")
    # Remove the fonts, so that the picture loads nothing and uses the fonts of the page.
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL).replace("Fira Code, ", ""))


def run_in_terminal(command: Sequence[str], folder: Path) -> str:
    """Return what a command writes to its terminal."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(WIDTH), "LINES": str(HEIGHT), "TERM": "xterm-256color"}
    with subprocess.Popen(command, cwd=folder, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the command has ended
                part = b""
            if not part:
                break
            written += part
    os.close(ours)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {written.decode()}")
    return written.decode().replace("\r\n", "\n").strip("\n")
