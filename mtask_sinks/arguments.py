"""SinkArguments: what can be set from the command line or a YAML file."""

# No `from __future__ import annotations`: argument parsers read the types of the fields themselves.
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import List, Literal, Optional  # noqa: UP035  # the spelling that all of them understand

from mtask_sinks.delivery import DRAIN_SECONDS
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.sinks import Sink


@dataclass
class SinkArguments:
    """Settings of the metrics and their sinks, for `HfArgumentParser` beside `TrainingArguments`.

    >>> from transformers import HfArgumentParser
    >>> (sink_args,) = HfArgumentParser(SinkArguments).parse_args_into_dataclasses(
    ...     ["--metric_reducers", "*/n_tokens=sum", "lr_scale=last", "--metric_nonfinite", "skip"])
    >>> sink_args.reducers()
    {'*/n_tokens': 'sum', 'lr_scale': 'last'}

    Pass it as ``HfMultiTaskTrainer(..., sink_args=sink_args)``.
    """

    metric_reducers: Optional[List[str]] = field(  # noqa: UP006, UP045
        default=None,
        metadata={
            "help": "How metrics are reduced: KEY=REDUCER or PATTERN=REDUCER, several separated by blanks, such as "
            "'*/n_tokens=sum' lr_scale=last. Reducers: mean, sum, last, first, min, max, count, std, median, p95, and "
            "those that are registered or installed. Default: mean."
        },
    )
    metric_nonfinite: Literal["propagate", "skip", "raise"] = field(
        default="propagate",
        metadata={"help": "What NaN and Inf do: propagate into the value, skip and count, or raise at the log event."},
    )
    metric_max_keys: int = field(
        default=1000, metadata={"help": "Distinct metrics that are kept; further ones are dropped and counted."}
    )
    tensorboard_layout: Literal["flat", "overlay"] = field(
        default="flat",
        metadata={"help": "TensorBoard: one section a task (flat), or all tasks on one chart, in sub-runs (overlay)."},
    )
    drain_seconds: float = field(
        default=DRAIN_SECONDS,
        metadata={"help": "Seconds that the end of the training waits at most for backends that are behind."},
    )
    network_limits: bool = field(
        default=True,
        metadata={
            "help": "Limit how long MLflow's and W&B's clients try to reach a server, where no MLFLOW_HTTP_REQUEST_* "
            "or WANDB_*_TIMEOUT is set. By their own defaults one call to a server that is away takes minutes."
        },
    )

    def reducers(self) -> dict[str, str]:
        """The rules of ``metric_reducers``, for `MetricRegistry`."""
        rules = {}
        for rule in self.metric_reducers or []:
            key, equals, reducer = rule.rpartition("=")
            if not (key and equals and reducer):
                raise ValueError(f"metric_reducers: {rule!r} is no rule; write KEY=REDUCER, such as '*/n_tokens=sum'.")
            rules[key] = reducer
        return rules

    def make_registry(self) -> MetricRegistry:
        """The registry that these settings describe."""
        return MetricRegistry(self.reducers(), nonfinite=self.metric_nonfinite, max_keys=self.metric_max_keys)

    def sets_metrics(self) -> bool:
        """Whether any ``metric_*`` option differs from its default."""
        return any(getattr(self, f.name) != f.default for f in fields(self) if f.name.startswith("metric_"))

    def make_sinks(self, names: Sequence[str]) -> list[Sink]:
        """The sinks among ``names`` for which there are settings that differ from the default."""
        if "tensorboard" not in names or self.tensorboard_layout == "flat":
            return []
        from mtask_sinks.sinks.tensorboard import TensorBoardSink

        return [TensorBoardSink(layout=self.tensorboard_layout)]
