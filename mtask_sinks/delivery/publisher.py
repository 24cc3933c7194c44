"""Copies the journal to another place, such as an object store, every three minutes and at the end."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mtask_sinks._util.atomic_file import replacing_file
from mtask_sinks._util.interrupts import InterruptsDeferred, wait_for
from mtask_sinks._util.log import get_logger
from mtask_sinks.delivery.last_wait import wait_and_tell
from mtask_sinks.delivery.sink_calls import error_text
from mtask_sinks.journal.paths import FILE_NAME

if TYPE_CHECKING:
    from mtask_sinks.journal.stream import JournalStream

logger = get_logger(__name__)

# Seconds between two copies.
_EVERY_SECONDS = 180.0
# How many bytes at each end of a copy are compared with the journal.
_COMPARED_BYTES = 1 << 12
# Seconds to wait after a failed copy: after the first failure, and at most.
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0


class Publisher:
    """Copies a journal to a directory that `fsspec` can write, in a thread of its own.

    If the file system allows it, a reader always sees a complete copy: the old one or the new one. If the directory
    holds the journal of another training, the copy gets a number: ``metrics-2.jsonl``. So the journals of a training
    that changed machines are beside each other there, and ``mtask-sinks merge`` joins them.

    Args:
        stream: the stream of the journal; its file is copied.
        url: the directory, such as ``s3://bucket/run-1`` or ``file:///mnt/runs/1``; `check_publishing` has accepted it.
    """

    def __init__(self, stream: JournalStream, url: str) -> None:
        self._stream = stream
        self._url = url.rstrip("/")
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_final = False
        #: How many seconds to wait before the next try; 0 if the last copy succeeded.
        self._delay = 0.0
        #: Path and first line of a journal → its number of bytes in the copy.
        self._copied: dict[tuple[Path, bytes], int] = {}
        #: Path and first line of a journal → path of the copy.
        self._targets: dict[tuple[Path, bytes], str] = {}
        #: Copies that have more than their journal: somebody removed the journal, and the training began it again.
        self._larger: set[str] = set()
        self._error = ""

    def start(self) -> None:
        """Start to copy every three minutes."""
        with InterruptsDeferred(), self._changed:
            self._is_final = False
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="mtask-sinks-publish", daemon=True)
                self._thread.start()

    def finish(self) -> None:
        """Copy what the journal holds now, and then end the thread."""
        with InterruptsDeferred(), self._changed:
            self._is_final = True
            self._delay = 0.0  # somebody waits: try at once, and do not double a long wait after another failure
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait after `finish` until the copy is complete; log a warning if it is not."""

        def tell(limit: str) -> None:
            message = "the training has ended and waits %sfor the copy of its journal to %s. Ctrl-C ends the wait."
            logger.warning(message, limit, self._url)

        try:
            if wait_and_tell(partial(wait_for, self._changed, lambda: self._thread is None), seconds, tell):
                return
        except KeyboardInterrupt:  # as in `wait_for_endings`
            pass
        path = self._stream.path
        message = "the journal %s was not copied to %s before the training ended (%s). Copy the file yourself."
        logger.warning(message, path, self._url, self._error or "the copy is not complete yet")

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._is_final or self._delay:
                    self._changed.wait(self._delay or _EVERY_SECONDS)
                is_final = self._is_final
            try:
                self._copy()
            except BaseException as error:  # each file system has its own errors, also a panic of Rust or SystemExit
                with self._changed:
                    self._delay = min(2 * self._delay, _LONGEST_WAIT) if self._delay else _FIRST_WAIT
                if not self._error:
                    message = "the journal cannot be copied to %s (%s). Training goes on, and other tries follow."
                    logger.warning(message, self._url, error_text(error))
                self._error = error_text(error)
                continue
            self._delay, self._error = 0.0, ""
            with self._changed:
                if is_final and self._is_final:
                    self._thread = None
                    self._changed.notify_all()
                    return

    def _copy(self) -> None:
        import fsspec

        path = self._stream.path
        if path is None or not path.exists():
            return
        with path.open("rb") as file:
            first_line = file.readline()
            size = os.fstat(file.fileno()).st_size
            journal, copied = (path, first_line), self._copied.get((path, first_line), 0)
            if not first_line.endswith(b"\n") or size == copied:
                return
            system, directory = fsspec.core.url_to_fs(self._url)
            if size < copied:
                self._larger.add(self._targets.pop(journal))
                del self._copied[journal]  # if the rest fails, the next try begins a new copy
            if journal not in self._targets:
                system.makedirs(directory, exist_ok=True)
                self._targets[journal] = _target(system, directory, path.name, file, self._larger)
            file.seek(0)
            with _written_whole(system, self._targets[journal]) as copy:
                shutil.copyfileobj(file, copy, 1 << 20)
            self._copied[journal] = file.tell()


def check_publishing(url: str) -> None:
    """Raise an error if a journal cannot be copied to this URL, as far as that is known without a connection.

    Raises:
        ImportError: fsspec is not installed.
        ValueError: the URL has no scheme.
    """
    if "://" not in url:
        raise ValueError(
            f"journal_publish={url!r} has no scheme: pass a URL, such as s3://bucket/run-1 or file:///mnt/1."
        )
    if find_spec("fsspec") is None:
        raise ImportError(
            "journal_publish needs the package fsspec, which is not installed. Run: pip install 'mtask-sinks[publish]'"
        )


@contextmanager
def _written_whole(system: Any, target: str) -> Iterator[Any]:
    """Open a file whose content appears at a path when the block ends without an error."""
    from fsspec.implementations.local import LocalFileSystem

    if isinstance(system, LocalFileSystem):
        # A transaction would write to the directory for temporary files, and then move the file. To another disk,
        # that is a second copy, which overwrites the earlier one and may stop in the middle.
        with replacing_file(Path(target)) as new, new.open("wb") as copy:
            yield copy
        return
    with system.transaction, system.open(target, "wb") as copy:  # the copy appears when the transaction ends
        yield copy


def _target(system: Any, directory: str, file_name: str, journal: BinaryIO, larger: Collection[str]) -> str:
    """Return the first path in a directory that does not exist yet, or that holds the beginning of a journal.

    Args:
        system: the file system of the directory.
        directory: the directory.
        file_name: the name to try first.
        journal: the journal. Another machine may have continued the same journal, and copied it there. Such a copy has
            other lines, so it must stay.
        larger: paths to leave out.
    """
    base = Path(FILE_NAME)
    for name in chain([file_name], (f"{base.stem}-{number}{base.suffix}" for number in count(2))):
        target = f"{directory.rstrip('/')}/{name}"
        if target not in larger and (not system.exists(target) or _is_beginning(system, target, journal)):
            return target
    raise AssertionError("there is always another number")


def _is_beginning(system: Any, target: str, journal: BinaryIO) -> bool:
    """Return whether a copy seems equal to the beginning of a journal. This compares only the two ends of the copy."""
    size = system.size(target)
    with system.open(target, "rb") as copy:
        for start in (0, max(size - _COMPARED_BYTES, 0)):
            copy.seek(start)
            journal.seek(start)
            length = min(size - start, _COMPARED_BYTES)
            if copy.read(length) != journal.read(length):
                return False
    return bool(size)
