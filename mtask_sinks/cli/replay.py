"""``mtask-sinks replay``: delivers a journal later, from any machine, to any sink."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtask_sinks._util.shown import shown
from mtask_sinks.cli.usage_errors import journal_errors, unreadable

if TYPE_CHECKING:
    from mtask_sinks.delivery.counts import SinkCounts
    from mtask_sinks.sinks import Sink


def replay(
    journal: Annotated[
        Path, typer.Argument(help="Output directory of a training, a directory above several, or a metrics.jsonl.")
    ],
    to: Annotated[list[str], typer.Option("--to", help="Sinks, separated by commas, or one per option.")],
    everything: Annotated[
        bool, typer.Option("--all", help="Deliver everything into the same runs as before, not only what is missing.")
    ] = False,
    new: Annotated[bool, typer.Option("--new", help="Deliver everything into new runs.")] = False,
    patience: Annotated[
        float, typer.Option("--patience", min=0.0, help="Give up after this many seconds without progress.")
    ] = 60.0,
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Let the journal choose where to write, even if it may be from somebody else."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Deliver even if a process with the process id of the training is running.")
    ] = False,
    tensorboard_layout: Annotated[
        str,
        typer.Option("--tensorboard_layout", help="Layout of the training: flat or overlay."),
    ] = "flat",
) -> None:
    """Deliver what a training could not deliver: to a backend that was down, or to one that was not configured.

    A sink that the training wrote to gets what is missing, in the same backend run. Any other sink gets everything.
    MLflow and TensorBoard keep each point once, however often you deliver it. A killed training shows as killed in the
    backend. Backends read their own environment variables.

    A journal may be from somebody else. The command writes to new runs, to the directory of the journal, and to runs to
    which your own trainings have delivered this journal. If a journal names another place, the command asks you on a
    terminal; elsewhere it needs --trust.

    The command exits with 1 if something is left.

    Example: MLFLOW_TRACKING_URI=http://127.0.0.1:5000 mtask-sinks replay out/metrics.jsonl --to mlflow
    """
    from mtask_sinks.analysis.find import find_journals
    from mtask_sinks.delivery.replay import replay as deliver
    from mtask_sinks.delivery.saved_cursor import ReplayScope
    from mtask_sinks.errors import NoTrainingError, StillAtWorkError, UntrustedJournalError
    from mtask_sinks.sinks.timeouts import limit_network

    if tensorboard_layout not in ("flat", "overlay"):
        raise typer.BadParameter(
            f"{tensorboard_layout!r} is not allowed. Use flat or overlay.", param_hint="--tensorboard_layout"
        )
    if everything and new:
        raise typer.BadParameter("--all delivers into the same runs as before, --new into new ones: choose one.")
    logging.basicConfig(format="%(message)s")
    names = dict.fromkeys(name.strip() for several in to for name in several.split(",") if name.strip())
    for name in names:
        _make(name, tensorboard_layout)  # refuse a wrong name before anything is delivered
    limit_network(names)
    what: ReplayScope = "new" if new else "all" if everything else "left"
    with journal_errors("JOURNAL"):
        journals = find_journals(journal)
    is_complete = True
    for path, below in journals:
        sinks = [_make(name, tensorboard_layout) for name in names]
        try:
            found = _with_trust(partial(deliver, path, sinks, what=what, patience=patience, force=force), trust)
        except (NoTrainingError, StillAtWorkError, UntrustedJournalError, OSError) as error:
            reason = unreadable(error) if isinstance(error, OSError) and error.filename else str(error)
            if not below:
                raise typer.BadParameter(reason, param_hint="JOURNAL") from None
            typer.echo(shown(f"{below}: {reason}"), err=True)
            is_complete = False
            continue
        for name, counts in found.items():
            where = f"{below}  {name}" if below else name
            why = f" ({counts.error})" if counts.error and (counts.rejected or counts.is_in_trouble) else ""
            numbers = f"{counts.delivered:,} delivered, {counts.rejected:,} rejected, {counts.pending:,} left"
            typer.echo(shown(f"{where}: {numbers}{why}"))
            is_complete = is_complete and not counts.is_in_trouble
    raise typer.Exit(0 if is_complete else 1)


def _with_trust(deliver: Callable[..., dict[str, SinkCounts]], trust: bool) -> dict[str, SinkCounts]:
    """Deliver a journal. If it must be trusted, ask the user, and deliver it again with ``trust``."""
    from mtask_sinks.errors import UntrustedJournalError

    try:
        return deliver(trust=trust)
    except UntrustedJournalError as error:
        if not _is_allowed(error):
            raise
    return deliver(trust=True)


def _is_allowed(error: Exception) -> bool:
    """Ask on a terminal whether to write where the journal says."""
    import sys

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    typer.echo(shown(str(error)))
    return typer.confirm("Write there?")


def _make(name: str, tensorboard_layout: str) -> Sink:
    """Make a sink. An unknown name, or a package that is not installed, is a usage error."""
    from mtask_sinks.errors import MissingBackendError, PluginError, UnknownSinkError
    from mtask_sinks.sinks import make_sink

    try:
        if name == "tensorboard" and tensorboard_layout == "overlay":
            from mtask_sinks.sinks import TensorBoardSink

            return TensorBoardSink(layout="overlay")
        return make_sink(name)
    except (MissingBackendError, PluginError, UnknownSinkError) as error:
        raise typer.BadParameter(str(error), param_hint="--to") from None
