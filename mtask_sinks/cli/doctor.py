"""``mtask-sinks doctor``: finds what is wrong with a script or a training, and says how to fix it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer


def doctor(
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Training scripts, and output directories or journals: DIR, DIR:N. A directory above several "
            "means all of them.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Also ask the backends of the sinks whether they answer.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, max=86_400, help="Seconds to wait for all backends of one path.")
    ] = 10.0,
    listed: Annotated[bool, typer.Option("--list", help="Only list every kind of finding.")] = False,
    as_format: Annotated[
        str,
        typer.Option(
            "--format", help="text: for people; github: annotations in a workflow of GitHub; json: for scripts."
        ),
    ] = "text",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
) -> None:
    """Find what is wrong with a training, and say how to fix it.

    For a script, the doctor reads its file and the modules beside it that the script imports. It runs none of them. For
    an output directory, it reads the journal and the progress of each sink.

    To leave out a finding about a script, add a comment to its statement, such as # noqa: reserved-key.

    The command exits with 1 if it finds errors or warnings, with 0 if it finds none (hints do not count), and with 2 if
    a path does not exist.

    Example: mtask-sinks doctor train.py out/demo-1
    """
    from mtask_sinks._util.shown import masked
    from mtask_sinks.cli.doctor_formats import FORMATS
    from mtask_sinks.doctor.examination import examine_path
    from mtask_sinks.errors import NothingThereError

    as_format = "json" if as_json else as_format
    if as_format not in FORMATS:
        message = f"{as_format!r} is no format. The formats are: {', '.join(FORMATS)}."
        raise typer.BadParameter(message, param_hint="--format")
    if listed:
        _print_list(as_format == "json")
        return
    if not paths:
        raise typer.BadParameter("pass a training script, or the output directory of a training.", param_hint="PATHS")
    try:
        examinations = [examine_path(path, timeout if check else None) for given in paths for path in _each(given)]
    except NothingThereError as error:
        raise typer.BadParameter(str(error), param_hint="PATHS") from None
    except OSError as error:
        raise typer.BadParameter(f"{error.filename} cannot be read: {error.strerror}.", param_hint="PATHS") from None
    FORMATS[as_format](masked(examinations))
    if any(finding.severity != "hint" for examination in examinations for finding in examination.findings):
        raise typer.Exit(1)


def _each(given: str) -> list[str]:
    """Return the output directories below a path, or the path itself if it is one."""
    from mtask_sinks.analysis.selection import with_names
    from mtask_sinks.errors import NoJournalError

    try:
        return [run for run, _ in with_names(given)]
    except NoJournalError:  # the doctor reports this as a finding
        return [given]


def _print_list(as_json: bool) -> None:
    from rich.console import Console

    from mtask_sinks.cli.formatting import print_json, print_renderable
    from mtask_sinks.cli.table import TableColumn, make_table
    from mtask_sinks.doctor.listing import finding_kinds

    if as_json:
        print_json([asdict(kind) for kind in finding_kinds()])
        return
    console = Console()
    rows = [[kind.of, kind.check, kind.severity, kind.title] for kind in finding_kinds()]
    columns = [
        TableColumn("about", drop=1),
        TableColumn("check", style="bold"),
        TableColumn("severity", drop=2),
        TableColumn("what", flow="wrap"),
    ]
    print_renderable(console, make_table(columns, rows, console))
