"""Hyper-parameter searches: each trial has a name, and task metrics do not change the objective by themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from transformers import Trainer
from transformers.hyperparameter_search import default_hp_search_backend
from transformers.trainer_utils import HPSearchBackend, default_compute_objective

from mtask_sinks.trainer.session import Session

if TYPE_CHECKING:
    _Base = Trainer
else:
    _Base = object


class SearchMixin(_Base):
    """Gives a Trainer's ``hyperparameter_search`` defaults that suit task metrics."""

    _session: Session

    def hyperparameter_search(
        self,
        hp_space: Callable[[Any], dict[str, float]] | None = None,
        compute_objective: Callable[[dict[str, float]], float] | None = None,
        n_trials: int = 20,
        direction: str | list[str] = "minimize",
        backend: str | HPSearchBackend | None = None,
        hp_name: Callable[[Any], str] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Do as `Trainer.hyperparameter_search`, with two other defaults.

        Args:
            compute_objective: by default transformers' own, without the task metrics: the loss of the evaluation, or
                the sum of what ``compute_metrics`` returns. To optimise a task metric, name it:
                ``lambda metrics: metrics["eval_mlm/loss"]``.
            hp_name: by default the name of the directory with the trial's checkpoints, such as ``run-0``. So every sink
                has one run per trial, with this name. In a search of W&B the default is ``None``, because W&B names its
                runs itself.
        """
        chosen = backend or default_hp_search_backend()
        if hp_name is None and chosen is not None:
            hp_name = _NAMES.get(HPSearchBackend(chosen))
        objective = compute_objective or partial(_objective_without_reports, self._session)
        self._session.has_parallel_trials = chosen == HPSearchBackend.RAY
        try:
            return super().hyperparameter_search(
                hp_space, objective, n_trials=n_trials, direction=direction, backend=backend, hp_name=hp_name, **kwargs
            )
        finally:
            self._session.has_parallel_trials = False


def _objective_without_reports(session: Session, metrics: Mapping[str, float]) -> float:
    """Return transformers' default objective, computed from the metrics that a plain `Trainer` has."""
    is_reported = session.snapshots.log_names.is_reported
    own = {name: value for name, value in metrics.items() if not is_reported(name)}
    objective: float = default_compute_objective(own)
    return objective


def _name_of_optuna_trial(trial: Any) -> str:
    return f"run-{trial.number}"


def _name_of_ray_trial(trial: Any) -> str:
    import ray.tune

    return f"run-{ray.tune.get_context().get_trial_id()}"


_NAMES = {HPSearchBackend.OPTUNA: _name_of_optuna_trial, HPSearchBackend.RAY: _name_of_ray_trial}
