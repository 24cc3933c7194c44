"""Picks the parameters that people look for first from the hundreds that a training has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = (
    *("_name_or_path", "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"),
    *("learning_rate", "lr_scheduler_type", "warmup_steps", "warmup_ratio", "optim", "weight_decay", "max_grad_norm"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps"),
    *("bf16", "fp16", "gradient_checkpointing", "torch_compile"),
    *("logging_steps", "eval_strategy", "eval_steps", "save_steps", "metric_for_best_model", "seed"),
)


def chosen_settings(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of model, optimisation, precision and schedule that are set.

    >>> chosen_settings({"seed": 1, "learning_rate": 3e-4, "bf16": False, "max_steps": -1, "hub_strategy": "end"})
    {'learning_rate': 0.0003, 'seed': 1}
    """
    found = {name: params[name] for name in _NAMES if name in params and _is_set(name, params[name])}
    if found.get("max_steps") == -1:
        del found["max_steps"]
    return found


def _is_set(name: str, value: Any) -> bool:
    """Whether a parameter has a value and is not off. A seed of 0 is a value; a weight decay of 0 is off."""
    return value not in (None, "") and (bool(value) or name == "seed")
