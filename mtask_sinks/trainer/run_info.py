"""Run facts: what a trainer says about its run, compared at every log event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from mtask_sinks.snapshot import RunInfo
from mtask_sinks.trainer.backend_runs import Attachment

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainerState, TrainingArguments


class RunFacts(NamedTuple):
    """What may change of a run while it is open; a tenth of the cost of a `RunInfo`, whose parameters are copied.

    >>> facts = RunFacts(RunInfo(id="1"), "out", "bert", attached={"mlflow": "0a1b"}, continued={})
    >>> facts.describe({"lr": 0.1}, frozenset()).attached["mlflow"]
    '0a1b'
    """

    run: RunInfo
    output_dir: str | None
    name: str | None
    attached: dict[str, str]
    continued: dict[str, str]

    @classmethod
    def of(
        cls, run: RunInfo, args: TrainingArguments, state: TrainerState, attachments: Mapping[str, Attachment]
    ) -> RunFacts:
        """The facts as they are now.

        Args:
            run: what is known of the run without the trainer.
            args: of the trainer, as ``state``.
            state: the trainer's.
            attachments: by backend, where the sinks write to.
        """
        found = {name: run_id for name, each in attachments.items() if (run_id := each.run_id()) is not None}
        continued = {name: run_id for name, run_id in found.items() if attachments[name].is_the_sinks_to_end()}
        attached = {name: run_id for name, run_id in found.items() if name not in continued}
        return cls(run, args.output_dir, state.trial_name or args.run_name, attached, continued)

    def describe(self, params: Mapping[str, Any], logged: frozenset[str]) -> RunInfo:
        """What the sinks are told, with parameters and the backends that others write to."""
        changed = {name: getattr(self, name) for name in ("output_dir", "name", "attached", "continued")}
        return replace(self.run, **changed, params=params, logged=logged)


def params_of(args: TrainingArguments, model: nn.Module | None) -> dict[str, Any]:
    """What transformers' own callbacks record of a run: model configuration and training arguments, tokens masked."""
    to_dict: Callable[[], dict[str, Any]] = getattr(getattr(model, "config", None), "to_dict", dict)
    training: dict[str, Any] = args.to_dict()  # type: ignore[no-untyped-call]
    return {**to_dict(), **training}
