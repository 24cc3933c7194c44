"""The command ``mtask-sinks``: one file per subcommand, which reads arguments and prints results.

In: arguments, mostly paths of journals and scripts. Out: text or JSON on standard output, files, an exit code.

May import everything; only `__main__` imports it. Modules import torch and other slow packages only when a command
needs them.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from mtask_sinks import __version__
from mtask_sinks._util.escaping import printable
from mtask_sinks._util.masking import mask
from mtask_sinks.cli.demo import demo
from mtask_sinks.cli.diff import diff
from mtask_sinks.cli.doctor import doctor
from mtask_sinks.cli.export import export
from mtask_sinks.cli.merge import merge
from mtask_sinks.cli.plot import plot
from mtask_sinks.cli.process_exit import safe_exit
from mtask_sinks.cli.reducers import reducers
from mtask_sinks.cli.replay import replay
from mtask_sinks.cli.report import report
from mtask_sinks.cli.sinks import sinks
from mtask_sinks.cli.streams import standard_streams
from mtask_sinks.cli.watch import watch


class _Commands(TyperGroup):
    """Masks and escapes the messages of usage errors, because they contain paths and names from users and journals."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if isinstance(message := getattr(error, "message", None), str):
                vars(error)["message"] = printable(mask(message), keep_newlines=True)
            raise


def _in_paragraphs(text: str) -> str:
    """Join the lines of each paragraph, because the help would keep the line breaks, which do not fit a terminal."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


app = typer.Typer(
    name="mtask-sinks",
    cls=_Commands,
    pretty_exceptions_show_locals=False,
    help="Per-task losses and metrics for multi-task training with the Hugging Face Trainer.",
    no_args_is_help=True,
    add_completion=False,
)
for command in (demo, watch, diff, plot, report, export, replay, merge, doctor, sinks, reducers):
    app.command(
        help=_in_paragraphs(command.__doc__ or ""),
        # Options such as --max_steps are spelled as in transformers; --max-steps is understood too.
        context_settings={"token_normalize_func": lambda name: name.replace("-", "_")},
    )(command)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command."""
    with safe_exit(), standard_streams():
        app()
