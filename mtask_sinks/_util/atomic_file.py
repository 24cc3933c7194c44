"""Files that the commands write: whole or not at all, and never over a journal."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mtask_sinks.errors import OutputFileError
from mtask_sinks.journal.records import decode


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file to write to, which takes the place of ``path`` when the block ends well.

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
        OSError: it cannot be written.
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
    """The ending of a file, which says its format.

    Raises:
        OutputFileError: there is no such format.
    """
    ending = path.suffix.lower()
    if ending not in endings:
        raise OutputFileError(f"{path}: the ending says the format, {', '.join(endings)}; there is no {path.suffix!r}.")
    return ending


def _is_journal(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return decode(file.readline()) is not None
    except OSError:
        return False
