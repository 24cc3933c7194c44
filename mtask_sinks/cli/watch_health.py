"""Shows in ``mtask-sinks watch`` what the tasks do to each other, and the alerts whose rules are true."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mtask_sinks.analysis.alerts import AlertRow
from mtask_sinks.analysis.task_health import GradientSummary, cosine_text

if TYPE_CHECKING:
    from rich.text import Text

# So many pairs and alerts have a place above the table.
_MAX_PAIRS, _MAX_ALERTS = 10, 5


def alert_lines(alerts: tuple[AlertRow, ...]) -> list[Text]:
    """Return a line for each alert that holds, the last ones if there are many."""
    from rich.text import Text

    holding = [row for row in alerts if row.until is None]
    more = len(holding) - _MAX_ALERTS
    lines = [Text(f"alert at step {row.step:,}: {row.text}", "bold red") for row in holding[-_MAX_ALERTS:]]
    return ([Text(f"{more} more alerts hold", "red")] if more > 0 else []) + lines


def health_parts(health: GradientSummary | None) -> list[str]:
    """Return the cosines of the tasks' gradients, with the number of measurements behind each mean.

    The pairs with the lowest cosines come first, because they are what one looks for.
    """
    if health is None:
        return []
    if health.off is not None and not health.pairs:
        return [f"task health is off: {health.off}"]
    pairs = sorted(health.pairs, key=lambda pair: pair.recent.mean)
    parts = [
        f"{pair.a}·{pair.b} {cosine_text(pair.recent.mean)} ({pair.recent.measurements:,})"
        for pair in pairs[:_MAX_PAIRS]
    ]
    if parts:
        more = len(pairs) - _MAX_PAIRS
        parts = ["gradient cosines:", *parts, *([f"{more:,} more pairs"] if more > 0 else [])]
    if health.conflict is not None:
        parts.append(f"conflict {health.conflict.mean:.0%}")
    return parts
