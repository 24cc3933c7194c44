"""Tells which value of a metric is best: the smallest or the largest, by the user's rules or by the metric's name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal, get_args

from mtask_sinks.keys import COSINE, split_key
from mtask_sinks.patterns import Rules, check_mapping

Direction = Literal["min", "max"]

_ALLOWED = "'min' (smaller is better), 'max' (larger is better) and None (neither)"
_NO_RULE: Any = object()

# If the name of a metric contains one of these, even inside a word (`hinge_losses`), its smallest value is best.
_FALLING = re.compile(r"loss|perplexity|error")
# The same, if one of these is a whole word of the name.
_FALLING_WORDS = frozenset(
    [
        *("loss", "perplexity", "error", "err", "mae", "mse", "rmse", "mape", "nll", "ppl", "wer", "cer", "ter"),
        *("kl", "bpc", "bpb"),
    ]
)
# Names of counts, which are neither good nor bad.
_COUNT_WORDS = frozenset({"n", "num", "count", "counts", "number", "tokens", "samples", "items", "nonfinite"})
# If the name of a metric ends in one of these words, it is a setting, or tells how values differ.
_NEITHER_WORDS = frozenset({"scale", "weight", "weights", "coef", "coefficient", "std", "var", "variance", "ratio"})
# If the name of a metric ends in one of these words, or in two words that make one of them, its largest value is best.
_RISING_WORDS = frozenset(
    [
        *("acc", "accuracy", "accuracies", "precision", "recall", "sensitivity", "specificity", "f0", "f1", "f2"),
        *("fbeta", "fscore", "fmeasure", "auc", "auroc", "auprc", "ap", "map", "mrr", "ndcg", "hits", "hitrate"),
        *("bleu", "sacrebleu", "rouge", "rougel", "rougelsum", "meteor", "chrf", "em", "exactmatch", "passat"),
        *("iou", "miou", "jaccard", "dice", "psnr", "ssim", "msssim", "r2", "rsquared", "kappa", "mcc"),
        *("matthewscorrelation", "pearson", "pearsonr", "spearman", "spearmanr", "kendalltau"),
        *("reward", "rewards", "winrate", "passrate", "successrate"),
    ]
)
# If a name ends in one of these words, large values are better, even if the name also has a word such as `error`.
_SCORES = frozenset(["acc", "accuracy", "precision", "recall", "f0", "f1", "f2", "fbeta", "auc", "auroc"])
# Words that may follow the rising words: `acc_top5`, `f1_macro`, `recall_at_10`, `accuracy.rank_min`.
_QUALIFIERS = frozenset(
    [
        *("", "at", "k", "top", "macro", "micro", "weighted", "score", "avg", "average", "mean", "median", "p"),
        *("min", "max", "rank", "first", "last", "best", "all", "overall", "ema", "reported"),
    ]
)


class Directions:
    """Tells the direction of every key: by the user's rules first, then by the metric's name.

    >>> directions = Directions({"*/bias": "min", "mlm/accuracy": None})
    >>> [directions.for_key(key) for key in ("price/bias", "mlm/accuracy", "nsp/accuracy", "nsp/drift")]
    ['min', None, 'max', None]

    Args:
        *rules: exact key or pattern → ``"min"``, ``"max"`` or ``None`` (neither), as in `Rules`. Of several mappings,
            the first one that has a rule for a key decides.

    Raises:
        TypeError, ValueError: the rules are not a mapping, or a direction is not allowed.
        MetricKeyError: an exact key is not valid.
    """

    def __init__(self, *rules: Mapping[str, Direction | None]) -> None:
        for mapping in rules:
            check_mapping("directions", mapping, "{'*/bias': 'min'}")
            for key, direction in mapping.items():
                if not _is_direction(direction):
                    raise ValueError(f"directions={{{key!r}: {direction!r}}}: allowed are {_ALLOWED}.")
        self._rules: list[Rules[Direction | None]] = [Rules(mapping, _NO_RULE) for mapping in rules]

    def for_key(self, key: str) -> Direction | None:
        """Return the direction of a key; ``None`` if neither is better or if it is unknown."""
        for rules in self._rules:
            direction = rules.for_key(key)
            if direction is not _NO_RULE:
                return direction
        return known_direction(split_key(key)[1])


def recorded_rules(recorded: Mapping[str, Any]) -> dict[str, Direction | None]:
    """Return the rules of a journal that this version understands.

    >>> recorded_rules({"*/bias": "min", "*/drift": None, "*/slope": "near 1"})
    {'*/bias': 'min', '*/drift': None}
    """
    return {key: direction for key, direction in recorded.items() if _is_direction(direction) and _is_rule(key)}


@lru_cache(maxsize=1 << 12)
def known_direction(name: str) -> Direction | None:
    """Return whether small or large values of a metric are better, if its name tells that.

    >>> [known_direction(name) for name in ("loss", "box_loss", "rmse", "error_rate", "accuracy", "f1_macro", "map50")]
    ['min', 'min', 'min', 'min', 'max', 'max', 'max']
    >>> [known_direction(name) for name in ("n_tokens", "loss.nonfinite", "bias", "loss_share", "loss_scale")]
    [None, None, None, None, None]

    Losses, errors and perplexities give ``"min"``. A name gives ``"max"`` only if it ends in a word such as accuracy,
    f1, bleu or reward; a number or a word such as ``macro`` or ``score`` may follow. Every other name gives ``None``,
    also counts, shares and names that begin with ``neg_``: scikit-learn's ``neg_mean_squared_error`` rises, but a loss
    of the negative samples falls. So do names that end in a word such as ``scale`` or ``std``, and the cosines of task
    health, whose names hold those of tasks.

    Args:
        name: name of the metric in its task.
    """
    words = re.split(r"[^a-z0-9]+", name.lower())
    if is_count(name) or words[0] == "neg" or "share" in words or words[-1] in _NEITHER_WORDS:
        return None
    if name.startswith(COSINE):  # the other words are tasks, such as `kl` and `cls_loss`
        return None
    if _FALLING_WORDS.isdisjoint(_letters(name)) and _is_rising(words):  # also if another word contains "loss"
        return "max"
    if words[-1] in _SCORES:  # such as the accuracy of finding errors
        return "max"
    return "min" if _is_falling(name) else None


def is_count(name: str) -> bool:
    """Return whether a metric is a count, by its name.

    >>> is_count("n_tokens"), is_count("loss.nonfinite"), is_count("tokens_per_second"), is_count("loss")
    (True, True, False, False)
    """
    words = _letters(name)
    return words[-1] in _COUNT_WORDS or (words[0] in ("n", "num") and not _is_falling(name))


def _is_falling(name: str) -> bool:
    return _FALLING.search(name.lower()) is not None or not _FALLING_WORDS.isdisjoint(_letters(name))


def _is_rising(words: list[str]) -> bool:
    """Return whether a name ends in a word of `_RISING_WORDS`, without the numbers and qualifiers after that word."""
    for end in range(len(words), 0, -1):
        last = words[end - 1]
        stem = last.rstrip("0123456789")
        if last in _RISING_WORDS or stem in _RISING_WORDS or "".join(words[max(end - 2, 0) : end]) in _RISING_WORDS:
            return True
        if stem not in _QUALIFIERS:
            return False
    return False


def _letters(name: str) -> list[str]:
    """Split a name into its words, without digits."""
    return re.split(r"[^a-z]+", name.lower())


def _is_direction(direction: object) -> bool:
    return direction is None or direction in get_args(Direction)


def _is_rule(key: str) -> bool:
    try:
        Rules({key: None}, None)
    except ValueError:
        return False
    return True
