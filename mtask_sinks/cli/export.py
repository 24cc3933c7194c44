"""``mtask-sinks export``: writes a journal as a table, for notebooks and other programs."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated

import typer

from mtask_sinks.cli.usage_errors import journal_errors, output_errors


def export(
    run: Annotated[
        str,
        typer.Argument(
            help="Output directory or journal, or a directory above several. The command exports all trainings in it. "
            "DIR:N or DIR:name chooses one."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File: .csv, .jsonl or .parquet. Default: CSV to standard output."),
    ] = None,
) -> None:
    """Write every value of a journal as one row: run, phase, step, epoch, time, task, name, value, count, partial.

    A resumed training is one run, and each of its steps counts once. Times are seconds since 1970 (UTC). In Python,
    mtask_sinks.export.to_frame(DIR) returns the same as a pandas data frame.

    Example: mtask-sinks export out -o metrics.csv
    """
    from mtask_sinks._util.formatting import counted
    from mtask_sinks._util.shown import shown
    from mtask_sinks.analysis.export import measurements, write_csv, write_file
    from mtask_sinks.analysis.selection import split_run

    with journal_errors("RUN"):
        rows = measurements(*split_run(run))
    if output is None:
        if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
            sys.stdout.reconfigure(encoding="utf-8")  # the same bytes as with --output, in any locale
        write_csv(rows, sys.stdout)
        return
    with output_errors(output):
        count = write_file(rows, output)
    typer.echo(shown(f"{output}: {counted(count, 'value')}"))
