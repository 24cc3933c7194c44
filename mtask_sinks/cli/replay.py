"""``mtask-sinks replay``: delivers a journal later, from any machine, to any sink."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer


def replay(
    journal: Annotated[Path, typer.Argument(help="metrics.jsonl, or the output directory of a training.")],
    to: Annotated[list[str], typer.Option("--to", help="Sinks, separated by commas, or one per option.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Deliver everything into the same runs as before, not only what is missing.")
    ] = False,
    new: Annotated[bool, typer.Option("--new", help="Deliver everything into new runs.")] = False,
    patience: Annotated[
        float, typer.Option("--patience", min=0.0, help="Give up after this many seconds without progress.")
    ] = 60.0,
    tensorboard_layout: Annotated[
        str,
        typer.Option("--tensorboard_layout", "--tensorboard-layout", help="Layout of the training: flat or overlay."),
    ] = "flat",
) -> None:
    """Deliver what a training could not deliver: to a backend that was away, or to one that was not configured.

    A sink that the training wrote to gets what is missing, in the same backend run. Any other sink gets everything.
    MLflow and TensorBoard keep each point once, however often you deliver it. A killed training shows as killed in the
    backend. Backends read their own environment variables. The command exits with 1 if something is left.

    Example: MLFLOW_TRACKING_URI=http://127.0.0.1:5000 mtask-sinks replay out/metrics.jsonl --to mlflow
    """
    from mtask_sinks.delivery.replay import replay as deliver
    from mtask_sinks.delivery.worker import ReplayScope
    from mtask_sinks.errors import MissingBackendError, PluginError, StillAtWorkError
    from mtask_sinks.sinks import Sink, has_sink, make_sink, sink_names
    from mtask_sinks.sinks.timeouts import limit_network

    if everything and new:
        raise typer.BadParameter("--all delivers into the same runs as before, --new into new ones: choose one.")
    logging.basicConfig(format="%(message)s")
    names = [name.strip() for several in to for name in several.split(",") if name.strip()]
    sinks: list[Sink] = []
    for name in dict.fromkeys(names):
        if not has_sink(name):
            raise typer.BadParameter(
                f"there is no sink {name!r}. The sinks are: {', '.join(sink_names())}.", param_hint="--to"
            )
        try:
            if name == "tensorboard" and tensorboard_layout == "overlay":
                from mtask_sinks.sinks import TensorBoardSink

                sinks.append(TensorBoardSink(layout="overlay"))
            else:
                sinks.append(make_sink(name))
        except (MissingBackendError, PluginError) as error:
            raise typer.BadParameter(str(error), param_hint="--to") from None
    limit_network()
    try:
        what: ReplayScope = "new" if new else "all" if everything else "left"
        found = deliver(journal, sinks, what=what, patience=patience)
    except (FileNotFoundError, StillAtWorkError) as error:
        raise typer.BadParameter(str(error), param_hint="JOURNAL") from None
    for name, counts in found.items():
        why = f" ({counts.error})" if counts.error and (counts.rejected or counts.state != "up") else ""
        typer.echo(f"{name}: {counts.delivered} delivered, {counts.rejected} rejected, {counts.pending} left{why}")
    raise typer.Exit(0 if all(counts.state == "up" for counts in found.values()) else 1)
