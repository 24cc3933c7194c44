"""Defines `SinkArguments`: the settings for the command line or a YAML file."""

# No `from __future__ import annotations`: argument parsers read the types of the fields themselves.
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from inspect import signature
from typing import TYPE_CHECKING, Any, List, Literal, Optional, get_args, get_origin  # noqa: UP035  # parsers know these

from mtask_sinks._util.masking import mask
from mtask_sinks.aggregation.derived import DerivedFunction
from mtask_sinks.alerts.alert import RULES
from mtask_sinks.alerts.parsing import FORM, parse_alerts
from mtask_sinks.delivery.pipeline import DRAIN_SECONDS
from mtask_sinks.directions import Direction
from mtask_sinks.keys import MAX_KEYS
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.sinks import Sink
from mtask_sinks.task_health.settings import TaskHealth

if TYPE_CHECKING:
    from mtask_sinks.alerts.alert import Alert
    from mtask_sinks.console import Console


# Settings that have an environment variable. The sinks read it, and so do most of transformers' callbacks.
_VARIABLES = {
    "tensorboard_log_dir": "TENSORBOARD_LOGGING_DIR",
    "mlflow_tracking_uri": "MLFLOW_TRACKING_URI",
    "mlflow_experiment": "MLFLOW_EXPERIMENT_NAME",
    "wandb_project": "WANDB_PROJECT",
}

# Option → the argument of `MetricRegistry` to which it belongs.
_ARGUMENTS = {
    "metric_reducers": "reducers",
    "metric_nonfinite": "nonfinite",
    "metric_nonfinite_rules": "nonfinite",
    "metric_max_keys": "max_keys",
    "metric_spread": "spread",
    "metric_directions": "directions",
    "metric_per_epoch": "per_epoch",
}


@dataclass
class SinkArguments:
    """Settings of the metrics and their sinks, for `HfArgumentParser` beside `TrainingArguments`.

    >>> from transformers import HfArgumentParser
    >>> (sink_args,) = HfArgumentParser(SinkArguments).parse_args_into_dataclasses(
    ...     ["--metric_reducers", "*/n_tokens=sum", "lr_scale=last", "--metric_nonfinite", "skip"])
    >>> sink_args.reducers()
    {'*/n_tokens': 'sum', 'lr_scale': 'last'}

    Pass it as ``HfMultiTaskTrainer(..., sink_args=sink_args)``. Derived metrics need code: also pass
    ``metrics=sink_args.make_registry(derived=...)``. So do reducers that are functions: pass
    ``metrics=MetricRegistry({**sink_args.reducers(), "mlm/x": function})``.
    """

    metric_reducers: Optional[List[str]] = field(  # noqa: UP006, UP045
        default=None,
        metadata={
            "help": "How metrics are reduced: KEY=REDUCER or PATTERN=REDUCER, several separated by blanks, such "
            "as '*/n_tokens=sum' lr_scale=last. Reducers: mean, sum, total, last, first, min, max, count, "
            "std, median, p95, and those that are registered or installed. Default: mean."
        },
    )
    metric_nonfinite: Literal["propagate", "skip", "raise"] = field(
        default="propagate",
        metadata={
            "help": "NaN and Inf make the value NaN or Inf (propagate), are left out and counted (skip), or are an "
            "error at the log event (raise)."
        },
    )
    metric_max_keys: int = field(
        default=MAX_KEYS, metadata={"help": "Largest number of distinct metrics; further ones are dropped and counted."}
    )
    tensorboard_layout: Literal["flat", "overlay"] = field(
        default="flat",
        metadata={
            "help": "TensorBoard: one section per task (flat), or one chart per metric with a sub-run per task "
            "(overlay)."
        },
    )
    drain_seconds: float = field(
        default=DRAIN_SECONDS,
        metadata={"help": "At the end of the training, wait at most this many seconds for backends that are behind."},
    )
    journal_publish: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "URL of a directory to which metrics.jsonl is copied every three minutes and at the end, such as "
            "s3://bucket/run-1 or file:///mnt/runs/1; needs fsspec and its package for the scheme. Default: no copy."
        },
    )
    network_limits: bool = field(
        default=True,
        metadata={
            "help": "Limit how long MLflow's and W&B's clients try to reach a server, unless "
            "MLFLOW_HTTP_REQUEST_* or WANDB_*_TIMEOUT is set. With the clients' own limits, one call to a server "
            "that does not answer takes minutes."
        },
    )
    metric_nonfinite_rules: Optional[List[str]] = field(  # noqa: UP006, UP045
        default=None,
        metadata={"help": "Exceptions from metric_nonfinite: KEY=POLICY or PATTERN=POLICY, such as 'aux/*=skip'."},
    )
    metric_spread: Optional[List[str]] = field(  # noqa: UP006, UP045
        default=None,
        metadata={
            "help": "Keys and patterns of the metrics whose smallest and largest value among several ranks is logged "
            "too, as KEY.rank_min and KEY.rank_max."
        },
    )
    capture: Optional[List[str]] = field(  # noqa: UP006, UP045
        default=None,
        metadata={
            "help": "Losses to take from the outputs of a model that does not report: PATTERN, such as '*loss*' "
            "or aux_loss, or PATTERN=TASK to name the task, such as loss_dict=detr."
        },
    )
    loss_budget: Optional[List[str]] = field(  # noqa: UP006, UP045
        default=None,
        metadata={
            "help": "All parts of the loss as KEY=WEIGHT, such as mlm/loss=1 nsp/loss=0.5. You get a warning if they "
            "do not add up to the loss."
        },
    )
    console: Literal["table", "dict", "off"] = field(
        default="table",
        metadata={
            "help": "Task metrics in the console: one line per task below the Trainer's own values (table), all in "
            "the Trainer's row (dict), or none (off)."
        },
    )
    console_metrics: Optional[List[str]] = field(  # noqa: UP006, UP045
        default=None,
        metadata={"help": "Keys and patterns of the metrics that the console shows. Default: all, up to 24."},
    )
    progress_bar_metrics: Optional[List[str]] = field(  # noqa: UP006, UP045
        default=None,
        metadata={
            "help": "Keys and patterns of the metrics beside the progress bar; 'none' shows no metric. Default: "
            "the losses of the first three tasks."
        },
    )
    tensorboard_log_dir: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={"help": "TensorBoard: where its files go. Default: TENSORBOARD_LOGGING_DIR, else OUTPUT_DIR/runs/…"},
    )
    tensorboard_custom_scalars: bool = field(
        default=True,
        metadata={
            "help": "TensorBoard: write a layout for the tab Custom Scalars, which shows all tasks in one chart."
        },
    )
    mlflow_tracking_uri: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "MLflow: where the store is, such as http://127.0.0.1:5000 or sqlite:///mlflow.db. Default: "
            "MLFLOW_TRACKING_URI."
        },
    )
    mlflow_experiment: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "MLflow: name of the experiment. Default: MLFLOW_EXPERIMENT_NAME, else MLflow's own default."
        },
    )
    wandb_project: Optional[str] = field(  # noqa: UP045
        default=None, metadata={"help": "W&B: name of the project. Default: WANDB_PROJECT, else huggingface."}
    )
    metric_directions: Optional[List[str]] = field(  # noqa: UP006, UP045
        default=None,
        metadata={
            "help": "Which value of a metric is best, for mtask-sinks diff, report and watch: KEY=min (the smallest), "
            "KEY=max (the largest) or KEY=neither; also PATTERN=min, such as '*/bias=min'. Default: by the name, if it "
            "is known."
        },
    )

    metric_per_epoch: Optional[List[str]] = field(  # noqa: UP006, UP045
        default=None,
        metadata={
            "help": "Keys and patterns, such as '*/loss', of the metrics whose value over each epoch is logged too, as "
            "epoch_<key>."
        },
    )
    alerts: Optional[List[str]] = field(  # noqa: UP006, UP045
        default=None,
        metadata={
            "help": f"Alerts, each one argument: '{FORM}', such as '*/loss nonfinite action=stop' "
            f"'nsp/accuracy below=0.5 for_steps=500'. Rules: {', '.join(RULES)}. Actions: warn, stop, wandb, the "
            "address of a webhook."
        },
    )
    task_health_every: Optional[int] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Optimizer steps from one measurement of task health to the next. Task health shows whether the "
            "tasks help or hurt each other. Default: no measurement."
        },
    )
    task_health_losses: Optional[List[str]] = field(  # noqa: UP006, UP045
        default=None, metadata={"help": "Keys and patterns of the losses that task health measures. Default: */loss."}
    )
    task_health_shared: Optional[str] = field(  # noqa: UP045
        default=None,
        metadata={
            "help": "Parameters that task health measures: name of a module or a parameter, end of a name, or pattern. "
            "Default: the last numbered block that all tasks share."
        },
    )

    def __post_init__(self) -> None:
        if (inherited := getattr(super(), "__post_init__", None)) is not None:
            inherited()  # of TrainingArguments, in a class that derives from both
        for each in fields(SinkArguments):
            value = getattr(self, each.name)
            kind = SinkArguments.__annotations__[each.name]  # HfArgumentParser changes the types of the fields
            if kind == Optional[List[str]] and isinstance(value, str):  # noqa: UP006, UP045
                # A YAML file may leave out the brackets. Only an alert has blanks in it.
                setattr(self, each.name, [value] if each.name == "alerts" else value.split())
            elif kind == Optional[str] and isinstance(value, os.PathLike):  # noqa: UP045
                setattr(self, each.name, os.fspath(value))
            elif (choices := _choices(kind)) and value is False and "off" in choices:
                setattr(self, each.name, "off")  # YAML takes the word for false
            elif choices and value not in choices:
                allowed = ", ".join(map(repr, choices))
                raise ValueError(f"{each.name}={value!r}: choose one of {allowed}. {each.metadata['help']}")
            elif not _is_of(kind, value):
                given = mask(repr(value))  # an alert may have the address of a webhook
                raise TypeError(f"{each.name}={given}: pass {_EXPECTED[kind]}. {each.metadata['help']}")

    def make_alerts(self) -> "list[Alert]":
        """Return the trainer's argument ``alerts``.

        >>> SinkArguments(alerts=["*/loss nonfinite action=stop"]).make_alerts()[0].rule
        'nonfinite'
        """
        return parse_alerts(self.alerts or ())

    def make_task_health(self) -> Optional[TaskHealth]:  # noqa: UP045
        """Return the trainer's argument ``task_health``.

        >>> SinkArguments(task_health_every=50).make_task_health()
        TaskHealth(losses='*/loss', shared=None, every=50)
        """
        losses, every = self.task_health_losses, self.task_health_every
        if every is None:
            if losses or self.task_health_shared:
                raise ValueError(
                    "task_health_losses or task_health_shared is set, but not task_health_every: set it too."
                )
            return None
        return TaskHealth(losses or TaskHealth.losses, self.task_health_shared, every)

    def reducers(self) -> dict[str, str]:
        """Return the rules of ``metric_reducers``, for `MetricRegistry`."""
        return _rules("metric_reducers", self.metric_reducers, "KEY=REDUCER, such as '*/n_tokens=sum'")

    def directions(self) -> dict[str, Direction | None]:
        """Return the rules of ``metric_directions``, for `MetricRegistry`.

        >>> SinkArguments(metric_directions=["*/bias=min", "mlm/accuracy=neither"]).directions()
        {'*/bias': 'min', 'mlm/accuracy': None}
        """
        form = "KEY=min, KEY=max or KEY=neither, such as '*/bias=min'"
        rules = _rules("metric_directions", self.metric_directions, form)
        directions: dict[str, Direction | None] = {"min": "min", "max": "max", "neither": None}
        for key, direction in rules.items():
            if direction not in directions:
                raise ValueError(f"metric_directions: '{key}={direction}' is no rule; write {form}.")
        return {key: directions[direction] for key, direction in rules.items()}

    def make_registry(self, derived: Optional[Mapping[str, DerivedFunction]] = None) -> MetricRegistry:  # noqa: UP045
        """Make the registry that these settings describe.

        Args:
            derived: derived metrics, as for `MetricRegistry`. A command line cannot describe them.
        """
        return MetricRegistry(
            self.reducers(),
            derived,
            nonfinite=self._nonfinite(),
            max_keys=self.metric_max_keys,
            spread=self.metric_spread or (),
            directions=self.directions(),
            per_epoch=self.metric_per_epoch or (),
        )

    def missing_in(self, registry: MetricRegistry) -> list[str]:
        """Return the ``metric_*`` options that differ from their defaults and that a registry does not follow.

        >>> sink_args = SinkArguments(["*/n=sum"], metric_max_keys=50)
        >>> sink_args.missing_in(MetricRegistry({"*/n": "sum", "*/m": "max"})), sink_args.missing_in(MetricRegistry())
        (['metric_max_keys'], ['metric_reducers', 'metric_max_keys'])
        """
        wanted, given = self.make_registry().arguments, registry.arguments
        options = [f.name for f in fields(self) if f.name in _ARGUMENTS and getattr(self, f.name) != f.default]
        return [each for each in options if not _has(given[_ARGUMENTS[each]], wanted[_ARGUMENTS[each]])]

    def make_console(self) -> "Console":
        """Make the object that decides how the console shows task metrics."""
        from mtask_sinks.console import Console

        return Console(self.console, self.console_metrics or (), self.progress_bar_metrics or ())

    def captured(self) -> list[str] | dict[str, str] | None:
        """Return the trainer's argument ``capture``.

        >>> SinkArguments(capture=["aux_loss"]).captured(), SinkArguments(capture=["loss_dict=detr"]).captured()
        (['aux_loss'], {'loss_dict': 'detr'})
        """
        form = "PATTERN=TASK for each, such as loss_dict=detr, or PATTERN for each"
        with_task = [pattern for pattern in self.capture or () if "=" in pattern]
        if not with_task:
            return self.capture
        for pattern in self.capture or ():
            if pattern not in with_task:
                raise ValueError(f"capture: {with_task[0]!r} names a task, and {pattern!r} does not; write {form}.")
        return _rules("capture", self.capture, form)

    def budget(self) -> dict[str, float] | None:
        """Return the trainer's argument ``loss_budget``.

        >>> SinkArguments(loss_budget=["mlm/loss=1", "nsp/loss=0.5"]).budget()
        {'mlm/loss': 1.0, 'nsp/loss': 0.5}
        """
        form = "KEY=WEIGHT, such as mlm/loss=0.5"
        rules = _rules("loss_budget", self.loss_budget, form)
        try:
            return {key: float(weight) for key, weight in rules.items()} or None
        except ValueError:
            raise ValueError(
                f"loss_budget: {self.loss_budget!r} has a weight that is no number; write {form}."
            ) from None

    def set_environment(self) -> None:
        """Set the environment variables of the backends. A setting here replaces a variable that is already set.

        transformers' callbacks open the runs, and they read most of these settings only from the environment.
        """
        for name, variable in _VARIABLES.items():
            if (value := getattr(self, name)) is not None:
                os.environ[variable] = value

    def make_sinks(self, names: Sequence[str]) -> list[Sink]:
        """Make the sinks among ``names`` that have a setting other than the default."""
        differs = any(getattr(self, f.name) != f.default for f in fields(self) if f.name.startswith("tensorboard_"))
        if "tensorboard" not in names or not differs:
            return []
        from mtask_sinks.sinks.tensorboard.sink import TensorBoardSink

        return [
            TensorBoardSink(
                self.tensorboard_log_dir,
                layout=self.tensorboard_layout,
                custom_scalars=self.tensorboard_custom_scalars,
            )
        ]

    def _nonfinite(self) -> Any:
        policies = _rules("metric_nonfinite_rules", self.metric_nonfinite_rules, "KEY=POLICY, such as 'aux/*=skip'")
        return {**policies, "*": self.metric_nonfinite} if policies else self.metric_nonfinite


@contextmanager
def explaining_unknown_arguments(given: Collection[str]) -> Iterator[None]:
    """Inside a ``with`` block, add to the error of a Trainer class that an argument belongs to another object.

    Args:
        given: the names of the arguments. Code that the Trainer calls (``model_init``) may have such an error too.
    """
    try:
        yield
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        name = unknown[1] if unknown and unknown[1] in given else ""
        if name in signature(MetricRegistry).parameters:
            error.add_note(f"{name} is an argument of the registry: pass metrics=MetricRegistry({name}=…).")
        elif any(name == each.name for each in fields(SinkArguments)):
            error.add_note(f"{name} is a setting of SinkArguments: pass sink_args=SinkArguments({name}=…).")
        raise


#: Type of a field → what to pass, for the types that a parser of files may get wrong.
_EXPECTED: dict[Any, str] = {
    Optional[List[str]]: "a list of texts",  # noqa: UP006, UP045
    Optional[str]: "a text (in YAML, in quotes)",  # noqa: UP045
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _is_of(kind: Any, value: Any) -> bool:
    """Whether a value has the type of its field. Only the types in `_EXPECTED` are checked."""
    if kind not in _EXPECTED:
        return True
    if kind is bool:
        return isinstance(value, bool)
    if kind in (int, float):
        return isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if value is None or kind == Optional[str]:  # noqa: UP045
        return value is None or isinstance(value, str)
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return is_list and all(isinstance(each, str) for each in value)


def _choices(kind: Any) -> tuple[Any, ...]:
    """Return the values that a field may have, if its type lists them."""
    return get_args(kind) if get_origin(kind) is Literal else ()


def _rules(name: str, given: Sequence[str] | None, form: str) -> dict[str, str]:
    """Return rules of the form KEY=VALUE as a mapping."""
    rules: dict[str, str] = {}
    for rule in given or ():
        key, _, value = rule.partition("=")
        if not (key and value) or "=" in value:  # with two signs, somebody may have joined two rules by a comma
            raise ValueError(f"{name}: {rule!r} is no rule; write {form}.")
        if rules.setdefault(key, value) != value:
            raise ValueError(f"{name}: {key!r} is both {rules[key]!r} and {value!r}; write one of them.")
    return rules


def _has(given: Any, wanted: Any) -> bool:
    """Whether an argument of a registry has all the rules or patterns of another one, or is equal to it."""
    if isinstance(wanted, Mapping):
        rules = given if isinstance(given, Mapping) else {}
        return all(key in rules and rules[key] == value for key, value in wanted.items())
    if isinstance(wanted, list):
        return {*wanted} <= {*([given] if isinstance(given, str) else given)}
    return bool(given == wanted)
