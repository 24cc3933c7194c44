"""Reads from a journal which alerts a training had, and which rules still hold."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mtask_sinks.analysis.training import Training

# What the two notes of one alert, that it began and that it is over, have in common.
_IDENTITY = ("rule", "pattern", "threshold", "for_steps", "key", "phase")


@dataclass(frozen=True)
class AlertRow:
    """One alert.

    Attributes:
        key, phase: metric and phase; for a silent task ``<task>/*``.
        rule: name of the rule.
        text: the message.
        since: step since which the rule held.
        step: step of the alert.
        until: step at which it was over; ``None`` if the rule is still true.
        is_stop: whether it ended the training.
    """

    key: str
    phase: str
    rule: str
    text: str
    since: int
    step: int
    until: int | None
    is_stop: bool


def alert_rows(training: Training) -> tuple[AlertRow, ...]:
    """Return the alerts of a training, in order.

    >>> from mtask_sinks.note import Note
    >>> data = {"rule": "above", "pattern": "*/loss", "key": "mlm/loss", "phase": "train", "since": 20}
    >>> training = Training(1)
    >>> training.notes += [Note("alert", 20, "mlm/loss is 3, above 2", {**data, "is_over": False}),
    ...                    Note("alert", 40, "mlm/loss is 1: no longer above 2", {**data, "is_over": True})]
    >>> [(row.text, row.step, row.until) for row in alert_rows(training)]
    [('mlm/loss is 3, above 2', 20, 40)]
    """
    rows: list[AlertRow] = []
    # Alerts that differ only in their actions are the same here, so there may be several open rows.
    open_rows: dict[tuple[object, ...], list[int]] = {}
    for note in training.notes:
        if note.kind != "alert":
            continue
        data = note.data
        place = tuple(repr(data.get(name)) for name in _IDENTITY)
        since, actions = data.get("since"), data.get("actions")
        if data.get("is_over"):
            if opened := open_rows.get(place):
                at = opened.pop(0)
                rows[at] = replace(rows[at], until=note.step)
            continue
        open_rows.setdefault(place, []).append(len(rows))
        rows.append(
            AlertRow(
                key=str(data.get("key", "")),
                phase=str(data.get("phase", "")),
                rule=str(data.get("rule", "")),
                text=note.text,
                since=since if isinstance(since, int) else note.step,
                step=note.step,
                until=None,
                is_stop=isinstance(actions, list | tuple) and "stop" in actions,
            )
        )
    return tuple(rows)
