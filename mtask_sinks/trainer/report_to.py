"""Sorts the names in ``report_to``: sinks, trackers that only transformers knows, and unknown names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
    is_wandb_available,
)

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.schemes import has_scheme
from mtask_sinks._util.suggestion import did_you_mean
from mtask_sinks.errors import MissingBackendError, UnknownSinkError
from mtask_sinks.sinks import Sink, has_sink, make_sink, sink_names
from mtask_sinks.sinks.lookup import ENTRY_POINTS

if TYPE_CHECKING:
    from transformers import TrainingArguments

logger = get_logger(__name__)


def sinks_for(
    names: Iterable[str], given: Sequence[Sink] = (), tensorboard_dir: str | os.PathLike[str] | None = None
) -> list[Sink]:
    """Return the sinks of a training: the given objects, and one sink for each name that has one.

    Args:
        names: the names in ``report_to``. A name that only transformers knows gets no sink.
        given: sinks that replace the default sinks of the same names.
        tensorboard_dir: the directory that the user chose for transformers' TensorBoard callback; ``None`` if none.

    Raises:
        UnknownSinkError, MissingBackendError, PluginError: a name has no sink that can be used.
    """
    sinks = [sink for sink in given if not _is_disabled(sink)]
    for name in dict.fromkeys(names):
        if any(sink.name == name for sink in sinks):
            continue
        if not has_sink(name):
            _check_known(name)
            continue
        if name == "tensorboard" and tensorboard_dir is not None and has_scheme(tensorboard_dir):
            message = (
                "%s is no local directory, so sink tensorboard is off, and transformers' own callback writes there."
            )
            logger.warning(message, tensorboard_dir)
            continue
        try:
            sinks.append(make_sink(name))
        except MissingBackendError as error:
            if name not in _installed():
                raise
            # With tensorboardX, transformers works but our sink does not. So transformers' callback gets the metrics.
            logger.info("%s; transformers' own callback for %r writes the task metrics instead.", error, name)
    return sinks


@contextmanager
def only_known_to_transformers(args: TrainingArguments | None) -> Iterator[None]:
    """Hide names that are only sinks from transformers, which would refuse them."""
    if args is None:
        yield
        return
    asked = args.report_to
    args.report_to = [name for name in names_of(asked) if name in INTEGRATION_TO_CALLBACK]
    try:
        yield
    finally:
        args.report_to = asked


def names_of(report_to: str | Sequence[str] | None) -> list[str]:
    """The names in ``report_to``, which may be one name, several, ``"all"`` or ``"none"``.

    >>> names_of("tensorboard"), names_of(["mlflow", "wandb"]), names_of("none"), names_of(None)
    (['tensorboard'], ['mlflow', 'wandb'], [], [])
    >>> names_of("mlflow,my_plugin")             # what one can write on a command line
    ['mlflow', 'my_plugin']

    ``"all"`` means what it means in transformers: every installed tracker that transformers knows. It includes no
    plug-ins: write their names.
    """
    given = [report_to] if isinstance(report_to, str) else report_to or []
    given = list(given) if isinstance(given, Iterable) else [given]
    if not all(isinstance(each, str | None) for each in given):
        raise TypeError(f"report_to={report_to!r}: pass names, such as ['tensorboard', 'mlflow']; objects go to sinks.")
    names = [name.strip() for several in given if several is not None for name in several.split(",")]
    if "all" in names:
        names = [*_installed(), *(name for name in names if name != "all")]
    return [name for name in names if name not in ("", "none")]


def _installed() -> list[str]:
    """Trackers that transformers knows and finds installed."""
    installed: list[str] = get_available_reporting_integrations()  # type: ignore[no-untyped-call]
    return installed


def _is_disabled(sink: Sink) -> bool:
    """Whether the user has disabled W&B by ``WANDB_DISABLED``, in a version of transformers that obeys it (4)."""
    if sink.name != "wandb" or is_wandb_available():  # type: ignore[no-untyped-call]
        return False
    logger.warning("sink wandb is left out, because WANDB_DISABLED is set.")
    return True


def _check_known(name: str) -> None:
    if name in INTEGRATION_TO_CALLBACK:
        return
    sinks, trackers = sink_names(), sorted(set(INTEGRATION_TO_CALLBACK) - set(sink_names()))
    hint = did_you_mean(name, [*sinks, *trackers, "all", "none"])
    raise UnknownSinkError(
        f"report_to: there is no {name!r}.{hint} Sinks: {', '.join(sinks)}. Further trackers that transformers knows: "
        f"{', '.join(trackers)}. Also 'all' and 'none'. A package adds a sink by an entry point in the group "
        f"{ENTRY_POINTS!r}; install it into this environment, or pass the sink itself: sinks=[MySink()]."
    )
