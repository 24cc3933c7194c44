"""``mtask-sinks merge``: joins journals, such as those of one training that changed machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mtask_sinks.cli.usage_errors import journal_errors


def merge(
    journals: Annotated[list[str], typer.Argument(help="Output directories or journals.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory for the joined journal, or a file that ends in .jsonl.")
    ],
) -> None:
    """Join the journals of one training that ran on several machines, each with its own output directory.

    A run that was resumed on another machine continues the training, as if both had written to one directory. A run
    that two journals hold, because one was copied, counts once. The journals stay as they are.

    Example: mtask-sinks merge node-1/out node-2/out -o joined
    """
    from mtask_sinks._util.formatting import counted
    from mtask_sinks._util.shown import shown
    from mtask_sinks.analysis.counted import read_trainings
    from mtask_sinks.analysis.merge import check_inputs
    from mtask_sinks.analysis.merge import merge as join
    from mtask_sinks.errors import MixedTrainingsError, OutputFileError
    from mtask_sinks.journal.paths import FILE_NAME

    path = output if output.suffix == ".jsonl" else output / FILE_NAME
    with journal_errors("JOURNALS"):
        check_inputs(journals)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        runs = join(journals, path)
    except MixedTrainingsError as error:
        raise typer.BadParameter(str(error), param_hint="JOURNALS") from None
    except OutputFileError as error:
        raise typer.BadParameter(str(error), param_hint="--output") from None
    except OSError as error:
        raise typer.BadParameter(f"{error.filename or path}: {error.strerror}.", param_hint="--output") from None
    trainings = len(read_trainings(path))
    typer.echo(shown(f"{path}: {counted(runs, 'run')} of {counted(trainings, 'training')}"))
