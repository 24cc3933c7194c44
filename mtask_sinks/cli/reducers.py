"""``mtask-sinks reducers``: lists the reducers that a rule can name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer


def reducers(
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list, one object per reducer.")] = False,
) -> None:
    """List every reducer by name: the built-in ones, percentiles, and those of installed packages.

    Use the names in MetricRegistry(reducers={"*/n_tokens": "sum"}) and in --metric_reducers "*/n_tokens=sum".
    register_reducer gives a name to your own reducer. The command exits with 1 if a plug-in does not load.

    Example: mtask-sinks reducers
    """
    from rich.console import Console

    from mtask_sinks.cli.formatting import TableColumn, make_table, print_json, print_renderable
    from mtask_sinks.reducers.listing import list_reducers

    known = list_reducers()
    if as_json:
        print_json([asdict(each) for each in known])
    else:
        columns = [TableColumn("reducer", style="bold"), TableColumn("from"), TableColumn("what it computes")]
        console = Console()
        rows = [[each.name, each.package or "mtask-sinks", each.about] for each in known]
        print_renderable(console, make_table(columns, rows, console))
    if not all(each.loads for each in known):
        raise typer.Exit(1)
