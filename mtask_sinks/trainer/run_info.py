"""Collects what a trainer knows about its run, to notice changes at each log event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from mtask_sinks._util.masking import mask_params
from mtask_sinks.snapshot import RunInfo
from mtask_sinks.trainer.backend_runs import BackendRun

if TYPE_CHECKING:
    from torch import nn
    from transformers import TrainerState, TrainingArguments


class RunFacts(NamedTuple):
    """What may change about a run while it is open.

    >>> facts = RunFacts(RunInfo(id="1"), "out", "bert", attached={"mlflow": "0a1b"}, continued={})
    >>> facts.to_run_info({"lr": 0.1}, frozenset()).attached["mlflow"]
    '0a1b'

    Each log event compares these facts with the last ones. Only if they differ, it makes a new `RunInfo`. That copies
    all parameters, and takes ten times as long as the comparison.
    """

    run: RunInfo
    output_dir: str | None
    name: str | None
    attached: dict[str, str]
    continued: dict[str, str]

    @classmethod
    def collect(
        cls,
        run: RunInfo,
        args: TrainingArguments,
        state: TrainerState,
        backend_runs: Mapping[str, BackendRun],
        output_dir: str | None,
    ) -> RunFacts:
        """Collect the facts as they are now.

        Args:
            run: what is known about the run without the trainer.
            args, state: the arguments and the state of the trainer.
            backend_runs: backend → the run to which its sink writes.
            output_dir: the directory of the run's journal.
        """
        found = {name: run_id for name, each in backend_runs.items() if (run_id := each.run_id()) is not None}
        continued = {name: run_id for name, run_id in found.items() if backend_runs[name].is_ended_by_sink()}
        attached = {name: run_id for name, run_id in found.items() if name not in continued}
        return cls(run, output_dir, state.trial_name or args.run_name, attached, continued)

    def to_run_info(self, params: Mapping[str, Any], logged: frozenset[str]) -> RunInfo:
        """Return these facts with the parameters, and with the backends to which others log."""
        changed = {name: getattr(self, name) for name in ("output_dir", "name", "attached", "continued")}
        return replace(self.run, **changed, params=params, logged=logged)


def collect_params(args: TrainingArguments, model: nn.Module | None) -> dict[str, Any]:
    """Return model configuration and training arguments, as transformers' own callbacks do, but mask secrets."""
    to_dict: Callable[[], dict[str, Any]] = getattr(getattr(model, "config", None), "to_dict", dict)
    training: dict[str, Any] = args.to_dict()  # type: ignore[no-untyped-call]
    params: dict[str, Any] = mask_params({**to_dict(), **training})
    return params
