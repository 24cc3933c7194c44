"""The Trainer that logs per-task metrics, and the mixin that adds this to any Trainer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import Trainer, TrainingArguments

from mtask_sinks.alerts.alert import Alert
from mtask_sinks.delivery.counts import SinkCounts
from mtask_sinks.keys import phase_of_prefix
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.reporting.capture import Capture, CaptureSpec
from mtask_sinks.reporting.missing import explaining_errors
from mtask_sinks.sinks.base import Sink, check_are_sinks
from mtask_sinks.task_health.settings import TaskHealth
from mtask_sinks.trainer.admission import boundary
from mtask_sinks.trainer.arguments import SinkArguments, explaining_unknown_arguments
from mtask_sinks.trainer.best_metric import explaining_missing_value
from mtask_sinks.trainer.events import BeforeOthers
from mtask_sinks.trainer.hub import keep_journal_from_hub
from mtask_sinks.trainer.loss_budget import LossBudget
from mtask_sinks.trainer.oversight import Oversight, check_actions, check_given
from mtask_sinks.trainer.own_evaluate import delivering, let_deliver
from mtask_sinks.trainer.predecessor import NO_ADDITIONAL_STATE, warn_of_replaced_bases
from mtask_sinks.trainer.report_to import names_of, only_known_to_transformers, sinks_for
from mtask_sinks.trainer.search import SearchMixin
from mtask_sinks.trainer.session import Session
from mtask_sinks.trainer.steps import StepsMixin

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class MultiTaskTrainerMixin(StepsMixin, SearchMixin, _Base):
    """Adds per-task metrics to a Trainer class.

    >>> from transformers import Seq2SeqTrainer
    >>> class MultiTaskSeq2SeqTrainer(MultiTaskTrainerMixin, Seq2SeqTrainer):
    ...     pass

    While the trainer trains, evaluates or predicts, every module in or around its model that sets
    ``supports_report_metrics`` has ``self.report_metrics``. The function `report_metrics` reports from anywhere. Each
    log event adds the reduced values to the Trainer's own: in the console, in ``log_history`` and in the metrics that
    ``evaluate()`` and ``predict()`` return. They also go to the sinks that ``report_to`` names.

    Args:
        *args, **kwargs: arguments of the Trainer class. ``TrainingArguments.report_to`` may also name sinks of
            installed packages.
        metrics: reduction policies and derived metrics; by default each key is a mean.
        sinks: sinks with their own settings. Each replaces the default sink of the same name.
        sink_args: settings of the default sinks, the delivery and the console, for example from the command line. They
            can also set what ``metrics`` and the arguments below set. Do not set the same thing twice. A registry in
            ``metrics`` must have the rules of ``sink_args``, as ``sink_args.make_registry(derived=...)`` has.
        capture: names of losses to take from the model's outputs, such as ``"*loss*"``; see `Capture`.
        loss_budget: key → weight, for all parts of the loss. You get a warning if their weighted sum is
            not the loss; see `LossBudget`.
        task_health: measures whether tasks help or hurt each other; see `TaskHealth`.
        alerts: rules on reduced values, and what to do when one becomes true; see `Alert`.

    Raises:
        TypeError: an argument has a wrong type.
        ValueError: an argument and ``sink_args`` set the same thing, a registry lacks the rules of ``sink_args``, an
            alert cannot be watched or sent, two sinks have the same name, or a value is not allowed.
        UnknownSinkError: ``report_to`` has a name that no sink has.
        MissingBackendError: a sink's package is not installed.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if Trainer in order and order.index(Trainer) < order.index(MultiTaskTrainerMixin):
            bases = sorted(cls.__bases__, key=lambda each: not issubclass(each, MultiTaskTrainerMixin))
            raise TypeError(
                f"{cls.__name__}: the mixin comes after the Trainer class, where it does nothing. Put it first: "
                f"class {cls.__name__}({', '.join(each.__name__ for each in bases)})."
            )
        let_deliver(cls, MultiTaskTrainerMixin)

    def __init__(
        self,
        *args: Any,
        metrics: MetricRegistry | None = None,
        sinks: Sequence[Sink] = (),
        sink_args: SinkArguments | None = None,
        capture: CaptureSpec | None = None,
        loss_budget: Mapping[str, float] | LossBudget | None = None,
        task_health: TaskHealth | None = None,
        alerts: Sequence[Alert] | None = None,
        **kwargs: Any,
    ) -> None:
        settings = SinkArguments() if sink_args is None else sink_args
        if not isinstance(settings, SinkArguments):
            raise TypeError(
                f"sink_args={type(settings).__name__}: pass an object, SinkArguments(console='dict', …), and "
                "training arguments as args=."
            )
        _refuse_both("capture", capture, settings.capture)
        _refuse_both("loss_budget", loss_budget, settings.loss_budget)
        check_given(task_health, alerts, settings)
        captured = Capture(capture or settings.captured() or ())
        if loss_budget is None:
            loss_budget = settings.budget()
        if loss_budget is not None and not isinstance(loss_budget, LossBudget):
            loss_budget = LossBudget(loss_budget)
        given: dict[str, object] = {
            "metrics": metrics,
            "capture": capture or settings.capture,
            "loss_budget": loss_budget,
            "task_health": task_health or settings.task_health_every,
            "alerts": alerts or settings.alerts or None,
        }
        console = settings.make_console()
        settings.set_environment()
        training_args = _training_args(args, kwargs)
        if training_args is not None:  # check the names before the Trainer does, because our error says more
            chosen = _choose_sinks(training_args, sinks, settings)
        with only_known_to_transformers(training_args), explaining_unknown_arguments(kwargs):
            super().__init__(*args, **kwargs)
        if training_args is None:
            chosen = _choose_sinks(self.args, sinks, settings)
        registry = _choose_registry(metrics, settings)
        alerts = settings.make_alerts() if alerts is None else alerts
        check_actions(alerts, chosen)
        oversight = Oversight(task_health or settings.make_task_health(), alerts, registry)
        chosen = [*chosen, *oversight.webhook_sinks()]
        self._session = Session(
            registry,
            chosen,
            self.callback_handler.callbacks,
            capture=captured,
            drain_seconds=settings.drain_seconds,
            limits_network=settings.network_limits,
            given=[name for name, value in given.items() if value is not None],
            loss_budget=loss_budget,
            oversight=oversight,
            publish=settings.journal_publish,
        )
        self._console = console
        if loss_budget is not None:
            self.add_callback(loss_budget)
        self._session.serve(self)
        BeforeOthers(self._session).take_place()
        warn_of_replaced_bases(type(self), MultiTaskTrainerMixin)

    @property
    def metric_registry(self) -> MetricRegistry:
        """The registry that collects the reports of this trainer."""
        return self._session.registry

    @property
    def additional_state(self) -> Any:
        if "additional_state" not in self.__dict__:
            raise AttributeError(NO_ADDITIONAL_STATE)
        return self.__dict__["additional_state"]

    @additional_state.setter
    def additional_state(self, value: Any) -> None:  # for a Trainer class that sets such an attribute itself
        self.__dict__["additional_state"] = value

    @property
    def sink_counts(self) -> dict[str, SinkCounts]:
        """Name of a sink → its state, and how many snapshots are delivered, pending or rejected."""
        return self._session.delivery.counts

    @boundary
    def train(self, *args: Any, **kwargs: Any) -> Any:
        self._session.serve(self)
        with self._session.training(self.is_world_process_zero()), self._counting_steps(), explaining_errors():
            self._session.warn_if_direction_is_wrong(self)
            self._session.oversight.begin(self)
            with explaining_missing_value(self, self.metric_registry):
                output = super().train(*args, **kwargs)
            self._deliver_rest()  # what callbacks reported in on_train_end
            if isinstance(metrics := getattr(output, "metrics", None), dict):
                metrics.update(self._overall, **self._session.oversight.summary())
            return output

    @delivering
    def evaluate(self, *args: Any, **kwargs: Any) -> Any:
        self._session.silence.expects_phase = True
        return super().evaluate(*args, **kwargs)

    @delivering
    def predict(self, *args: Any, **kwargs: Any) -> Any:
        self._session.silence.expects_phase = True
        return super().predict(*args, **kwargs)

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> Any:
        loop = super().evaluation_loop
        return self._run_loop(loop, dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)

    if hasattr(Trainer, "prediction_loop"):  # transformers 4, with use_legacy_prediction_loop

        def prediction_loop(
            self,
            dataloader: Any,
            description: str,
            prediction_loss_only: bool | None = None,
            ignore_keys: list[str] | None = None,
            metric_key_prefix: str = "eval",
        ) -> Any:
            loop = super().prediction_loop  # type: ignore[misc]  # not in transformers 5
            return self._run_loop(loop, dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)

    @contextmanager
    def report_phase(self, name: str) -> Iterator[dict[str, float]]:
        """Let reports inside a ``with`` block count for a separate phase, which is logged like an evaluation.

        >>> import tempfile, torch
        >>> from mtask_sinks import report_metrics
        >>> args = TrainingArguments(tempfile.mkdtemp(), report_to="none", disable_tqdm=True, use_cpu=True)
        >>> trainer = HfMultiTaskTrainer(torch.nn.Linear(1, 1), args)
        >>> with trainer.report_phase("probe") as metrics:  # doctest: +ELLIPSIS
        ...     report_metrics("mlm", loss=2.0)              # logged as probe_mlm/loss, in backends mlm/probe/loss
        {...}
          probe    mlm  loss 2
        >>> metrics
        {'probe_mlm/loss': 2.0}

        Outside of the training's steps (in a callback, in an ``evaluate`` of your own) the values are reduced at the
        end of the block and logged as a row of their own. Inside of a step (a rollout), and in another thread during a
        training, they are reduced at the training's next log event. Inside of a step of an evaluation, the name of the
        phase begins with that of the evaluation, such as ``eval_<name>``, and the values are reduced at the end of the
        evaluation.

        Every rank must enter the block.

        Args:
            name: the name of the phase. In the log it is the prefix of the metrics' names.

        Returns:
            A dict. After the block it has the reduced values, by names in the log. Inside of a step, and in
            another thread, it stays empty.
        """
        session, metrics, phase = self._session, dict[str, float](), phase_of_prefix(name)
        session.serve(self)
        inside = session.phases.name_inside_step(phase, session.is_training)
        if inside is not None:
            with session.phases.inside_step(inside):
                yield metrics
            return
        with session.arriving():
            block = session.own_phase(phase, self.model)
            with block, self._counting_steps(), explaining_errors():
                yield metrics
                session.snapshots.reduce_own_phase(phase, self.state, metrics)
                others = session.phases.others(phase) if session.is_outermost else ()
                rows = list(session.snapshots.reduce_inside_steps(self.state, others))
            self._log_phases(rows)
            if metrics:
                with self._additional_row(), _shown_as_evaluating(self.model):
                    self.log(dict(metrics))

    def push_to_hub(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_world_process_zero():
            keep_journal_from_hub(self.args.output_dir)
        return super().push_to_hub(*args, **kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        if self.args.push_to_hub and self.is_world_process_zero():
            keep_journal_from_hub(self.args.output_dir)
        run_ids = self._session.run.ids(self.is_world_process_zero())
        windows = self._session.saved_windows
        is_last = windows.is_last_step(self)
        # If the training stops in the middle of an epoch, its row is partial, and a resume counts the reports again.
        is_cut = self._session.epoch_end and not is_last
        due = {"is_row_due": self._is_row_due and not is_cut, "are_phases_due": self._are_phases_due}
        windows.save(self.state, is_last, run_ids, **due)
        super()._save_checkpoint(*args, **kwargs)

    def _load_callback_state(self) -> None:
        with self._session.saved_windows.hidden(self.state):
            super()._load_callback_state()

    @boundary
    def _run_loop(
        self,
        loop: Callable[..., Any],
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None,
        ignore_keys: list[str] | None,
        prefix: str,
    ) -> Any:
        """Run a loop of the Trainer over the batches of an evaluation, and add the metrics to its output."""
        session, phase = self._session, phase_of_prefix(prefix)
        session.serve(self)
        evaluation = session.evaluation(phase, self.model)
        with evaluation, self._counting_steps(), explaining_errors():
            output = loop(
                dataloader,
                description,
                prediction_loss_only=prediction_loss_only,
                ignore_keys=ignore_keys,
                metric_key_prefix=prefix,
            )
            session.snapshots.reduce_evaluation(prefix, self.state, output.metrics)
            inside = session.phases.others(phase) if session.is_outermost else session.phases.inside(phase)
            rows = list(session.snapshots.reduce_inside_steps(self.state, inside))
        self._log_phases(rows)  # after the evaluation: what a callback reports in `on_log` does not belong to it
        return output


class HfMultiTaskTrainer(MultiTaskTrainerMixin, Trainer):
    """The Hugging Face `Trainer` with per-task metrics; takes every argument of `Trainer`, by position or name.

    >>> import torch
    >>> class Model(torch.nn.Module):
    ...     supports_report_metrics = True
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.weight = torch.nn.Parameter(torch.ones(1))
    ...     def forward(self, x):
    ...         loss = (self.weight * x).mean()
    ...         self.report_metrics("toy", loss=loss)
    ...         return (loss,)
    >>> import tempfile
    >>> args = TrainingArguments(tempfile.mkdtemp(), max_steps=2, logging_steps=2, report_to="none", disable_tqdm=True,
    ...                          save_strategy="no", use_cpu=True, learning_rate=0.0)
    >>> data = [{"x": torch.tensor([1.0])}, {"x": torch.tensor([3.0])}]
    >>> trainer = HfMultiTaskTrainer(Model(), args, train_dataset=data)
    >>> _ = trainer.train()  # doctest: +ELLIPSIS
    {'loss': ...}
      train    toy  loss 2
    {...}
      overall  toy  loss 2
    >>> trainer.state.log_history[0]["toy/loss"]
    2.0

    See `MultiTaskTrainerMixin` for what it adds and for its further arguments.
    """


@contextmanager
def _shown_as_evaluating(model: nn.Module | None) -> Iterator[None]:
    """Let a model seem to be in eval mode inside a ``with`` block, as it is while the Trainer logs an evaluation.

    In their ``log``, TRL's trainers add their own metrics to the row, and forget them. If ``model.training`` is true,
    they add those of the training, which a row of a phase must not take. Only the flag of the outermost module changes,
    because ``model.eval()`` may do more.
    """
    if model is None or not model.training:
        yield
        return
    model.training = False
    try:
        yield
    finally:
        model.training = True


def _training_args(args: Sequence[Any], kwargs: dict[str, Any]) -> TrainingArguments | None:
    """Return the training arguments, at whatever position they were passed."""
    candidates = (kwargs.get("args"), *args)
    return next((candidate for candidate in candidates if isinstance(candidate, TrainingArguments)), None)


def _choose_registry(metrics: MetricRegistry | None, settings: SinkArguments) -> MetricRegistry:
    if metrics is not None and not isinstance(metrics, MetricRegistry):
        raise TypeError(f"metrics={metrics!r}: pass a registry, metrics=MetricRegistry(reducers=..., derived=...).")
    if metrics is None:
        return settings.make_registry()
    if missing := settings.missing_in(metrics):
        raise ValueError(
            f"metrics= is given, and sink_args sets {', '.join(missing)}, which this registry does not follow. So it "
            "is unclear which rules to use. Pass metrics=sink_args.make_registry(derived=...), or a registry that also "
            "has the rules of sink_args: MetricRegistry(reducers={..., **sink_args.reducers()})."
        )
    return metrics


def _refuse_both(name: str, given: object, configured: object) -> None:
    if given is not None and configured is not None:
        raise ValueError(f"{name}={given!r} is given, and sink_args sets {name}={configured!r} too: pass one of them.")


def _choose_sinks(args: TrainingArguments, sinks: Sequence[Sink], settings: SinkArguments) -> list[Sink]:
    check_are_sinks(sinks)
    names = names_of(args.report_to)
    configured = settings.make_sinks(names)
    given = {sink.name for sink in sinks}
    # transformers 4 has the argument and does not know the variable.
    tensorboard_dir = getattr(args, "logging_dir", None) or os.environ.get("TENSORBOARD_LOGGING_DIR")
    return sinks_for(names, [*sinks, *(sink for sink in configured if sink.name not in given)], tensorboard_dir)
