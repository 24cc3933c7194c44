"""Options that commands share: the runs, the smoothing, the axis, the file, and their usage errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mtask_sinks.charts import LabelledTraining

#: The argument RUNS.
Runs = Annotated[
    list[str],
    typer.Argument(
        help="Output directories or journals, for the last training of each. DIR:N or DIR:name chooses another."
    ),
]
#: The option --smooth.
Smooth = Annotated[
    float, typer.Option("--smooth", help="Smooth the curves: weight of the earlier values, from 0 to below 1.")
]
#: The option --x.
Axis = Annotated[
    str, typer.Option("--x", help="Draw over: step, epoch, time, or the key of a running total such as mlm/n_tokens.")
]


def open_given(runs: Sequence[str]) -> list[LabelledTraining]:
    """Open the runs that the user named. A run that does not exist or cannot be read is a usage error."""
    from mtask_sinks.charts import open_runs

    with journal_errors("RUNS"):
        return open_runs(runs)


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


def check_weight(smooth: float) -> None:
    """Raise a usage error if the weight is out of range."""
    if not 0 <= smooth < 1:
        message = f"{smooth:g} is out of range: pass a weight from 0 (no smoothing) to below 1, such as 0.6."
        raise typer.BadParameter(message, param_hint="--smooth")


def output_path(output: Path | None, default: str) -> Path:
    """Return the file that the user named, or the default. The default replaces only pages that a command wrote."""
    from mtask_sinks.charts.html.rendering import is_page

    if output is not None:
        return output
    path = Path(default)
    if path.exists() and not (path.is_file() and is_page(path)):
        message = f"{path} exists and was not written by this command: name another file with --output."
        raise typer.BadParameter(message, param_hint="--output")
    return path


@contextmanager
def usage_errors(path: Path) -> Iterator[None]:
    """Turn an error in writing the file into a usage error."""
    from mtask_sinks.errors import OutputFileError

    try:
        yield
    except (OutputFileError, ImportError) as error:
        raise typer.BadParameter(str(error), param_hint="--output") from None
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}.", param_hint="--output") from None
