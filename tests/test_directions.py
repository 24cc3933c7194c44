from __future__ import annotations

import pytest

from mtask_sinks.directions import Directions, is_count, known_direction, recorded_rules
from mtask_sinks.errors import MetricKeyError


@pytest.mark.parametrize(
    "name",
    [
        *("loss", "aux_loss", "loss_ce", "box/giou-loss", "Perplexity", "error_rate", "val_mse", "count_loss"),
        *("items/loss", "loss_dice", "loss.p95", "accuracy_error", "kl_reward", "WER", "rmse.rank_max", "nll.reported"),
        *("n_step_loss", "num_errors", "HingeLosses"),
    ],
)
def test_smallest_is_best(name) -> None:
    assert known_direction(name) == "min"


@pytest.mark.parametrize(
    "name",
    [
        *("accuracy", "acc", "mlm_acc", "acc_top5", "top-1.acc", "balanced_accuracy", "precision_at_10", "recall5"),
        *("f1", "F1_macro", "f1.weighted", "f1_score", "f0.5", "f_beta", "auc", "roc_auc", "auroc", "ap50", "mAP"),
        *("map_50", "mrr", "mrr_at_10", "ndcg10", "hits_at_1", "hit_rate", "bleu", "sacrebleu", "BLEU4", "rouge1"),
        *("rouge_l", "rougeLsum", "meteor", "chrf", "em", "exact_match", "pass_at_1", "iou", "mean_iou", "miou"),
        *("dice", "psnr", "ssim", "ms_ssim", "r2", "r2_score", "r_squared", "kappa", "mcc", "pearsonr", "spearman"),
        *("matthews_correlation", "reward", "win_rate", "acc.rank_min", "acc.reported", "box/ap", "test_r2"),
        *("gloss_accuracy", "glossary_f1"),  # words that contain "loss"
        *("error_f1", "error_detection_accuracy", "loss_auc"),  # the last word decides
    ],
)
def test_largest_is_best(name) -> None:
    assert known_direction(name) == "max"


@pytest.mark.parametrize(
    "name", ["n_tokens", "num_masked", "count", "tokens", "loss.nonfinite", "box/n", "error_count", "n_hits"]
)
def test_a_count_is_neither_good_nor_bad(name) -> None:
    assert (known_direction(name), is_count(name)) == (None, True)


@pytest.mark.parametrize(
    "name",
    [
        *("bias", "terms", "merit", "nsp", "score", "lr_scale", "grad_norm", "temperature", "x", "", "5"),
        # A word that rises does not end these names, or is a part of another word.
        *("accuracy_gap", "reward_std", "acc_steps", "map_size", "precision_bits", "recall.std", "em_weight"),
        *("items_seen", "accelerator", "mapping", "emotion", "dicey", "reclaim", "f", "r", "rewarded"),
        # Settings, and how values differ.
        *("loss_scale", "loss_weight", "kl_weight", "loss_std", "mse.var"),
        # scikit-learn's negated errors rise, and a loss of negative samples falls.
        *("neg_mean_squared_error", "neg_loss"),
        # The names of tasks in the name of a cosine tell nothing.
        *("grad_cosine.cls_loss.reg_loss", "grad_cosine.kl.lm", "grad_cosine.mae.total", "grad_cosine.cls.map"),
    ],
)
def test_of_every_other_name_nothing_is_known(name) -> None:
    assert (known_direction(name), is_count(name)) == (None, False)


def test_rules_beat_names_and_exact_keys_beat_patterns() -> None:
    directions = Directions({"*/bias": "min", "*/acc*": None, "a/loss": "max", "b/bias": "max", "n_seen": "max"})
    expected = {
        "a/bias": "min",
        "b/bias": "max",
        "bias": None,  # the pattern needs a task
        "a/accuracy": None,
        "a/f1": "max",
        "a/loss": "max",
        "b/loss": "min",
        "n_seen": "max",
        "accuracy/drift": None,  # the name of the task tells nothing
        "drift/box/loss": "min",
    }
    assert {key: directions.for_key(key) for key in expected} == expected


def test_of_several_mappings_the_first_that_has_a_rule_decides() -> None:
    first, second = {"*/bias": "max", "a/acc": None}, {"a/bias": "min", "a/acc": "max", "a/drift": "min"}
    keys = ("a/bias", "a/acc", "a/drift", "a/loss")
    assert [Directions(first, second).for_key(key) for key in keys] == ["max", None, "min", "min"]
    assert [Directions(second, first).for_key(key) for key in keys] == ["min", "max", "min", "min"]


@pytest.mark.parametrize("direction", ["up", "MIN", "", True, 1, ["min"]])
def test_a_direction_that_is_none_is_refused(direction) -> None:
    with pytest.raises(ValueError, match=r"directions=\{'\*/bias': .*\}: allowed are 'min' .*'max' .*None \(neither\)"):
        Directions({"*/bias": direction})


def test_rules_that_are_no_mapping_and_keys_that_are_not_valid_are_refused() -> None:
    with pytest.raises(TypeError, match=r"directions='min': pass a mapping such as \{'\*/bias': 'min'\}"):
        Directions("min")  # type: ignore[arg-type]
    with pytest.raises(MetricKeyError, match="'a bias' is no valid key"):
        Directions({"a bias": "min"})


def test_recorded_rules_that_cannot_be_used_are_left_out() -> None:
    recorded = {"a/x": "min", "*/y": "max", "z": None, "b/x": "near 1", "c/x": 3, "not a key": "min", "d/x": ["min"]}
    assert recorded_rules(recorded) == {"a/x": "min", "*/y": "max", "z": None}
