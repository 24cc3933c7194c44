"""Checks of the metrics of a training: their values and their names."""

from __future__ import annotations

from collections.abc import Iterator

from mtask_sinks._util.formatting import counted
from mtask_sinks.doctor.finding import Observation
from mtask_sinks.doctor.log_events import Values
from mtask_sinks.doctor.recorded import RecordedTraining
from mtask_sinks.keys import EPOCH, MAX_KEYS, NONFINITE, OVERALL, RANK_MAX, RANK_MIN, REPORTED

# A registry and a trainer add further keys beside those of reported metrics. They have these endings.
_ENDINGS = (RANK_MIN, RANK_MAX, NONFINITE, REPORTED)
# Their values are made of the same reports as those of the windows of training.
_LONGER = (EPOCH, OVERALL)


def nonfinite(recorded: RecordedTraining) -> Iterator[Observation]:
    """A metric is NaN or infinite at the end."""
    for phase, key, values in _values(recorded):
        if values.since is None:
            continue
        yield Observation(
            recorded.at(values.since),
            f"{key!r} ({phase}) has been {' or '.join(values.kinds_since)} since step {values.since:,}, in "
            f"{values.count_since:,} log events.",
            "A loss over no items (an empty mask) is NaN: report None there. Otherwise lower the learning rate or clip "
            "gradients. MetricRegistry(nonfinite='skip') leaves such values out; 'raise' stops the training.",
        )


def nonfinite_before(recorded: RecordedTraining) -> Iterator[Observation]:
    """A metric was NaN or infinite, but is finite again."""
    for phase, key, values in _values(recorded):
        if values.first_nonfinite is not None and values.since is None:
            yield Observation(
                recorded.at(values.first_nonfinite),
                f"{key!r} ({phase}) was not finite in {values.nonfinite:,} of {values.count:,} log events, from step "
                f"{values.first_nonfinite:,} to {values.last_nonfinite:,}.",
                "One such value makes a whole window NaN: MetricRegistry(nonfinite='skip') leaves such values out and "
                "counts them.",
            )


def nonfinite_skipped(recorded: RecordedTraining) -> Iterator[Observation]:
    """NaN or infinite values were reported and left out."""
    for (phase, key), (first, count) in recorded.events.left_out.items():
        if phase not in _LONGER:
            since = f"from step {first:,} on"
            values, were = counted(round(count), "value"), "was" if count == 1 else "were"
            what = f"{values} of {key!r} ({phase}) {were} NaN or infinite and left out, {since}."
            yield Observation(recorded.at(first), what, "Report None where a loss is computed over no items.")


def renamed(recorded: RecordedTraining) -> Iterator[Observation]:
    """A metric has a name that the Trainer logs too, so it is logged as ``….reported``."""
    for phase, key, values in _values(recorded):
        if key.endswith(REPORTED):
            name = key.removesuffix(REPORTED)
            yield Observation(
                recorded.at(values.first),
                f"the Trainer logs {name!r} ({phase}) too (compute_metrics?), so the reported one is named {key!r}.",
                "Give one of them another name.",
            )


def too_many_keys(recorded: RecordedTraining) -> Iterator[Observation]:
    """There are as many keys as a registry keeps by default, so it may have dropped others."""
    keys = {key for _, key in recorded.training.series if not key.endswith(_ENDINGS)}
    if len(keys) == MAX_KEYS:  # with more, max_keys is larger
        yield Observation(
            recorded.at(recorded.training.step),
            f"the training has {len(keys)} distinct keys: the registry seems to have reached max_keys and dropped "
            "further keys.",
            "Is a number part of a name (an f-string)? Then remove it. Otherwise pass MetricRegistry(max_keys=...).",
        )


def _values(recorded: RecordedTraining) -> Iterator[tuple[str, str, Values]]:
    """Yield phase, key and values of each metric in each phase.

    This leaves out values of whole epochs and of the whole training, because their problems also show in the windows.
    """
    for (phase, key), values in recorded.events.values.items():
        if phase not in _LONGER:
            yield phase, key, values
