"""The command ``mtask-sinks``: one file per subcommand, which reads arguments and prints results.

In: arguments, mostly paths of journals and scripts. Out: text or JSON on standard output, files, an exit code.

May import everything; nothing imports it. Modules import torch and other slow packages only when a command needs them.
"""

from __future__ import annotations

import typer

from mtask_sinks import __version__
from mtask_sinks.cli.demo import demo
from mtask_sinks.cli.diff import diff
from mtask_sinks.cli.doctor import doctor
from mtask_sinks.cli.export import export
from mtask_sinks.cli.plot import plot
from mtask_sinks.cli.reducers import reducers
from mtask_sinks.cli.replay import replay
from mtask_sinks.cli.report import report
from mtask_sinks.cli.sinks import sinks
from mtask_sinks.cli.watch import watch

app = typer.Typer(
    name="mtask-sinks",
    help="Per-task losses and metrics for multi-task training with the Hugging Face Trainer.",
    no_args_is_help=True,
    add_completion=False,
)
for command in (demo, watch, diff, plot, report, export, replay, doctor, sinks, reducers):
    app.command()(command)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command."""
    app()
