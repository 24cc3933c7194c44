"""All exceptions of this library that a user may want to catch."""

from __future__ import annotations

# What is reported, and how it is reduced.


class MetricKeyError(ValueError):
    """A key that cannot be used. The message says what was passed, what is allowed and what to do."""


class MetricValueError(TypeError):
    """A value that cannot be reported. The message says what was passed, what is allowed and what to do."""


class ReducerError(ValueError):
    """A reducer that does not exist or cannot be used."""


class ConflictError(ValueError):
    """A key was given two different policies, on one rank or on two."""


class NonFiniteError(ArithmeticError):
    """NaN or Inf was reported for a key whose policy is ``raise``."""


class DerivedMetricError(LookupError):
    """A derived metric refers to a key that nothing reports."""


class LogEventError(RuntimeError):
    """Two ranks reduce different windows at the same time."""


# Where metrics go.


class UnknownSinkError(ValueError):
    """``report_to`` has a name that no sink, plug-in or tracker has."""


class MissingBackendError(ImportError):
    """The package that a sink writes to is not installed."""


class PluginError(RuntimeError):
    """A plug-in offers a sink but cannot make it."""


class NotReady(Exception):
    """A backend cannot take a run now. The message says what keeps it from that, and what to do."""


class Rejected(Exception):
    """A sink's backend will never accept this snapshot: the snapshot is left out, and the next one is written.

    `ValueError`, `TypeError` and other errors in what was given or written count as this one. Everything else, such
    as an `OSError`, counts as an outage: the snapshot is tried again.
    """


class Forgotten(Exception):
    """A sink's backend has lost what was delivered of the run: all of it is delivered again."""


# Journals, and what is made of them.


class NoJournalError(FileNotFoundError):
    """There is no journal at this path."""


class NoTrainingError(LookupError):
    """A journal has no such training, or several of that name."""


class StillAtWorkError(RuntimeError):
    """The training that writes a journal is still running, and delivers the journal itself."""


class OutputFileError(ValueError):
    """A file that must not be overwritten, or whose ending is no known format."""


class ExportError(ValueError):
    """An export needs a package that is not installed."""


class NothingToDrawError(LookupError):
    """No metric matches, or there are no metrics."""


class NothingThereError(LookupError):
    """The doctor was given a path that is neither a script nor a training."""


# Tests.


class CollectiveError(RuntimeError):
    """Simulated ranks call different collectives, or one of them has ended: a real job would hang."""


class RanksDifferError(AssertionError):
    """Simulated ranks hold different results of one window."""
