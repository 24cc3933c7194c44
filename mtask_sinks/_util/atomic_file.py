"""Writes a file completely or not at all."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mtask_sinks._util.links import create_file
from mtask_sinks.errors import OutputFileError

# The first line of a journal matches this, even if another program has rewritten it. Such a line may be long.
_RECORD = re.compile(rb'"record"\s*:\s*"(run|snapshot|end|note)"')
_FIRST_LINE = 1 << 20


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield the path of a new file, which replaces ``path`` if the block ends without an error.

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
        raise OutputFileError(f"{path} is a journal, which must not be overwritten. Choose another name.")
    with replacing_file(path) as new:
        yield new


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """As `whole_file`, but ``path`` may be a journal.

    Raises:
        OSError: the file cannot be written.
    """
    # The name is random, so nobody can put a link there beforehand.
    new = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.new")
    create_file(new)
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def check_ending(path: Path, endings: Sequence[str]) -> str:
    """Return the ending of a file name in lower case, if it is one of ``endings``.

    >>> check_ending(Path("values.CSV"), [".csv", ".jsonl"])
    '.csv'

    Raises:
        OutputFileError: the name has another ending.
    """
    ending = path.suffix.lower()
    if ending not in endings:
        allowed = " or ".join(endings)
        raise OutputFileError(f"{path}: the ending {path.suffix!r} is not a known format. Use {allowed}.")
    return ending


def _is_journal(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            line = file.readline(_FIRST_LINE).removeprefix(b"\xef\xbb\xbf").lstrip()
            return line.startswith(b"{") and _RECORD.search(line) is not None
    except OSError:
        return False
