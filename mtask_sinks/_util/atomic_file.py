"""Writes a file whole or not at all, and never over a journal."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mtask_sinks.errors import OutputFileError

# A journal begins so, with or without a blank behind the colon.
_FIRST_BYTES = re.compile(rb'\{"record": ?"(run|snapshot|end)"')


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A new file to write to, which replaces ``path`` if the block ends without an error.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "values.csv")
    >>> with whole_file(path) as new:
    ...     _ = new.write_text("step,value")
    ...     path.exists()
    False
    >>> path.read_text()
    'step,value'

    Raises:
        OutputFileError: ``path`` is a journal.
        OSError: the file cannot be written.
    """
    if _is_journal(path):
        raise OutputFileError(f"{path} is a journal, which must not be overwritten: choose another name.")
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def check_ending(path: Path, endings: Sequence[str]) -> str:
    """The ending of a file, in lower case, if it is one of these.

    >>> check_ending(Path("values.CSV"), [".csv", ".jsonl"])
    '.csv'

    Raises:
        OutputFileError: it has another ending.
    """
    ending = path.suffix.lower()
    if ending not in endings:
        raise OutputFileError(f"{path}: the ending says the format, {', '.join(endings)}; there is no {path.suffix!r}.")
    return ending


def _is_journal(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return _FIRST_BYTES.match(file.read(30)) is not None
    except OSError:
        return False
