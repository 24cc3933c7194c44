"""Prints what the doctor found: for people, as annotations of GitHub, or as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from mtask_sinks._util.escaping import printable
from mtask_sinks._util.formatting import counted
from mtask_sinks.cli.formatting import print_json, print_renderable

if TYPE_CHECKING:
    from mtask_sinks.doctor.examination import Examination
    from mtask_sinks.doctor.finding import Finding

# GitHub's names for the severities.
_COMMANDS = {"error": "error", "warning": "warning", "hint": "notice"}


def _print_text(examinations: Sequence[Examination]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.text import Text

    console = Console()
    styles = {"error": "bold red", "warning": "yellow", "hint": "cyan"}
    for examination in examinations:
        for finding in examination.findings:
            where, about = _where(examination, finding)
            head = Text.assemble(
                (printable(where), "bold"),
                f": {finding.check} ",
                (finding.severity, styles[finding.severity]),
                f": {printable(about)}{printable(finding.what)}",
            )
            remedy = Text(f"→ {printable(finding.remedy)}")
            print_renderable(console, head)
            # Padding indents every line on a terminal, but would fill the line with blanks in a pipe.
            print_renderable(
                console, Padding(remedy, (0, 0, 0, 4)) if console.is_terminal else Text("    ").append(remedy)
            )
        console.print(Text(printable(_summary(examination))), soft_wrap=True)


def _where(examination: Examination, finding: Finding) -> tuple[str, str]:
    """Return the place of a finding, and the text to print before it: for a training, the step."""
    if finding.place is not None:
        return finding.where, ""
    is_known = finding.where in (examination.of, *examination.read)
    return examination.of, "" if is_known else f"{finding.where}: "


def _summary(examination: Examination) -> str:
    severities = [finding.severity for finding in examination.findings]
    counts = [(severities.count(kind), kind) for kind in ("error", "warning", "hint")]
    found = ", ".join(counted(n, kind) for n, kind in counts if n)
    beside = len(examination.read) - 1
    also = f" and {counted(beside, 'module')} beside it" if beside else ""
    left_out = f", {examination.left_out} left out by # noqa" if examination.left_out else ""
    unread = f", {counted(len(examination.unread), 'module')} not read" if examination.unread else ""
    return f"{examination.of}{also}: {found or f'nothing found in {len(examination.checks)} checks'}{left_out}{unread}"


def _print_github(examinations: Sequence[Examination]) -> None:
    """Print commands that a workflow of GitHub turns into annotations.

    Source: https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
    """
    for examination in examinations:
        for finding in examination.findings:
            place = finding.place
            about = "" if place is not None else _where(examination, finding)[1]
            properties = {
                "file": examination.read[0] if place is None else place.file,
                **({} if place is None else {"line": str(place.line), "col": str(place.column)}),
                "title": finding.check,
            }
            listed = ",".join(f"{name}={_escaped(value, ',:')}" for name, value in properties.items())
            message = _escaped(f"{about}{finding.what}\n→ {finding.remedy}")
            typer.echo(f"::{_COMMANDS[finding.severity]} {listed}::{message}")


def _escaped(text: str, more: str = "") -> str:
    for character in "%\r\n" + more:
        text = text.replace(character, f"%{ord(character):02X}")
    return printable(text)


def _print_json(examinations: Sequence[Examination]) -> None:
    print_json([asdict(examination) for examination in examinations])


#: Name of a format → the function that prints it.
FORMATS: Mapping[str, Callable[[Sequence[Examination]], None]] = {
    "text": _print_text,
    "github": _print_github,
    "json": _print_json,
}
