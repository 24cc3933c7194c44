from __future__ import annotations

import pytest

from mtask_sinks.errors import MetricKeyError
from mtask_sinks.keys import (
    backend_name,
    check_key,
    is_of_task_health,
    is_trainer_log,
    join_key,
    log_name,
    split_key,
    trainer_log_name,
)

# Valid in TensorBoard, W&B and MLflow: see tests/sinks/test_scripts.py, which writes them to the real ones.
SCRIPTS = ["ner/f1.猫", "ü/é", "имя/потеря", "ner/٣", "x²", "ａ/ｂ", "İ/ı", "猫" * 83]


@pytest.mark.parametrize(
    "key", ["loss", "mlm/loss", "a/b/c", "top-1.acc", "x_1/y.2-z", "A" * 250, "a" * 100 + "/" + "b" * 149, *SCRIPTS]
)
def test_valid_keys_pass_unchanged(key: str) -> None:
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        ".",
        "..",
        "a/../b",
        "./a",
        "a b",
        "a:b",
        "a(b)",
        "a=b",
        "e\u0301",
        "नमस्ते",
        "ner/f1.😀",
        "a\u200db",
        "\ud800",
        "猫" * 84,
        "a\n",
        "a\x00b",
        "a%",
        "A" * 251,
    ],
)
def test_invalid_keys_are_refused_by_name(key: str) -> None:
    with pytest.raises(MetricKeyError) as caught:
        check_key(key)
    assert repr(key)[1:20] in str(caught.value)


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("mlm loss", "mlm_loss"),
        ("my task/loss", "my_task/loss"),
        ("acc(top1)", "acc_top1"),
        ("a//b/", "a/b"),
        ("../x", "x"),
        ("f1: macro", "f1/macro"),
        ("ner\\f1", "ner/f1"),
        ("ner/f1.😀", "ner/f1.u1f600"),
        ("e\u0301", "é"),
    ],
)
def test_the_error_suggests_a_valid_key(key: str, suggestion: str) -> None:
    with pytest.raises(MetricKeyError, match=f"Try '{suggestion}'"):
        check_key(key)


@pytest.mark.parametrize("key", ["*/loss", "mlm/*", "*"])
def test_a_pattern_where_only_keys_are_possible_is_called_so(key: str) -> None:
    with pytest.raises(MetricKeyError, match="a pattern is not possible here. Write out each key.$"):
        check_key(key)


def test_suggestions_for_different_keys_differ() -> None:
    keys = ["ner/f1.😀", "ner/f1.😂", "ner/f1.", "ner/नम", "ner/न\u094d", "ner/f1.❌"]
    suggestions = []
    for key in keys:
        try:
            suggestions.append(check_key(key))
        except MetricKeyError as error:
            suggestions.append(str(error).partition("Try '")[2].removesuffix("'."))
    assert len({*suggestions}) == len(keys)
    assert all(check_key(suggestion) == suggestion for suggestion in suggestions)


@pytest.mark.parametrize(("key", "size"), [("a" * 300, 300), ("猫" * 100, 300), ("a" * 249 + "/bc", 252)])
def test_a_long_key_is_told_its_length(key: str, size: int) -> None:
    with pytest.raises(MetricKeyError, match=f"{size} bytes, 250 are allowed"):
        check_key(key)


def test_a_long_key_with_a_character_that_is_not_allowed_is_told_what_is() -> None:
    with pytest.raises(MetricKeyError, match="allowed are segments of letters"):
        check_key("a b" + "c" * 300)


def test_a_task_may_have_the_name_of_a_trainers_log_or_of_its_phase() -> None:
    assert [is_trainer_log(key) for key in ("eval_books/loss", "test_a/x", "loss/x", "eval_books")] == [
        False, False, False, True
    ]  # fmt: skip


def test_the_metrics_of_task_health_have_a_task() -> None:
    keys = ("health/conflict", "health/conflict*", "grad_norm", "progress", "a/effective_weight.estimated")
    assert [is_of_task_health(key) for key in keys] == [True, True, False, False, True]


def test_a_key_that_is_no_string_is_refused() -> None:
    with pytest.raises(MetricKeyError, match="of type int"):
        check_key(3)  # type: ignore[arg-type]


def test_join_and_split_are_inverse() -> None:
    assert split_key(join_key("mlm", "loss")) == ("mlm", "loss")
    assert split_key(join_key(None, "lr")) == ("", "lr")


def test_names_in_the_logs_carry_the_phase() -> None:
    assert [log_name("mlm/loss", phase) for phase in ("train", "eval", "eval_books", "test")] == [
        "mlm/loss",
        "eval_mlm/loss",
        "eval_books_mlm/loss",
        "test_mlm/loss",
    ]


def test_names_in_backends_begin_with_the_task() -> None:
    assert backend_name("mlm/loss", "eval_books") == "mlm/eval_books/loss"
    assert backend_name("det/box/l1", "train") == "det/train/box/l1"
    assert backend_name("lr", "train") == "train/lr"


def test_backend_names_stay_valid_and_apart_whatever_the_phase_is_called() -> None:
    names = {
        backend_name("mlm/loss", phase)
        for phase in (
            "eval_a b",
            "eval_a_b",
            "eval_a/b",
            "eval_ä",
            "eval_" + "x" * 300,
            "eval_" + "猫" * 100,
            "😀",
            "😂",
        )
    }
    assert len(names) == 8
    assert all(check_key(name) == name for name in names)


def test_backend_names_of_the_longest_keys_stay_valid_and_apart() -> None:
    long = "t/" + "x" * 247
    names = {backend_name(long + end, phase) for end in ("a", "b") for phase in ("train", "eval_validation")}
    assert len(names) == 4
    assert all(check_key(name) == name for name in names)


def test_the_trainers_own_logs_are_named_as_its_callbacks_name_them() -> None:
    from transformers.integrations.integration_utils import rewrite_logs

    logs = {"loss": 1, "eval_loss": 2, "test_runtime": 3, "train_loss": 4, "epoch": 5, "eval_books_loss": 6}
    assert {trainer_log_name(name): value for name, value in logs.items()} == rewrite_logs(logs)
