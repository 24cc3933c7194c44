"""``mtask-sinks diff``: compares two trainings."""

from __future__ import annotations

from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mtask_sinks.analysis.compare import Difference, Outcome
    from mtask_sinks.analysis.runs import Training


def diff(
    run_a: Annotated[
        str,
        typer.Argument(help="Output directory or journal, for its last training. DIR:N or DIR:name chooses another."),
    ],
    run_b: Annotated[str, typer.Argument(help="The training to compare with the first one.")],
    only: Annotated[str, typer.Option("--only", help="Pattern of the keys to show, such as 'mlm/*'.")] = "*",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with both runs and all metrics.")
    ] = False,
) -> None:
    """Compare two trainings: the final and the best value of each task's metrics, and the change.

    The column "best" shows which value is best: the smallest (min) for losses, perplexities and errors (loss, rmse, …),
    the largest (max) for accuracy, f1 and other names that are known to rise. It shows "-" if neither is known, as for
    counts; MetricRegistry(directions={"*/bias": "min"}) sets it. NaN is never best. "better" and "worse" are about the
    best value of the second run.

    Example: mtask-sinks diff out/demo-1 out/demo-2 --only 'mlm/*'
    """
    from mtask_sinks.analysis.compare import compare, open_run
    from mtask_sinks.cli.formatting import print_json
    from mtask_sinks.errors import NoJournalError, NoTrainingError
    from mtask_sinks.keys import join_key

    runs = []
    for given, hint in ((run_a, "RUN_A"), (run_b, "RUN_B")):
        try:
            runs.append(open_run(given))
        except (NoJournalError, NoTrainingError) as error:
            raise typer.BadParameter(str(error.args[0]), param_hint=hint) from None
    (path_a, a), (path_b, b) = runs
    rows = [row for row in compare(a, b) if fnmatchcase(join_key(row.task or None, row.name), only)]
    if as_json:
        head = {"a": _about(str(path_a), a), "b": _about(str(path_b), b)}
        print_json({**head, "metrics": [_record(row) for row in rows]})
    else:
        _print([(str(path_a), a), (str(path_b), b)], rows)


def _about(path: str, training: Training) -> dict[str, Any]:
    from mtask_sinks.analysis.progress import status_of

    names = {"journal": path, "number": training.number, "name": training.name, "id": training.id}
    return {**names, "status": status_of(training)[0], "step": training.step}


def _record(row: Difference) -> dict[str, Any]:
    return {
        **asdict(row),
        "final_change": row.final_change,
        "best_change": row.best_change,
        "verdict": row.verdict,
    }


def _print(runs: list[tuple[str, Training]], rows: list[Difference]) -> None:
    from rich.console import Console
    from rich.text import Text

    from mtask_sinks.cli.formatting import TableColumn, make_table, number, print_renderable

    console = Console()
    for letter, (path, training) in zip("AB", runs, strict=True):
        about = _about(path, training)
        name = training.name or f"training {training.number}"
        text = f"{letter}  {name}  {about['status']} at step {training.step:,}  {path}"
        print_renderable(console, Text(text, overflow="fold"))
    print_renderable(console, Text(""))
    columns = [
        *(TableColumn("task", style="bold"), TableColumn("metric"), TableColumn("phase")),
        *(TableColumn("final A", "right"), TableColumn("final B", "right"), TableColumn("change", "right")),
        *(
            TableColumn("best"),
            TableColumn("best A", "right"),
            TableColumn("best B", "right"),
            TableColumn("change", "right"),
            TableColumn(""),
        ),
    ]
    cells = []
    for row in rows:
        finals = [number(None if each is None else each.final) for each in (row.a, row.b)]
        bests = [_best(each) for each in (row.a, row.b)]
        changes = [number(change, sign=True) for change in (row.final_change, row.best_change)]
        names = [row.task or "-", row.name, row.phase]
        cells.append([*names, *finals, changes[0], row.better or "-", *bests, changes[1], row.verdict or ""])
    colours = {"better": "green", "worse": "yellow"}
    styles = [colours.get(row.verdict or "", "dim") for row in rows]
    print_renderable(console, make_table(columns, cells, console, styles={9: styles, 10: styles}))


def _best(outcome: Outcome | None) -> str:
    from mtask_sinks.cli.formatting import number

    if outcome is None or outcome.best is None:
        return "-"
    return f"{number(outcome.best)} @{outcome.best_step:,}"
