"""Options that commands share: the runs, the smoothing, the axis and the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtask_sinks.cli.usage_errors import journal_errors

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
    """Open the runs that the user named. A run that does not exist or cannot be read is a usage error.

    If a journal has further trainings, say on standard error that only the last one is shown.
    """
    from mtask_sinks._util.shown import shown
    from mtask_sinks.analysis.find import run_path
    from mtask_sinks.charts import open_runs

    with journal_errors("RUNS"):
        opened = open_runs(runs)
    several = [each for each in opened if each.left_out]
    if several:
        where = run_path(several[0].journal)
        count = several[0].left_out + 1
        what = f"{where} holds {count} trainings, and this shows the last one"
        if len(several) > 1:
            what = f"{len(several)} journals hold several trainings, and this shows the last one of each"
        typer.echo(shown(f"{what}. Choose another by its number or name: {where}:1."), err=True)
    return opened


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
