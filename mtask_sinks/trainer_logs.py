"""Names that the Trainer logs itself, which no ungrouped key may take."""

from __future__ import annotations

# Without the prefix of the phase.
_TRAINER_LOGS = frozenset(
    [
        *("epoch", "global_step", "grad_norm", "learning_rate", "loss", "num_input_tokens_seen", "step", "total_flos"),
        *("runtime", "samples_per_second", "steps_per_second", "tokens_per_second"),
        *("train_loss", "train_runtime", "train_samples_per_second", "train_steps_per_second"),
        *("train_tokens_per_second", "model_preparation_time", "jit_compilation_time"),
    ]
)


def is_trainer_log(key: str) -> bool:
    """Whether an ungrouped key would take a name that the Trainer logs itself, in some phase.

    >>> is_trainer_log("loss"), is_trainer_log("eval_acc"), is_trainer_log("mlm/loss"), is_trainer_log("acc")
    (True, True, False, False)
    """
    return "/" not in key and (key in _TRAINER_LOGS or key.startswith(("eval_", "test_")))
