"""``mtask-sinks reducers``: what can stand on the right side of a rule."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer


def reducers(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list, one object a reducer.")] = False,
) -> None:
    """List every reducer by name: built in, percentiles, and those that installed packages offer.

    The names go into MetricRegistry(reducers={"*/n_tokens": "sum"}) and --metric_reducers "*/n_tokens=sum". Your own
    get a name by register_reducer. Exits with 1 if a plug-in does not load.

    Example: mtask-sinks reducers
    """
    from rich.console import Console

    from mtask_sinks.cli.formatting import Column, make_table, print_json, print_renderable
    from mtask_sinks.reducers.catalog import list_reducers

    known = list_reducers()
    if as_json:
        print_json([asdict(each) for each in known])
    else:
        columns = [Column("reducer", style="bold"), Column("of"), Column("what it makes of a window")]
        console = Console()
        rows = [[each.name, each.package or "mtask-sinks", each.about] for each in known]
        print_renderable(console, make_table(columns, rows, console))
    if not all(each.loads for each in known):
        raise typer.Exit(1)
