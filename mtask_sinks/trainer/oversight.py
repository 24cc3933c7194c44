"""Watches over a training with task health and alerts, which look at every snapshot."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mtask_sinks._util.log import get_logger
from mtask_sinks._util.warn_once import WarnOnce
from mtask_sinks.alerts.alert import Alert, AlertEvent, action_name
from mtask_sinks.alerts.episodes import Episodes
from mtask_sinks.alerts.webhook import WebhookSink
from mtask_sinks.directions import Directions
from mtask_sinks.keys import is_of_task_health, is_trainer_log, log_name
from mtask_sinks.note import Note
from mtask_sinks.patterns import listed
from mtask_sinks.registry import MetricRegistry
from mtask_sinks.sinks.base import Sink
from mtask_sinks.snapshot import Snapshot
from mtask_sinks.task_health.progress import TaskProgress
from mtask_sinks.task_health.settings import TaskHealth

if TYPE_CHECKING:
    from mtask_sinks.task_health.meter import HealthMeter
    from mtask_sinks.trainer.arguments import SinkArguments

logger = get_logger(__name__)

# At a log event, this many metrics of an alert have a message of their own. One more message names the others, because
# all metrics of a model may become NaN at once, and a server may take one message per second.
_OWN_MESSAGES = 5


class Oversight:
    """Task health and alerts of one trainer. Without both, it does nothing.

    Every rank looks at the same reduced values and decides the same, so all ranks stop together. Only the first rank
    logs and acts.

    Args:
        health: what to measure; ``None`` for nothing.
        alerts: the alerts.
        registry: the registry of the trainer.

    Attributes:
        meter: measures gradients; ``None`` if there is nothing to measure.
        stopped_by: the message of the alert that ended the training; ``None`` if none did.
    """

    def __init__(self, health: TaskHealth | None, alerts: Sequence[Alert], registry: MetricRegistry) -> None:
        self.meter: HealthMeter | None = None
        self.stopped_by: str | None = None
        self._progress: TaskProgress | None = None
        if health is not None:
            from mtask_sinks.task_health.meter import HealthMeter  # eleven modules, which most trainings do not need

            self._progress = TaskProgress(health.is_loss)
            self.meter = HealthMeter(health, registry, self._add_note, self._progress.tasks)
        self._episodes = Episodes(alerts, Directions(registry.directions))
        self._warn_once = WarnOnce(logger)
        #: The step of the last snapshot.
        self._step = 0
        self._is_first_rank, self._ranks = True, 1
        self._notes: list[Note] = []
        #: What the checkpoint says about the parameters to measure.
        self._saved_choice: Mapping[str, Any] = {}

    def webhook_sinks(self) -> list[Sink]:
        """Return the sinks that send alerts to their addresses, one for each address."""
        addresses = dict.fromkeys(address for alert in self._episodes.alerts for address in alert.addresses)
        return [WebhookSink(address) for address in addresses]

    def begin(self, trainer: Any) -> None:
        """Prepare for a training.

        Raises:
            ValueError: a setting of task health does not fit the model.
        """
        self.stopped_by, self._is_first_rank = None, trainer.is_world_process_zero()
        self._ranks = trainer.args.world_size
        if self.meter is not None and trainer.model_init is None:
            self.meter.begin(trainer)

    def after_train_begin(self, trainer: Any) -> None:
        """Prepare what needs the model, which the trainer may have made only now, with ``model_init``."""
        if self.meter is None or trainer is None:
            return
        if trainer.model_init is not None:
            self.meter.begin(trainer)
        self.meter.load_state_dict(self._saved_choice, trainer.model)

    def completed(self, snapshot: Snapshot) -> Snapshot:
        """Return a snapshot with the progress of its tasks, which depends on earlier snapshots too."""
        self._step = snapshot.step
        return snapshot if self._progress is None else self._progress.added(snapshot)

    def look(self, snapshot: Snapshot, trainer: Any, is_training: bool) -> None:
        """Look for alerts in a snapshot, and act."""
        if not self._episodes.alerts:
            return
        for event, others in _with_others(self._episodes.look(snapshot)):
            # At a partial window, the training has ended already.
            is_stop = event.alert.stops and is_training and not (event.is_over or snapshot.is_partial)
            if is_stop:
                trainer.control.should_training_stop = True
                self.stopped_by = self.stopped_by or event.text
            if trainer.is_world_process_zero():
                self._tell(event, others, is_stop)

    def summary(self) -> dict[str, Any]:
        """Return what ``train()`` adds to its metrics: ``stopped_by`` if an alert ended the training."""
        return {} if self.stopped_by is None else {"stopped_by": self.stopped_by}

    def say_why_it_stopped(self) -> None:
        """Log which alert ended the training, as its last line."""
        if self.stopped_by is not None and self._is_first_rank:
            logger.warning("the training stopped at step %d because of an alert: %s.", self._step, self.stopped_by)

    def warn_of_what_did_nothing(self) -> None:
        """At the end of a training, name the alerts that no metric has matched, and say if nothing was measured."""
        if not self._is_first_rank:
            return
        if self.meter is not None:
            self.meter.warn_if_nothing_was_measured()
        for alert in self._episodes.without_metrics():
            if self._progress is None and is_of_task_health(alert.pattern):
                message = (
                    "Alert(%r, …) has watched nothing: no metric of the training matched it. Task health measures such "
                    "metrics, but it was off: pass task_health=TaskHealth(every=100). If the model reports the metric, "
                    "use its key."
                )
                self._warn_once(f"idle: {alert.pattern}", message, alert.pattern)
                continue
            message = (
                "Alert(%r%s, …) has watched nothing: no metric of the training matched it. Use the key that the model "
                "reports, such as 'mlm/loss'. To watch evaluations, add their phase, such as phase='eval*'. The phases "
                "of this training are: %s."
            )
            phase = f", phase={alert.phase!r}" if alert.phase else ""
            phases = ", ".join(sorted(self._episodes.phases))
            self._warn_once(f"idle: {alert.pattern}{phase}", message, alert.pattern, phase, phases)
        for alert in self._episodes.without_direction():
            message = (
                "Alert(%r, %s=...) has watched nothing: it is not known of any metric that matched it whether small "
                "or large values are better. Set MetricRegistry(directions={%r: 'min'}), or 'max'."
            )
            self._warn_once(f"direction: {alert.pattern}", message, alert.pattern, alert.rule, alert.pattern)

    def write_notes(self, write: Callable[[Note], None] | None) -> None:
        """Write the notes since the last call; with ``None``, drop them."""
        notes, self._notes = self._notes, []
        if write is not None:
            for note in notes:
                write(note)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data, for a checkpoint; empty if there is none."""
        progress = {} if self._progress is None else {"progress": self._progress.state_dict()}
        if self.meter is not None and (choice := self.meter.state_dict()):
            progress["health"] = choice
        return progress | ({"alerts": self._episodes.state_dict()} if self._episodes.alerts else {})

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Continue at a step with the state of `state_dict`; with an empty one, if the training is new."""
        self._step = step
        self._episodes.begin(step, self._ranks)
        for event in self._episodes.load_state_dict(state.get("alerts", {})):
            if self._is_first_rank:
                self._tell(event, (), is_stop=False)
        if self._progress is not None:
            self._progress.load_state_dict(state.get("progress", {}))
        self._saved_choice = state.get("health", {})

    def _tell(self, event: AlertEvent, others: Sequence[AlertEvent] | None, is_stop: bool) -> None:
        """Log an event, add its note, and call the functions among its actions.

        Args:
            event: the event.
            others: the events that its message tells of too; ``None`` if the message of another one tells of this one.
            is_stop: whether the event ends the training.
        """
        data = event.data()
        if others is None:
            data["actions"] = [name for name in data["actions"] if name == "stop"]  # the others would send a message
        else:
            names = [log_name(each.key, each.phase) for each in others]
            more = f"; and {len(names)} more: {listed(names)}" if names else ""
            what, end = "alert over" if event.is_over else "alert", " The training stops." if is_stop else ""
            logger.warning("%s at step %d: %s%s.%s", what, event.step, event.text, more, end)
            if others:
                data |= {"message": event.text + more, "others": [each.key for each in others]}
        self._add_note("alert", event.text, data, event.step)
        for action in () if event.is_over else event.alert.actions:
            if callable(action):
                try:
                    action(event)
                except Exception as error:
                    message = "the action %s of an alert failed: %s: %s"
                    self._warn_once(action_name(action), message, action_name(action), type(error).__name__, error)

    def _add_note(self, kind: str, text: str, data: Mapping[str, Any], step: int | None = None) -> None:
        self._notes.append(Note(kind, self._step if step is None else step, text, data, time.time()))


def _with_others(events: Sequence[AlertEvent]) -> Iterator[tuple[AlertEvent, Sequence[AlertEvent] | None]]:
    """Yield each event with those that its message tells of too; with ``None`` if it has no message of its own."""
    alike: dict[tuple[int, bool], list[AlertEvent]] = {}
    for event in events:
        alike.setdefault((id(event.alert), event.is_over), []).append(event)
    for group in alike.values():
        for at, event in enumerate(group):
            others = group[at + 1 :] if at == _OWN_MESSAGES else []
            yield event, others if at <= _OWN_MESSAGES else None


def check_given(health: object, alerts: object, settings: SinkArguments) -> None:
    """Refuse arguments of a wrong type, and arguments that the settings set too.

    Raises:
        TypeError: the type is wrong.
        ValueError: both are given. The message shows no alert, because an alert may have an address.
    """
    if health is not None and not isinstance(health, TaskHealth):
        raise TypeError(f"task_health={health!r}: pass task_health=TaskHealth(every=100).")
    if alerts is not None and (isinstance(alerts, str | Alert) or not isinstance(alerts, Sequence)):
        raise TypeError(f"alerts={type(alerts).__name__}: pass a list, alerts=[Alert('*/loss', nonfinite=True), …].")
    for name, given, configured in (
        ("alerts", alerts, settings.alerts),
        ("task_health", health, settings.task_health_every),
    ):
        if given is not None and configured is not None:
            raise ValueError(f"{name}= is given, and sink_args sets {name} too: pass one of them.")


def check_actions(alerts: Sequence[Alert], sinks: Sequence[Sink]) -> None:
    """Refuse objects that are not alerts, and alerts that no sink would send.

    Raises:
        TypeError: one of them is no `Alert`.
        ValueError: an alert has the action ``wandb``, but there is no sink for W&B; or it watches one of the Trainer's
            own values.
    """
    for alert in alerts:
        if not isinstance(alert, Alert):
            kind = type(alert).__name__
            raise TypeError(
                f"alerts= holds a {kind}: pass alerts, [Alert('*/loss', nonfinite=True, action='stop'), …]."
            )
        if is_trainer_log(alert.pattern):
            raise ValueError(
                f"Alert({alert.pattern!r}, …): {alert.pattern!r} is a value of the Trainer, and alerts watch reported "
                "metrics. Pass the key of a metric, such as 'mlm/loss', or a pattern, such as '*/loss'."
            )
        if "wandb" in alert.actions and not any(sink.name == "wandb" for sink in sinks):
            raise ValueError(
                f"Alert({alert.pattern!r}, action='wandb') needs W&B: pass TrainingArguments(report_to=['wandb'])."
            )
