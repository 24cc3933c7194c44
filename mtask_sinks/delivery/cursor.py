"""Saves how far one sink has got in a journal, in a file beside the journal."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mtask_sinks._util.escaping import shell_word
from mtask_sinks._util.links import create_file, refuse_foreign_links
from mtask_sinks._util.log import get_logger
from mtask_sinks._util.ordinary_file import read_ordinary

logger = get_logger(__name__)

#: The cursors of ``metrics.jsonl`` are in the directory ``metrics.delivery``.
DIRECTORY_SUFFIX = ".delivery"

# A cursor's file has the name of its sink, and a longer name while it is written. File systems accept 255 bytes.
_FILE_NAME = re.compile(r"[^/\\\0]+")
_MAX_NAME_SIZE = 150

# Number of rejected snapshots whose reason the cursor keeps. It only counts the others.
_MAX_REASONS = 100


@dataclass
class Cursor:
    """The data that another process needs to continue the delivery to a sink.

    >>> import tempfile
    >>> path = cursor_path(Path(tempfile.mkdtemp(), "metrics.jsonl"), "wandb")
    >>> cursor = Cursor(fingerprint="0a1b", offset=1200, delivered=4)
    >>> cursor.reject(step=50, phase="train", error="Rejected: too long")
    >>> cursor.save(path)
    >>> load_cursor(path, "0a1b") == cursor, load_cursor(path, "of another journal")
    (True, None)

    Attributes:
        fingerprint: the fingerprint of the journal.
        offset: how many bytes of the journal's file are delivered.
        targets: run's id → identifier of the backend's run, see `Sink.target`.
        delivered: number of snapshots delivered by the process that wrote this cursor.
        rejected: number of snapshots that the backend will never accept.
        reasons: step, phase and error of the first rejected snapshots.
        pending: number of snapshots that waited when this cursor was written.
        state: state of the sink when this cursor was written.
        error: the last error, if the backend was not up.
    """

    fingerprint: str = ""
    offset: int = 0
    targets: dict[str, str] = field(default_factory=dict)
    delivered: int = 0
    rejected: int = 0
    reasons: list[dict[str, str | int]] = field(default_factory=list)
    pending: int = 0
    state: str = "up"
    error: str | None = None

    def reject(self, step: int, phase: str, error: str) -> None:
        """Count a snapshot that the backend will never accept."""
        self.rejected += 1
        if len(self.reasons) < _MAX_REASONS:
            self.reasons.append({"step": step, "phase": phase, "error": error})

    def save(self, path: Path) -> None:
        """Write the file so that a reader never sees an incomplete one.

        Raises:
            OSError: the disk does not accept the file.
        """
        refuse_foreign_links(path, path.parent.parent)
        path.parent.mkdir(exist_ok=True)
        # An upload to the Hub fails if a file that it has listed is gone. It skips paths that begin with "_".
        new = path.parent.with_name(f"_{path.parent.name}.{path.name}.{os.getpid()}-{threading.get_ident()}.new")
        new.unlink(missing_ok=True)  # a killed process may have left it
        create_file(new)
        new.write_text(json.dumps(asdict(self), indent=1) + "\n")
        new.replace(path)


def check_names(names: Sequence[str]) -> None:
    """Raise an error if the cursors of sinks with these names cannot be stored.

    >>> check_names(["mlflow", "team/tracker"])
    Traceback (most recent call last):
    ...
    ValueError: a sink is named 'team/tracker', which cannot be a file name. Use letters, digits, '_', '.' and '-'.

    Raises:
        ValueError: two sinks have the same name, or a name cannot be that of a file.
    """
    if len({*names}) < len(names):
        raise ValueError(f"two sinks have the same name: {', '.join(names)}. Give each sink class its own name.")
    for name in names:
        if not isinstance(name, str) or not _FILE_NAME.fullmatch(name) or len(name.encode()) > _MAX_NAME_SIZE:
            raise ValueError(
                f"a sink is named {name!r}, which cannot be a file name. Use letters, digits, '_', '.' and '-'."
            )


def cursor_path(journal: Path, sink: str) -> Path:
    """Return the path of a sink's cursor."""
    return journal.with_suffix(DIRECTORY_SUFFIX) / f"{sink}.json"


def load_cursor(path: Path, fingerprint: str) -> Cursor | None:
    """Return the cursor in a file; ``None`` if there is no cursor, or if it belongs to another journal.

    If another program or a damaged disk has changed the file so that it holds no cursor, the function logs one warning
    and returns ``None``.
    """
    try:
        data = read_ordinary(path)
    except OSError:
        return None
    try:
        cursor = _decode(json.loads(data))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        message = (
            "%s does not hold a sink's progress (%s: %s), so the sink counts as new. To deliver everything again, run: "
            "mtask-sinks replay %s --to %s --all"
        )
        if str(path) not in _warned:
            _warned.add(str(path))
            logger.warning(message, path, type(error).__name__, error, shell_word(str(path.parent.parent)), path.stem)
        return None
    return cursor if cursor.fingerprint == fingerprint else None


# Files about which this process has warned: several readers look at the same file again and again.
_warned: set[str] = set()


def _decode(record: Any) -> Cursor:
    """Return the cursor in a parsed file.

    Raises:
        ValueError, KeyError, TypeError: the file holds no cursor, or one with values of wrong types.
    """
    if not isinstance(record, dict):
        raise TypeError(f"a cursor is an object, not {type(record).__name__}")
    if "failed" in record:  # the older name of `rejected`
        record["rejected"] = record["failed"]
    for name, kind in _TYPES.items():
        if type(record[name]) not in kind:
            raise TypeError(f"{name} is of type {type(record[name]).__name__}")
        if int in kind and not 0 <= record[name] < 1 << 63:
            raise ValueError(f"{name} is out of range")
    for target in record["targets"].values():
        if type(target) is not str:
            raise TypeError("a target is not a string")
    for reason in record["reasons"]:
        kinds = [type(reason.get(name)) for name in ("step", "phase", "error")] if isinstance(reason, dict) else []
        if kinds != [int, str, str]:
            raise TypeError("a reason lacks its step, phase or error")
        reason |= {"phase": _printable(reason["phase"]), "error": _printable(reason["error"])}
    record |= {"state": _printable(record["state"]), "error": record["error"] and _printable(record["error"])}
    return Cursor(**{f.name: record[f.name] for f in fields(Cursor)})


def _printable(text: str) -> str:
    """Return a text without halves of surrogate pairs, which cannot be printed. The text of an error may have some."""
    return text.encode(errors="replace").decode()


_TYPES: dict[str, tuple[type, ...]] = {
    "fingerprint": (str,),
    "offset": (int,),
    "targets": (dict,),
    "delivered": (int,),
    "rejected": (int,),
    "reasons": (list,),
    "pending": (int,),
    "state": (str,),
    "error": (str, type(None)),
}
