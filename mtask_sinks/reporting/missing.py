"""Explains the error of a module without ``self.report_metrics``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mtask_sinks.reporting.binding import FLAG, NAME


@contextmanager
def explaining_errors() -> Iterator[None]:
    """Inside a ``with`` block, add the remedy to the error of a module that has no ``self.report_metrics``."""
    try:
        yield
    except AttributeError as error:
        if error.name == NAME and isinstance(error.obj, nn.Module):
            kind = type(error.obj).__qualname__
            error.add_note(
                f"A module has self.{NAME} only while a trainer trains or evaluates the model, and only if the class "
                f"sets {FLAG} = True. Set it in {kind}, and put calls that must also work without a trainer under "
                f"`if hasattr(self, '{NAME}'):`."
            )
        raise
