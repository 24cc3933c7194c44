"""``mtask-sinks reducers``: lists the reducers that a rule can name."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer


def reducers(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Plug-ins to load and describe. Default: load none.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list, one object per reducer.")] = False,
) -> None:
    """List every reducer by name: the built-in ones, percentiles, and those of installed packages.

    Use the names in MetricRegistry(reducers={"*/n_tokens": "sum"}) and in --metric_reducers "*/n_tokens=sum".
    register_reducer gives a name to your own reducer. The command runs the code of an installed package only if you
    name its reducer. It exits with 1 if that plug-in does not load.

    Example: mtask-sinks reducers
    """
    from rich.console import Console

    from mtask_sinks.cli.formatting import print_json, print_renderable
    from mtask_sinks.cli.table import TableColumn, make_table
    from mtask_sinks.errors import ReducerError
    from mtask_sinks.reducers.listing import list_reducers
    from mtask_sinks.reducers.lookup import find_reducer

    for name in names or ():
        try:
            find_reducer(name)
        except ReducerError as error:
            raise typer.BadParameter(str(error), param_hint="NAMES") from None
        except Exception:  # noqa: S112  # raised by a plug-in: the list shows it
            continue
    known = list_reducers(names or ())
    if as_json:
        print_json([asdict(each) for each in known])
    else:
        columns = [
            TableColumn("reducer", style="bold"),
            TableColumn("from", drop=1),
            TableColumn("what it computes", flow="wrap"),
        ]
        console = Console()
        rows = [[each.name, each.package or "mtask-sinks", each.about] for each in known]
        print_renderable(console, make_table(columns, rows, console))
    if not all(each.loads for each in known):
        raise typer.Exit(1)
