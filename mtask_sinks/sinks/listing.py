"""Lists every name that ``report_to`` accepts, installed or not, without importing any backend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Literal

from mtask_sinks.sinks.lookup import BACKENDS, offering_package, sink_names

Kind = Literal["sink", "plug-in", "transformers"]


@dataclass(frozen=True)
class SinkListing:
    """One name for ``report_to``.

    Attributes:
        name: the name for ``report_to``.
        kind: ``sink`` for a sink of this package, ``plug-in`` for a sink of another package, ``transformers`` for a
            tracker without a sink: its callback in transformers gets the task metrics among the Trainer's logs.
        package: the package that the name needs; ``None`` if it needs something else.
        is_installed: whether that package is installed.
        version: version of the package; ``None`` if it is not installed or has no version.
        get: how to install the package, or what else the name needs.
    """

    name: str
    kind: Kind
    package: str | None
    is_installed: bool
    version: str | None
    get: str


@dataclass(frozen=True)
class Tracker:
    """A tracker that transformers reports to by itself, without a sink.

    Attributes:
        module: the module that its callback imports.
        package: the package to install; ``None`` if it needs something else.
        note: further packages to install, or what it needs instead of a package.
    """

    module: str
    package: str | None
    note: str = ""


#: Name in ``report_to`` → what it needs, for the trackers of transformers that have no sink. This is a table, because
#: asking transformers would import torch. A test compares the names with those of transformers.
TRACKERS: Mapping[str, Tracker] = {
    "azure_ml": Tracker("azureml", "azureml-sdk"),
    "clearml": Tracker("clearml", "clearml"),
    "codecarbon": Tracker("codecarbon", "codecarbon"),
    "comet_ml": Tracker("comet_ml", "comet-ml"),
    "dagshub": Tracker("dagshub", "dagshub", "mlflow"),
    "dvclive": Tracker("dvclive", "dvclive"),
    "flyte": Tracker("flytekit", "flytekit"),
    "kubeflow": Tracker("", None, "run in a pod of Kubeflow Trainer, which sets KUBEFLOW_TRAINER_SERVER_URL"),
    "neptune": Tracker("neptune", "neptune"),
    "swanlab": Tracker("swanlab", "swanlab"),
    "trackio": Tracker("trackio", "trackio"),
}


def list_sinks() -> list[SinkListing]:
    """List this package's sinks, then plug-ins, then trackers of transformers without a sink. Each group is sorted.

    >>> [listing.get for listing in list_sinks() if listing.name == "mlflow"]
    ["pip install 'mtask-sinks[mlflow]'"]
    """
    names = sink_names()
    own = [_list_own(name) for name in names if name in BACKENDS]
    plugins = [_list_plugin(name) for name in names if name not in BACKENDS]
    return [*own, *plugins, *(_list_tracker(name) for name in sorted(TRACKERS) if name not in names)]


def _list_own(name: str) -> SinkListing:
    module = BACKENDS[name]
    get = f"pip install 'mtask-sinks[{name}]'"
    return SinkListing(name, "sink", module, find_spec(module) is not None, _version(module), get)


def _list_plugin(name: str) -> SinkListing:
    package = offering_package(name)
    return SinkListing(name, "plug-in", package, True, _version(package), f"pip install {package}")


def _list_tracker(name: str) -> SinkListing:
    tracker = TRACKERS[name]
    if tracker.package is None:
        return SinkListing(name, "transformers", None, False, None, tracker.note)
    is_installed = find_spec(tracker.module) is not None
    get = " ".join(part for part in (f"pip install {tracker.package}", tracker.note) if part)
    return SinkListing(name, "transformers", tracker.package, is_installed, _version(tracker.package), get)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
