"""Everything that ``report_to`` can name, installed or not, without loading any of it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal

from mtask_sinks.sinks.plugins import BACKENDS, offering_package, sink_names
from mtask_sinks.sinks.trackers import TRACKERS

Kind = Literal["sink", "plug-in", "transformers"]


@dataclass(frozen=True)
class Known:
    """A name for ``report_to``, and what stands behind it.

    Attributes:
        name: for ``report_to``.
        kind: ``sink`` is one of this package, ``plug-in`` one that another package offers; ``transformers`` is a
            tracker that has no sink: its callback in transformers gets the task metrics among the Trainer's logs.
        package: that has to be installed; ``None`` if it takes something else.
        is_installed: whether it is.
        version: of the package; ``None`` if it is not installed, or does not say.
        get: how to get it.
    """

    name: str
    kind: Kind
    package: str | None
    is_installed: bool
    version: str | None
    get: str


def known_sinks() -> list[Known]:
    """Sinks first, then plug-ins, then the further trackers of transformers, each by name.

    >>> [known.get for known in known_sinks() if known.name == "mlflow"]
    ["pip install 'mtask-sinks[mlflow]'"]
    """
    names = sink_names()
    own = [_own(name) for name in names if name in BACKENDS]
    plugins = [_plugin(name) for name in names if name not in BACKENDS]
    return [*own, *plugins, *(_tracker(name) for name in sorted(TRACKERS) if name not in names)]


def _own(name: str) -> Known:
    module = BACKENDS[name]
    get = f"pip install 'mtask-sinks[{name}]'"
    return Known(name, "sink", module, find_spec(module) is not None, _version(module), get)


def _plugin(name: str) -> Known:
    package = offering_package(name)
    return Known(name, "plug-in", package, True, _version(package), f"pip install {package}")


def _tracker(name: str) -> Known:
    tracker = TRACKERS[name]
    if tracker.package is None:
        return Known(name, "transformers", None, False, None, tracker.note)
    is_installed = find_spec(tracker.module) is not None
    get = " ".join(part for part in (f"pip install {tracker.package}", tracker.note) if part)
    return Known(name, "transformers", tracker.package, is_installed, _version(tracker.package), get)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
