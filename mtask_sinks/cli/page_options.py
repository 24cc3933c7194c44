"""Options that ``plot`` and ``report`` share: the runs, the smoothing, the file, and the errors for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mtask_sinks.charts import LabelledTraining


def open_given(runs: Sequence[str]) -> list[LabelledTraining]:
    """Open the runs that the user named; one that does not exist is a usage error."""
    from mtask_sinks.charts import open_runs
    from mtask_sinks.errors import NoJournalError, NoTrainingError

    try:
        return open_runs(runs)
    except (NoJournalError, NoTrainingError) as error:
        raise typer.BadParameter(str(error.args[0]), param_hint="RUNS") from None


def check_weight(smooth: float) -> None:
    """A weight that is out of range is a usage error."""
    if not 0 <= smooth < 1:
        raise typer.BadParameter(f"{smooth:g}: from 0 (not at all) to below 1, such as 0.6.", param_hint="--smooth")


def output_path(output: Path | None, default: str) -> Path:
    """The file that the user named, or the default; the default never replaces a file that is not one of our pages."""
    from mtask_sinks.charts.html.rendering import is_page

    if output is not None:
        return output
    path = Path(default)
    if path.exists() and not (path.is_file() and is_page(path)):
        message = f"{path} exists and was not written by this command: name a file with --output."
        raise typer.BadParameter(message, param_hint="--output")
    return path


@contextmanager
def usage_errors(path: Path) -> Iterator[None]:
    """A file that cannot be written is a usage error."""
    from mtask_sinks.errors import OutputFileError

    try:
        yield
    except (OutputFileError, ImportError) as error:
        raise typer.BadParameter(str(error), param_hint="--output") from None
    except OSError as error:
        raise typer.BadParameter(f"{path} cannot be written: {error.strerror}.", param_hint="--output") from None
