"""``mtask-sinks sinks``: lists the names for ``report_to``, and asks backends whether they answer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtask_sinks._util.suggestion import did_you_mean

if TYPE_CHECKING:
    from mtask_sinks.sinks.health import Answer
    from mtask_sinks.sinks.listing import SinkListing


def sinks(
    names: Annotated[list[str] | None, typer.Argument(help="Names of sinks. Default: all.", show_default=False)] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Ask the backend of each installed sink whether it answers now.")
    ] = False,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.1, max=86_400, help="Seconds to wait for all checks together.")
    ] = 10.0,
    output_dir: Annotated[
        Path,
        typer.Option("--output_dir", help="Output directory of the training, where some sinks write."),
    ] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list, one object per sink.")] = False,
) -> None:
    """List every sink: those of this package, plug-ins, and the trackers that transformers reports to by itself.

    --check logs nothing. For MLflow it asks the store for an experiment, with MLflow's client. For W&B it asks the
    server and looks for an API key (offline, it writes to W&B's directory). For TensorBoard it checks that the
    directory can be written. It runs the code of a plug-in only if you name the plug-in.

    With --check, the command exits with 1 if a backend does not answer, or if a sink that you name is not installed.

    Example: MLFLOW_TRACKING_URI=http://127.0.0.1:5000 mtask-sinks sinks --check mlflow
    """
    from mtask_sinks.cli.formatting import print_json
    from mtask_sinks.sinks.health import check_sinks
    from mtask_sinks.sinks.listing import list_sinks
    from mtask_sinks.snapshot import RunInfo

    known = _chosen(list_sinks(), names or [])
    answers: dict[str, Answer] = {}
    if check:
        kinds = ("sink", "plug-in") if names else ("sink",)
        asked = [each.name for each in known if each.is_installed and each.kind in kinds]
        answers = check_sinks(asked, RunInfo(id="check", output_dir=str(output_dir)), timeout)
    if as_json:
        print_json([_record(each, answers.get(each.name)) for each in known])
    else:
        _print(known, answers, check)
    missing = check and names and not all(each.is_installed for each in known)
    if missing or any(answer.is_ready is False for answer in answers.values()):
        raise typer.Exit(1)


def _chosen(known: list[SinkListing], names: list[str]) -> list[SinkListing]:
    by_name = {each.name: each for each in known}
    for name in names:
        if name not in by_name:
            hint = did_you_mean(name, by_name)
            raise typer.BadParameter(
                f"there is no sink {name!r}.{hint} The sinks are: {', '.join(by_name)}.", param_hint="NAMES"
            )
    return [by_name[name] for name in dict.fromkeys(names)] if names else known


def _record(known: SinkListing, answer: Answer | None) -> dict[str, object]:
    record = asdict(known)
    return record if answer is None else {**record, **asdict(answer)}


def _print(known: list[SinkListing], answers: dict[str, Answer], check: bool) -> None:
    from rich.console import Console

    from mtask_sinks._util.shown import shown
    from mtask_sinks.cli.formatting import print_renderable
    from mtask_sinks.cli.table import TableColumn, make_table

    origins = {"sink": "mtask-sinks", "transformers": "transformers"}
    rows = []
    for each in known:
        installed = "-" if not each.is_installed else each.version or "yes"
        row = [each.name, origins.get(each.kind) or each.package or "", installed]
        answer = answers.get(each.name)
        if check:
            row.append("" if answer is None else {True: "yes", False: "NO", None: "?"}[answer.is_ready])
        row.append(answer.detail if answer else "" if each.is_installed else each.get)
        rows.append(shown(row))
    columns = [TableColumn("sink", style="bold"), TableColumn("from", drop=1), TableColumn("installed")]
    columns += [TableColumn("answers")] if check else []
    columns.append(TableColumn("" if check else "how to get it", flow="wrap"))
    console = Console()
    print_renderable(console, make_table(columns, rows, console))
