"""Searches with Ray Tune for the learning rate with which a small model fits two tasks best.

The model sees a number. The task `double` predicts twice the number, the task `sign` whether it is positive.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
import ray.tune
import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, weighted


class Model(nn.Module):
    supports_report_metrics: bool = True

    def __init__(self) -> None:
        super().__init__()
        self.double_head, self.sign_head = nn.Linear(1, 1), nn.Linear(1, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        double = nn.functional.mse_loss(self.double_head(x), 2 * x)
        sign = nn.functional.binary_cross_entropy_with_logits(self.sign_head(x), labels)
        if hasattr(self, "report_metrics"):
            self.report_metrics("double", loss=weighted(double, len(x)), n=len(x))
            self.report_metrics("sign", loss=weighted(sign, len(x)), accuracy=(self.sign_head(x) > 0) == (labels > 0))
        return {"loss": double + sign}


def make_data(count: int) -> list[dict[str, Tensor]]:
    numbers = torch.linspace(-1.0, 1.0, count).reshape(-1, 1)
    return [{"x": x, "labels": (x > 0).float()} for x in numbers]


def rmse_of_double(metrics: Any) -> float:
    return math.sqrt(metrics["double/loss"])


def main(arguments: Sequence[str] | None = None) -> Any:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--n_trials", type=int, default=3)
    options = parser.parse_args(arguments)
    # Absolute, because a trial works in a directory of its own.
    output_dir = options.output_dir.absolute()
    trainer = HfMultiTaskTrainer(
        model_init=Model,
        args=TrainingArguments(
            str(output_dir),
            max_steps=20,
            logging_steps=10,
            eval_strategy="steps",
            eval_steps=10,
            save_strategy="no",
            report_to="tensorboard",
            use_cpu=True,
        ),
        train_dataset=make_data(64),
        eval_dataset=make_data(16),
        metrics=MetricRegistry({"*/n": "sum"}, derived={"double/rmse": rmse_of_double}),
    )
    best = trainer.hyperparameter_search(
        backend="ray",
        n_trials=options.n_trials,
        direction="minimize",
        hp_space=lambda _: {"learning_rate": ray.tune.loguniform(1e-3, 1e-1)},
        compute_objective=lambda metrics: metrics["eval_double/rmse"],
        storage_path=str(output_dir / "ray"),
        name="double",
        verbose=0,
    )
    print(
        f"best: run-{best.run_id}, learning rate {best.hyperparameters['learning_rate']:.3g}, rmse {best.objective:.3f}"
    )
    return best


if __name__ == "__main__":
    main()
