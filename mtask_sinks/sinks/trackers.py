"""Trackers that transformers reports to by itself, without a sink: a table, because asking transformers loads torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Tracker:
    """What a name in ``report_to`` needs.

    Attributes:
        module: what its callback imports.
        package: what to install; ``None`` if it is no package.
        note: what else it needs.
    """

    module: str
    package: str | None
    note: str = ""


#: Name in ``report_to`` → what it needs. The tests compare the names with those of transformers.
TRACKERS: Mapping[str, Tracker] = {
    "azure_ml": Tracker("azureml", "azureml-sdk"),
    "clearml": Tracker("clearml", "clearml"),
    "codecarbon": Tracker("codecarbon", "codecarbon"),
    "comet_ml": Tracker("comet_ml", "comet-ml"),
    "dagshub": Tracker("dagshub", "dagshub", "and mlflow"),
    "dvclive": Tracker("dvclive", "dvclive"),
    "flyte": Tracker("flytekit", "flytekit"),
    "kubeflow": Tracker("", None, "a pod of Kubeflow Trainer, which sets KUBEFLOW_TRAINER_SERVER_URL"),
    "mlflow": Tracker("mlflow", "mlflow"),
    "neptune": Tracker("neptune", "neptune"),
    "swanlab": Tracker("swanlab", "swanlab"),
    "tensorboard": Tracker("tensorboard", "tensorboard"),
    "trackio": Tracker("trackio", "trackio"),
    "wandb": Tracker("wandb", "wandb"),
}
