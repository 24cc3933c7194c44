"""Finds sinks by name: sinks of this package, and sinks that other installed packages offer.

To add a sink to this package, write its file, and add its name to `BACKENDS` and an entry point and an extra to
``pyproject.toml``. Python knows the entry point once the package is installed again. If the Trainer has a callback for
the backend, also add a class in ``trainer/backend_runs.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec

from mtask_sinks._util.offered import package_of, packages_offering
from mtask_sinks._util.suggestion import did_you_mean
from mtask_sinks.errors import MissingBackendError, PluginError, UnknownSinkError
from mtask_sinks.sinks.base import Sink

#: The entry-point group in which packages offer sinks: ``name = module:SinkClass``, or a function that returns a sink.
ENTRY_POINTS = "mtask_sinks.sinks"

#: Sinks of this package: name → the optional package that the sink needs. The extra that installs it has the same name.
BACKENDS = {"mlflow": "mlflow", "tensorboard": "tensorboard", "wandb": "wandb"}


def sink_names() -> list[str]:
    """Return the names of all sinks that `make_sink` knows, whether their backends are installed or not.

    >>> {"mlflow", "tensorboard", "wandb"} <= set(sink_names())
    True
    """
    return sorted(_entry_points())


def has_sink(name: str) -> bool:
    """Return whether there is a sink of that name."""
    return name in _entry_points()


def make_sink(name: str) -> Sink:
    """Make a new sink of that name, with its default settings.

    Raises:
        UnknownSinkError: there is no such sink; the message lists all.
        MissingBackendError: its backend is not installed; the message says what to install.
        PluginError: a plug-in failed to load, or several packages offer this name; the message names the packages.
    """
    entry_point = _entry_points().get(name)
    if entry_point is None:
        hint = did_you_mean(name, sink_names())
        raise UnknownSinkError(
            f"there is no sink {name!r}.{hint} The sinks are: {', '.join(sink_names())}. If another package offers it, "
            "install that package into this environment."
        )
    packages = packages_offering(ENTRY_POINTS, name)
    if name not in BACKENDS and len(packages) > 1:
        raise PluginError(
            f"several packages offer a sink {name!r}: {', '.join(packages)}. Uninstall all but one of them, or pass "
            "the sink itself: sinks=[MySink()]."
        )
    require_backend(name)
    try:
        factory: Callable[[], Sink] = entry_point.load()
        sink = factory()
    except (Exception, SystemExit) as error:  # a package without its license may call `sys.exit`
        raise PluginError(
            f"sink {name!r} of package {package_of(entry_point)} failed to load ({type(error).__name__}: {error}). "
            "Repair or update that package, or do not use the sink."
        ) from error
    if not isinstance(sink, Sink):
        raise PluginError(
            f"sink {name!r} of package {package_of(entry_point)} is {sink!r}, which is not a Sink. Its entry point "
            f"{entry_point.value!r} must name a subclass of mtask_sinks.Sink, or a function that returns a sink."
        )
    if not hasattr(sink, "name"):
        raise PluginError(
            f"sink {name!r} of package {package_of(entry_point)} has no name: its class {type(sink).__name__} needs "
            f"the line name = {name!r}."
        )
    return sink


def require_backend(name: str) -> None:
    """Check that the package behind a sink of this library is installed.

    Raises:
        MissingBackendError: the package is not installed; the message says what to install.
    """
    module = BACKENDS.get(name)
    if module is not None and find_spec(module) is None:
        raise MissingBackendError(
            f"sink {name!r} needs the package {module}, which is not installed. Run: pip install 'mtask-sinks[{name}]'"
        )


def offering_package(name: str) -> str:
    """Return the name of the package that offers the sink of that name."""
    return package_of(_entry_points()[name])


def _entry_points() -> dict[str, EntryPoint]:
    found = {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINTS)}
    # If another package uses the name of a sink of this package, the sink of this package wins.
    own = (entry_point for entry_point in entry_points(group=ENTRY_POINTS) if entry_point.name in BACKENDS)
    return found | {each.name: each for each in own if each.value.startswith(f"{__name__.partition('.')[0]}.")}
