"""Tells users what is wrong with the arguments of a command: its journals, its pattern or its file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path

import typer


@contextmanager
def journal_errors(argument: str) -> Iterator[None]:
    """Turn an error in finding or reading the journals of an argument into a usage error."""
    from mtask_sinks.errors import NoJournalError, NoTrainingError

    try:
        yield
    except (NoJournalError, NoTrainingError) as error:
        raise typer.BadParameter(str(error.args[0]), param_hint=argument) from None
    except OSError as error:
        if error.filename is None:  # it is about the output, such as a pipe that nobody reads any more
            raise
        raise typer.BadParameter(unreadable(error), param_hint=argument) from None


def unreadable(error: OSError) -> str:
    """Return what to tell the user about a file or directory that cannot be read."""
    hint = " Change its permissions, or name another one." if isinstance(error, PermissionError) else ""
    return f"{error.filename} cannot be read: {error.strerror}.{hint}"


def check_only(only: str, keys: Iterable[str]) -> None:
    """Raise a usage error if there are metrics and none of them matches the pattern of --only.

    Args:
        only: the pattern.
        keys: the keys of all metrics.
    """
    from mtask_sinks.patterns import no_match

    every = list(dict.fromkeys(keys))
    if every and not any(fnmatchcase(key, only) for key in every):
        raise typer.BadParameter(no_match(only, every), param_hint="--only")


@contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn an error in writing the file of --output into a usage error."""
    from mtask_sinks.errors import ExportError, OutputFileError

    try:
        yield
    except (OutputFileError, ExportError, ImportError) as error:
        raise typer.BadParameter(str(error), param_hint="--output") from None
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}.", param_hint="--output") from None
