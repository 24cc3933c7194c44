"""``mtask-sinks diff``: compares two trainings."""

from __future__ import annotations

from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtask_sinks.cli.usage_errors import check_only, journal_errors

if TYPE_CHECKING:
    from mtask_sinks.analysis.compare import Difference, Outcome
    from mtask_sinks.analysis.training import Training


def diff(
    run_a: Annotated[
        str,
        typer.Argument(
            help="Output directory or journal: the command takes its last training. DIR:N or DIR:name chooses another. "
            "For a directory above several, it takes the newest training."
        ),
    ],
    run_b: Annotated[
        str | None,
        typer.Argument(
            help="The training to compare with the first one. Without RUN_B, the command compares the two newest "
            "trainings below RUN_A.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[str, typer.Option("--only", help="Pattern of the keys to show, such as 'mlm/*'.")] = "*",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with both runs and all metrics.")
    ] = False,
) -> None:
    """Compare two trainings: the final and the best value of each task's metrics, and the change.

    The column "best" shows which value is best: the smallest (min) for losses, perplexities and errors (loss, rmse, …),
    the largest (max) for accuracy, f1 and other names that are known to rise. It shows "-" if neither is known, as for
    counts; MetricRegistry(directions={"*/bias": "min"}) sets it. NaN is never best. The column "best B is" compares
    the best values, not the final ones: "better" if the best value of the second run is better.

    Example: mtask-sinks diff out/demo-1 out/demo-2 --only 'mlm/*'
    """
    from mtask_sinks.analysis.compare import compare
    from mtask_sinks.cli.formatting import print_json
    from mtask_sinks.keys import join_key

    a, b = _two_newest(run_a) if run_b is None else (_opened(run_a, "RUN_A"), _opened(run_b, "RUN_B"))
    check_only(only, (series.key for training in (a, b) for series in training.series.values()))
    rows = [row for row in compare(a, b) if fnmatchcase(join_key(row.task or None, row.name), only)]
    if as_json:
        print_json({"a": _about(a), "b": _about(b), "metrics": [_record(row) for row in rows]})
    else:
        _print([a, b], rows)


def _opened(run: str, argument: str) -> Training:
    from mtask_sinks.analysis.selection import open_run

    with journal_errors(argument):
        return open_run(run)


def _two_newest(directory: str) -> list[Training]:
    """Return the two newest trainings of a directory, or below it."""
    from mtask_sinks.analysis.choice import by_time
    from mtask_sinks.analysis.counted import read_trainings
    from mtask_sinks.analysis.find import find_readable_journals
    from mtask_sinks.analysis.selection import open_run, split_run

    with journal_errors("RUN_A"):
        is_one = split_run(directory)[1] is not None
        journals = [] if is_one else find_readable_journals(directory)
        found = [training for journal in journals for training in read_trainings(journal.path)]
        if not found:
            open_run(directory)  # raises an error if there is none
    newest = by_time(found)[-2:]
    if len(newest) < 2:
        what = "is one training" if is_one else "holds only one training"
        message = f"{directory} {what}. Pass the training to compare it with: mtask-sinks diff {directory} DIR"
        raise typer.BadParameter(message, param_hint="RUN_B")
    return newest


def _about(training: Training) -> dict[str, Any]:
    from mtask_sinks.analysis.progress import status_of

    names = {"journal": str(training.journal), "number": training.number, "name": training.name, "id": training.id}
    return {**names, "status": status_of(training)[0], "step": training.step}


def _record(row: Difference) -> dict[str, Any]:
    return {
        **asdict(row),
        "final_change": row.final_change,
        "best_change": row.best_change,
        "verdict": row.verdict,
    }


def _print(runs: list[Training], rows: list[Difference]) -> None:
    from rich.console import Console
    from rich.text import Text

    from mtask_sinks._util.formatting import change
    from mtask_sinks._util.shown import shown
    from mtask_sinks.analysis.compare import more_digits_of
    from mtask_sinks.analysis.progress import status_of
    from mtask_sinks.charts.palette import task_colours
    from mtask_sinks.cli.formatting import print_renderable
    from mtask_sinks.cli.table import TableColumn, make_table

    console = Console()
    for letter, training in zip("AB", runs, strict=True):
        name = training.name or f"training {training.number}"
        text = f"{letter}  {name}  {status_of(training)[0]} at step {training.step:,}  {training.journal}"
        print_renderable(console, Text(shown(text, console.encoding), overflow="fold"))
    print_renderable(console, Text(""))
    # The last column is about the best values: without them, a change of the final value would seem to explain it.
    columns = [
        *(TableColumn("task", style="bold", flow="cut"), TableColumn("metric", flow="cut")),
        TableColumn("phase", flow="cut"),
        *(TableColumn("final A", "right", drop=5), TableColumn("final B", "right")),
        TableColumn("change", "right", drop=3, title="change of the final value"),
        TableColumn("best", drop=2, title="which value is best"),
        *(TableColumn("best A", "right", drop=4), TableColumn("best B", "right", drop=4)),
        TableColumn("change", "right", drop=1, title="change of the best value"),
        TableColumn("best B is"),
    ]
    cells = []
    for row in shown(rows, console.encoding):
        more, more_best = more_digits_of((row.a, row.b))
        finals = [_final(each, more) for each in (row.a, row.b)]
        bests = [_best(each, more_best) for each in (row.a, row.b)]
        final_change = change(row.final_change, row.b.final if row.b else 0.0, more)
        best_change = change(row.best_change, row.b.best if row.b and row.b.best is not None else 0.0, more_best)
        names = [row.task or "-", row.name, row.phase]
        cells.append([*names, *finals, final_change, row.better or "-", *bests, best_change, row.verdict or ""])
    colours = {"better": "green", "worse": "yellow"}
    verdicts = [colours.get(row.verdict or "", "dim") for row in rows]
    of_tasks = task_colours(each.task for training in runs for each in training.series.values())
    tasks = [of_tasks[row.task] for row in rows]
    print_renderable(console, make_table(columns, cells, console, styles={0: tasks, 9: verdicts, 10: verdicts}))


def _final(outcome: Outcome | None, more: int) -> str:
    from mtask_sinks._util.formatting import number
    from mtask_sinks.cli.formatting import last_value

    return number(None) if outcome is None else last_value(outcome.final, outcome.partial, more)


def _best(outcome: Outcome | None, more: int) -> str:
    from mtask_sinks._util.formatting import number

    if outcome is None or outcome.best is None:
        return "-"
    return f"{number(outcome.best, more=more)} @{outcome.best_step:,}"
