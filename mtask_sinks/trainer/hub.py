"""Keeps the journal out of what a Trainer uploads to the Hub."""

from __future__ import annotations

from pathlib import Path

from mtask_sinks._util.log import get_logger
from mtask_sinks.delivery.cursor import DIRECTORY_SUFFIX
from mtask_sinks.journal.paths import FILE_NAME

logger = get_logger(__name__)

_STEM, _SUFFIX = Path(FILE_NAME).stem, Path(FILE_NAME).suffix
# The journal, and the journals of other processes that ran at the same time.
_LINES = tuple(f"/{stem}{ending}" for stem in (_STEM, f"{_STEM}-*") for ending in (_SUFFIX, f"{DIRECTORY_SUFFIX}/"))


def keep_journal_from_hub(output_dir: str | Path | None) -> None:
    """Name the journal and the state of its sinks in the directory's ``.gitignore``, which the Hub's uploads follow.

    >>> import tempfile
    >>> directory = Path(tempfile.mkdtemp())
    >>> keep_journal_from_hub(directory)
    >>> (directory / ".gitignore").read_text().splitlines()
    ['/metrics.jsonl', '/metrics.delivery/', '/metrics-*.jsonl', '/metrics-*.delivery/']

    A Trainer uploads its whole output directory at every save. The journal grows with each log event and holds all
    parameters, so it would be uploaded again and again. If a line of the file names the journal, the file stays as it
    is: to upload the journal, write ``!metrics.jsonl`` into it.
    """
    path = Path(output_dir or "", ".gitignore")
    try:
        text = path.read_text() if path.exists() else ""
        if any(line.strip().lstrip("!/") == FILE_NAME for line in text.splitlines()):
            return
        begin = text if not text or text.endswith("\n") else f"{text}\n"
        path.write_text(begin + "".join(f"{line}\n" for line in _LINES))
    except (OSError, ValueError) as error:  # the training matters more
        logger.warning("%s could not be written, so the journal is uploaded to the Hub too: %s", path, error)
