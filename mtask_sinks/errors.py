"""The exceptions of this library that a user may want to catch."""

from __future__ import annotations

# Errors in reports, keys and reducers.


class MetricKeyError(ValueError):
    """The key is not allowed. The message says what was passed, what is allowed and what to do."""


class MetricValueError(TypeError):
    """The value cannot be reported. The message says what was passed, what is allowed and what to do."""


class ReducerError(ValueError):
    """The reducer does not exist, or it cannot be used."""


class ConflictError(ValueError):
    """One key has two different policies, on one rank or on two ranks."""


class NonFiniteError(ArithmeticError):
    """The model reported NaN or Inf for a key whose policy is ``raise``."""


class DerivedMetricError(LookupError):
    """A derived metric refers to a key that nothing reports."""


class LogEventError(RuntimeError):
    """Ranks reduce different windows, or make different calls (snapshot, end_epoch, state_dict), at the same time."""


# Errors in sinks and their backends.


class UnknownSinkError(ValueError):
    """``report_to`` or ``make_sink`` got a name that no sink, plug-in or tracker has."""


class MissingBackendError(ImportError):
    """The package that a sink writes to is not installed."""


class PluginError(RuntimeError):
    """A plug-in offers a sink or a reducer but cannot create it."""


class NotReady(Exception):
    """The backend cannot accept a run now. The message gives the reason and says what to do."""


class Rejected(Exception):
    """A sink raises this if its backend will never accept the snapshot. Delivery goes on with the next snapshot.

    Delivery handles `ValueError`, `TypeError`, `LookupError`, `ArithmeticError`, `AttributeError`, `AssertionError`,
    `NotImplementedError` and `RecursionError` in the same way, and HTTP errors of urllib, requests and httpx with a
    status 4xx, except 408, 425 and 429. Any other exception, such as an `OSError`, counts as an outage: delivery tries
    the snapshot again.
    """


class NoSuchRun(RuntimeError):
    """A sink raises this if its backend does not have the run: it is deleted, or of another server or account.

    This counts as an outage, because somebody may restore the run. But if a later training has begun in the journal,
    it must not wait for that: delivery rejects the snapshots of the run.
    """


class Forgotten(Exception):
    """A sink raises this if its backend has lost the data of the run. Delivery then sends the whole run again."""


# Errors in journals, and in files made from them.


class NoJournalError(FileNotFoundError):
    """The path does not lead to a journal."""


class NoTrainingError(LookupError):
    """The journal has no training of this name, or more than one."""


class StillAtWorkError(RuntimeError):
    """The training that writes the journal is still running and delivers the journal itself."""


class UntrustedJournalError(RuntimeError):
    """The journal names a place to write to that this user has not chosen."""


class MixedTrainingsError(ValueError):
    """In the joined journal, a resume would continue a training to which it does not belong."""


class OutputFileError(ValueError):
    """The file must not be overwritten, or its ending is not a known format."""


class ExportError(ValueError):
    """The export needs a package that is not installed."""


class NothingToDrawError(LookupError):
    """No metric matches the selection, or the journal has no metrics."""


class NothingThereError(LookupError):
    """The path given to the doctor is neither a script nor a training."""


# Errors in tests with simulated ranks.


class CollectiveError(RuntimeError):
    """Simulated ranks call different collectives, or one rank has ended too early. A real job would hang."""


class RanksDifferError(AssertionError):
    """Simulated ranks computed different results for the same window."""
