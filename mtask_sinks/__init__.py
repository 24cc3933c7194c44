"""Per-task losses and metrics for multi-task training with the Hugging Face Trainer.

>>> from mtask_sinks import MetricRegistry
>>> registry = MetricRegistry()
>>> registry.report_metrics("mlm", loss=4.0); registry.report_metrics("mlm", loss=2.0)
>>> registry.snapshot(step=1).metrics["mlm/loss"]
3.0

Values travel in one direction: `reporting` → `registry` (`measurement`, `aggregation`, `distributed`) → `snapshot` →
`trainer` → `journal` → `delivery` → `sinks`. `analysis`, `charts` and `doctor` read journals. The docstring of each
folder describes its contents.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from mtask_sinks._util.lazy import lazy_names

if TYPE_CHECKING:
    from mtask_sinks.alerts.alert import Alert as Alert
    from mtask_sinks.journal.history import read_journal as read_journal
    from mtask_sinks.measurement.weighted import weighted as weighted
    from mtask_sinks.reducers import Reducer as Reducer
    from mtask_sinks.reducers import register_reducer as register_reducer
    from mtask_sinks.registry import MetricRegistry as MetricRegistry
    from mtask_sinks.reporting.api import report_metrics as report_metrics
    from mtask_sinks.sinks.base import Sink as Sink
    from mtask_sinks.snapshot import RunInfo as RunInfo
    from mtask_sinks.snapshot import Snapshot as Snapshot
    from mtask_sinks.task_health.settings import TaskHealth as TaskHealth
    from mtask_sinks.trainer.arguments import SinkArguments as SinkArguments
    from mtask_sinks.trainer.mixin import HfMultiTaskTrainer as HfMultiTaskTrainer
    from mtask_sinks.trainer.mixin import MultiTaskTrainerMixin as MultiTaskTrainerMixin

try:
    __version__ = version("mtask-sinks")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

# Name → module. Each module is imported when a name in it is first used, so `import mtask_sinks` does not import torch.
_EXPORTS = {
    "Alert": "mtask_sinks.alerts.alert",
    "HfMultiTaskTrainer": "mtask_sinks.trainer.mixin",
    "MetricRegistry": "mtask_sinks.registry",
    "MultiTaskTrainerMixin": "mtask_sinks.trainer.mixin",
    "Reducer": "mtask_sinks.reducers",
    "RunInfo": "mtask_sinks.snapshot",
    "Sink": "mtask_sinks.sinks.base",
    "SinkArguments": "mtask_sinks.trainer.arguments",
    "Snapshot": "mtask_sinks.snapshot",
    "TaskHealth": "mtask_sinks.task_health.settings",
    "read_journal": "mtask_sinks.journal.history",
    "register_reducer": "mtask_sinks.reducers",
    "report_metrics": "mtask_sinks.reporting.api",
    "weighted": "mtask_sinks.measurement.weighted",
}

__all__ = [*_EXPORTS]

__getattr__ = lazy_names(__name__, _EXPORTS)


def __dir__() -> list[str]:
    return sorted([*globals(), *_EXPORTS])
