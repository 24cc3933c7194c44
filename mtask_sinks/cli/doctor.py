"""``mtask-sinks doctor``: what is wrong with a script or a training, and how to mend it."""

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
    check: Annotated[bool, typer.Option("--check", help="Also ask the backends of its sinks if they answer.")] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds for the backends of one path, asked at one time.")
    ] = 10.0,
    listed: Annotated[bool, typer.Option("--list", help="List what may be found, and do nothing else.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list, one object a path.")] = False,
) -> None:
    """Say what is wrong with a training, and how to mend it.

    A script is read, not run: with the modules beside it that it imports, as far as its text tells. Of an output
    directory the journal is read, and how far each sink is.

    Exits with 1 if there are errors or warnings, 0 if there are none (hints may be there), 2 if there is no such path.

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
            for text in (finding.what, f"→ {finding.mend}"):
                # Into a pipe a line is a line: a command in it can be copied, or searched for.
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

    from mtask_sinks.cli.formatting import Column, make_table, print_json, print_renderable
    from mtask_sinks.doctor.catalogue import entries

    if as_json:
        print_json([asdict(entry) for entry in entries()])
        return
    console = Console()
    rows = [[entry.of, entry.check, entry.severity, entry.title] for entry in entries()]
    columns = [Column("of"), Column("check", style="bold"), Column("severity"), Column("what")]
    print_renderable(console, make_table(columns, rows, console))
