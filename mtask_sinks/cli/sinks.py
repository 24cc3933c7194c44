"""``mtask-sinks sinks``: what ``report_to`` can name, and whether it answers."""

from __future__ import annotations

import difflib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mtask_sinks.sinks.catalog import Known
    from mtask_sinks.sinks.health import Answer


def sinks(
    names: Annotated[list[str] | None, typer.Argument(help="Only these; default: all.", show_default=False)] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Ask each installed sink's backend if it answers now.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, help="Seconds for all checks together, made at the same time.")
    ] = 10.0,
    output_dir: Annotated[
        Path, typer.Option("--output_dir", "--output-dir", help="Of the training, for sinks that write there.")
    ] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list, one object a sink.")] = False,
) -> None:
    """List every sink: those of this package, plug-ins, and the trackers that transformers reports to by itself.

    --check asks MLflow's server for /health and opens its store, W&B's server for an answer and the environment for an
    API key (or, offline, writes to its directory), and TensorBoard's directory for whether it can be written. It logs
    nothing. Plug-ins are loaded, and asked if they have a check.

    Exits with 1 if a backend that was asked does not answer, or one that was named is not installed.

    Example: MLFLOW_TRACKING_URI=http://127.0.0.1:5000 mtask-sinks sinks --check mlflow
    """
    from mtask_sinks.cli.formatting import print_json
    from mtask_sinks.sinks.catalog import known_sinks
    from mtask_sinks.sinks.health import check_sinks
    from mtask_sinks.snapshot import RunInfo

    known = _chosen(known_sinks(), names or [])
    answers: dict[str, Answer] = {}
    if check:
        asked = [each.name for each in known if each.is_installed and each.kind != "transformers"]
        answers = check_sinks(asked, RunInfo(id="check", output_dir=str(output_dir)), timeout)
    if as_json:
        print_json([_record(each, answers.get(each.name)) for each in known])
    else:
        _print(known, answers, check)
    missing = check and names and not all(each.is_installed for each in known)
    if missing or any(answer.is_ready is False for answer in answers.values()):
        raise typer.Exit(1)


def _chosen(known: list[Known], names: list[str]) -> list[Known]:
    by_name = {each.name: each for each in known}
    for name in names:
        if name not in by_name:
            close = difflib.get_close_matches(name, by_name, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise typer.BadParameter(
                f"there is no {name!r}.{hint} There are: {', '.join(by_name)}.", param_hint="NAMES"
            )
    return [by_name[name] for name in dict.fromkeys(names)] if names else known


def _record(known: Known, answer: Answer | None) -> dict[str, object]:
    record = asdict(known)
    return record if answer is None else {**record, **asdict(answer)}


def _print(known: list[Known], answers: dict[str, Answer], check: bool) -> None:
    from rich.console import Console

    from mtask_sinks.cli.formatting import Column, make_table, print_renderable

    origins = {"sink": "mtask-sinks", "transformers": "transformers"}
    rows = []
    for each in known:
        installed = "-" if not each.is_installed else each.version or "yes"
        row = [each.name, origins.get(each.kind) or each.package or "", installed]
        answer = answers.get(each.name)
        if check:
            row.append("" if answer is None else {True: "yes", False: "NO", None: "?"}[answer.is_ready])
        row.append(answer.detail if answer else "" if each.is_installed else each.get)
        rows.append(row)
    columns = [Column("sink", style="bold"), Column("of"), Column("installed")]
    columns += [Column("answers"), Column("")] if check else [Column("how to get it")]
    console = Console()
    print_renderable(console, make_table(columns, rows, console))
