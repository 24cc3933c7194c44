"""``mtask-sinks doctor``: finds what is wrong with a script or a training, and says how to fix it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mtask_sinks.doctor.examination import Examination


def doctor(
    paths: Annotated[
        list[str] | None,
        typer.Argument(help="Training scripts, and output directories or journals: DIR, DIR:N.", show_default=False),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Also ask the backends of the sinks whether they answer.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds to wait for all backends of one path.")
    ] = 10.0,
    listed: Annotated[bool, typer.Option("--list", help="Only list every kind of finding.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list, one object per path.")] = False,
) -> None:
    """Find what is wrong with a training, and say how to fix it.

    For a script, the doctor reads its file and the modules beside it that the script imports. It runs none of them. For
    an output directory, it reads the journal and the progress of each sink.

    The command exits with 1 if it finds errors or warnings, with 0 if it finds none (hints do not count), and with 2 if
    a path does not exist.

    Example: mtask-sinks doctor train.py out/demo-1
    """
    from mtask_sinks.doctor.examination import examine_path
    from mtask_sinks.errors import NothingThereError

    if listed:
        _print_list(as_json)
        return
    if not paths:
        raise typer.BadParameter("name a training script, or the output directory of a training.", param_hint="PATHS")
    try:
        examinations = [examine_path(path, timeout if check else None) for path in paths]
    except NothingThereError as error:
        raise typer.BadParameter(str(error), param_hint="PATHS") from None
    except OSError as error:
        raise typer.BadParameter(f"{error.filename} cannot be read: {error.strerror}.", param_hint="PATHS") from None
    if as_json:
        from mtask_sinks.cli.formatting import print_json

        print_json([asdict(examination) for examination in examinations])
    else:
        _print(examinations)
    if any(finding.severity != "hint" for examination in examinations for finding in examination.findings):
        raise typer.Exit(1)


def _print(examinations: list[Examination]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console(soft_wrap=False)
    styles = {"error": "bold red", "warning": "yellow", "hint": "cyan"}
    for examination in examinations:
        for finding in examination.findings:
            head = Text.assemble(
                (finding.severity, styles[finding.severity]), f"  {finding.check}  ", (finding.where, "bold")
            )
            console.print(head, highlight=False, soft_wrap=True)
            for text in (finding.what, f"→ {finding.remedy}"):
                # Break no line in a pipe, so that people can copy a command, or search for it.
                wraps = console.is_terminal
                console.print(Padding(Text(text), (0, 0, 0, 4)) if wraps else Text(f"    {text}"), soft_wrap=not wraps)
        console.print(Text(_summary(examination)), soft_wrap=True)


def _summary(examination: Examination) -> str:
    severities = [finding.severity for finding in examination.findings]
    counts = [(severities.count(kind), kind) for kind in ("error", "warning", "hint")]
    found = ", ".join(f"{n} {kind}{'s' if n > 1 else ''}" for n, kind in counts if n) or "nothing found"
    beside = len(examination.read) - 1
    also = f" and {beside} module{'s' if beside > 1 else ''} beside it" if beside else ""
    return f"{examination.of}{also}: {found}. Checked: {', '.join(examination.checks)}."


def _print_list(as_json: bool) -> None:
    from rich.console import Console

    from mtask_sinks.cli.formatting import TableColumn, make_table, print_json, print_renderable
    from mtask_sinks.doctor.listing import finding_kinds

    if as_json:
        print_json([asdict(kind) for kind in finding_kinds()])
        return
    console = Console()
    rows = [[kind.of, kind.check, kind.severity, kind.title] for kind in finding_kinds()]
    columns = [TableColumn("about"), TableColumn("check", style="bold"), TableColumn("severity"), TableColumn("what")]
    print_renderable(console, make_table(columns, rows, console))
