"""Makes and checks the names of metrics: in the library (keys), in the Trainer's logs and in the backends."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache

from mtask_sinks.errors import MetricKeyError

#: The longest key that is allowed, in bytes of UTF-8. A character outside of ASCII takes two to four bytes. MLflow
#: refuses metric names of more than 250 characters, and its file store makes each segment a file name.
MAX_KEY_LENGTH = 250
#: By default, a registry keeps at most this many different keys.
MAX_KEYS = 1000
# The longest name of a phase in a tracking backend, in bytes.
_MAX_SEGMENT = MAX_KEY_LENGTH // 2

#: Phases that the library itself adds: the whole training, and each epoch.
OVERALL, EPOCH = "overall", "epoch"
#: The names of task health. Metrics about all tasks together have the task `HEALTH`. The names of cosines begin with
#: `COSINE`, and end with two tasks, or with a task and `TOTAL`, which stands for the combined loss. Each task has the
#: metrics `MEASURED`. If its weight is estimated, the names of its weight and its shares end with `ESTIMATED`.
HEALTH, COSINE, TOTAL, ESTIMATED = "health", "grad_cosine.", "total", ".estimated"
MEASURED = ("grad_norm", "effective_weight", "loss_share", "grad_share")
#: What task health computes for each task without a gradient.
PROGRESS = ("progress", "inverse_rate")
#: The library adds values beside a metric. Their names are its key with one of these endings: the number of its values
#: that were not finite, the smallest and the largest value among the ranks, and the metric itself if the Trainer logs a
#: value of its name.
NONFINITE, RANK_MIN, RANK_MAX, REPORTED = ".nonfinite", ".rank_min", ".rank_max", ".reported"
# If the prefix of an evaluation is such a name or ``train``, the evaluation's phase gets this ending.
_EVALUATION = "_evaluation"
# Matches these prefixes, and the phases made from them.
_IS_OWN = re.compile(r"(train|overall|epoch)(_evaluation)*")
# Letters and digits of any alphabet. This is MLflow's rule; TensorBoard, W&B and trackio allow at least as much.
_SEGMENT = re.compile(r"[\w.\-]+")
_INVALID = re.compile(r"[^\w.\-]")
# Names that the Trainer itself logs, without the prefix of the phase.
_TRAINER_LOGS = frozenset(
    [
        *("epoch", "global_step", "grad_norm", "learning_rate", "loss", "num_input_tokens_seen", "step", "total_flos"),
        *("runtime", "samples_per_second", "steps_per_second", "tokens_per_second"),
        *("train_loss", "train_runtime", "train_samples_per_second", "train_steps_per_second"),
        *("train_tokens_per_second", "model_preparation_time", "jit_compilation_time"),
    ]
)
_ALLOWED = "allowed are segments of letters and digits (of any alphabet), '_', '.', '-', separated by '/'"


def join_key(task: str | None, name: str) -> str:
    """Return the key of a metric in a task; without a task, the key of an ungrouped metric.

    >>> join_key("mlm", "loss"), join_key(None, "lr_scale")
    ('mlm/loss', 'lr_scale')

    A member of an enumeration of strings counts as the string that it is equal to.
    """
    return _as_plain(name) if task is None else f"{_as_plain(task)}/{_as_plain(name)}"


def split_key(key: str) -> tuple[str, str]:
    """Return the task and the name of a key. The task of an ungrouped key is the empty string.

    >>> split_key("mlm/loss"), split_key("lr_scale"), split_key("vision/box/l1")
    (('mlm', 'loss'), ('', 'lr_scale'), ('vision', 'box/l1'))
    """
    task, slash, name = key.partition("/")
    return (task, name) if slash else ("", task)


def check_key(key: str) -> str:
    """Return ``key`` if every backend accepts it unchanged; otherwise raise `MetricKeyError`.

    >>> check_key("mlm/top-1.acc")
    'mlm/top-1.acc'
    >>> check_key("mlm loss")
    Traceback (most recent call last):
    ...
    mtask_sinks.errors.MetricKeyError: 'mlm loss' is no valid key: allowed are segments of letters and digits (of any \
alphabet), '_', '.', '-', separated by '/'. Try 'mlm_loss'.

    TensorBoard, W&B, MLflow and trackio store a valid key unchanged. MLflow refuses most other characters, ``..`` and
    empty segments, and one such name makes it refuse the whole row.
    """
    if not isinstance(key, str):
        raise MetricKeyError(f"{key!r} is no valid key: it is of type {type(key).__name__}, but keys are strings.")
    if _is_valid(key):
        return key
    if _size(key) > MAX_KEY_LENGTH and _is_valid(_cut(key, MAX_KEY_LENGTH).strip("/.")):
        raise MetricKeyError(
            f"{key[:40]!r}… is no valid key: it has {_size(key)} bytes, {MAX_KEY_LENGTH} are allowed. Shorten it."
        )
    if "*" in key.split("/"):
        raise MetricKeyError(f"{_shorten(key)!r} is no valid key: a pattern is not possible here. Write out each key.")
    suggestion = _suggest(key)
    hint = f" Try {suggestion!r}." if suggestion else ""
    raise MetricKeyError(f"{_shorten(key)!r} is no valid key: {_ALLOWED}.{hint}")


def is_trainer_log(key: str) -> bool:
    """Return whether an ungrouped key is also a name that the Trainer itself logs in some phase.

    >>> is_trainer_log("loss"), is_trainer_log("eval_acc"), is_trainer_log("mlm/loss"), is_trainer_log("acc")
    (True, True, False, False)
    """
    return "/" not in key and (key in _TRAINER_LOGS or key.startswith(("eval_", "test_")))


def is_of_task_health(pattern: str) -> bool:
    """Return whether a key or a pattern is about metrics that only task health logs, unless the model does.

    >>> [is_of_task_health(key) for key in ("health/grad_cosine.*", "health/*", "*/grad_norm", "health/loss", "mlm/*")]
    [True, True, True, False, False]
    """
    task, name = split_key(pattern)
    if task == HEALTH:
        return name.startswith((COSINE.removesuffix("."), "conflict", "*"))
    return bool(task) and name.removesuffix(ESTIMATED) in (*MEASURED, *PROGRESS)


def log_name(key: str, phase: str) -> str:
    """Return the name of a key in the Trainer's log dict, its console, its ``log_history`` and its returned metrics.

    >>> log_name("mlm/loss", "train"), log_name("mlm/loss", "eval"), log_name("mlm/loss", "eval_books")
    ('mlm/loss', 'eval_mlm/loss', 'eval_books_mlm/loss')
    """
    return key if phase == "train" else log_prefix(phase) + key


def log_prefix(phase: str) -> str:
    """Return the prefix that the names of a phase have in the Trainer's logs.

    >>> log_prefix("train"), log_prefix("eval"), log_prefix("train_evaluation")
    ('', 'eval_', 'train_')
    """
    if phase == "train":
        return ""
    return f"{phase.removesuffix(_EVALUATION) if _IS_OWN.fullmatch(phase) else phase}_"


def check_phase(phase: str) -> str:
    """Return the name of a phase unchanged, or raise a `TypeError` if it is no string.

    >>> check_phase(3)
    Traceback (most recent call last):
    TypeError: 3 is no phase: pass its name, a string such as 'eval'.
    """
    if not isinstance(phase, str):
        raise TypeError(f"{phase!r} is no phase: pass its name, a string such as 'eval'.")
    return phase


def phase_of_prefix(prefix: str) -> str:
    """Return the phase of an evaluation whose ``metric_key_prefix`` is given.

    An evaluation on the training data has the prefix ``train``. It is no part of the training's window, so its phase
    has another name. The same holds for ``overall`` and ``epoch``.

    >>> phase_of_prefix("eval"), phase_of_prefix("train"), log_name("mlm/loss", phase_of_prefix("train"))
    ('eval', 'train_evaluation', 'train_mlm/loss')
    """
    return prefix + _EVALUATION if _IS_OWN.fullmatch(check_phase(prefix)) else prefix


def log_names(keys: Collection[str], phase: str) -> Collection[str]:
    """Return the `log_name` of each key, in the same order.

    >>> log_names(["mlm/loss", "acc"], "eval")
    ['eval_mlm/loss', 'eval_acc']
    """
    prefix = log_prefix(phase)
    return [prefix + key for key in keys] if prefix else keys


@lru_cache(maxsize=1 << 14)
def backend_name(key: str, phase: str) -> str:
    """Return the name of a key in a tracking backend. Backends group names by the first segment: one group per task.

    >>> backend_name("mlm/loss", "train"), backend_name("mlm/loss", "eval"), backend_name("lr_scale", "train")
    ('mlm/train/loss', 'mlm/eval/loss', 'train/lr_scale')

    The result is valid in every backend, whatever the name of the phase (it may contain the name of a dataset, which is
    free text). This function replaces invalid characters of the phase and cuts long names. It then appends a hash of
    the original, so two metrics never share a name.
    """
    task, name = split_key(key)
    phase = phase_segment(phase)
    full = f"{task}/{phase}/{name}" if task else f"{phase}/{name}"
    if _size(full) <= MAX_KEY_LENGTH:
        return full
    return f"{_cut(full, MAX_KEY_LENGTH - 9).rstrip('/.')}-{digest(full)}"


def phase_segment(phase: str) -> str:
    """Return the name of a phase as it is in the name of a metric in a tracking backend.

    >>> phase_segment("eval_books"), phase_segment("eval_new books")
    ('eval_books', 'eval_new_books-1cdad281')
    """
    if _SEGMENT.fullmatch(phase) and phase not in (".", "..") and _size(phase) <= _MAX_SEGMENT:
        return phase
    return cut_with_hash(_INVALID.sub("_", phase), _MAX_SEGMENT, of=phase)


def trainer_log_name(name: str) -> str:
    """Return the name that the Trainer's own TensorBoard and W&B callbacks give to one of its logs.

    >>> trainer_log_name("loss"), trainer_log_name("eval_loss"), trainer_log_name("test_runtime")
    ('train/loss', 'eval/loss', 'test/runtime')
    """
    for phase in ("eval", "test"):
        if name.startswith(f"{phase}_"):
            return f"{phase}/{name[len(phase) + 1 :]}"
    return f"train/{name}"


def _as_plain(text: str) -> str:
    """Return the characters of a string. For an object of a derived class, `str` and f-strings may show other ones."""
    return str.__str__(text) if isinstance(text, str) else text


def _is_valid(key: str) -> bool:
    return 0 < _size(key) <= MAX_KEY_LENGTH and all(
        _SEGMENT.fullmatch(segment) and segment not in (".", "..") for segment in key.split("/")
    )


def _suggest(key: str) -> str | None:
    """Return a similar valid key. Keys that differ in a letter, of any alphabet, get different suggestions."""
    parts = re.split(r"\s*[:/\\]+\s*", unicodedata.normalize("NFC", key))
    parts = [_INVALID.sub(_replacement, part.strip()).strip("_") for part in parts]
    candidate = "/".join(part for part in parts if part not in ("", ".", ".."))
    return candidate if _is_valid(candidate) else None


def _replacement(match: re.Match[str]) -> str:
    character = match.group()
    return "_" if character.isascii() else f"u{ord(character):x}"


def _size(text: str) -> int:
    """Return the length in bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _cut(text: str, size: int) -> str:
    """Return the beginning of a text, with at most ``size`` bytes."""
    return text.encode("utf-8", "surrogatepass")[:size].decode("utf-8", "ignore")


def cut_with_hash(text: str, size: int, of: str) -> str:
    """Return the beginning of a name and the hash of the original name, with at most ``size`` bytes in total.

    >>> cut_with_hash("a_very_long_name", 15, of="a very long name")
    'a_very-7f46d6a5'
    """
    return f"{_cut(text, size - 9)}-{digest(of)}"


def digest(text: str) -> str:
    """Return a hash of a text, in eight characters."""
    return hashlib.sha1(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()[:8]


def _shorten(key: str) -> str:
    return key if len(key) <= 80 else key[:79] + "…"
