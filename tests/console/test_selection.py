from __future__ import annotations

import pytest

from mtask_sinks.console.selection import MetricChoice, group_by_task
from mtask_sinks.errors import MetricKeyError


def test_patterns_choose_and_exact_keys_too() -> None:
    keys = ["mlm/loss", "mlm/acc", "nsp/loss", "nsp/acc"]
    assert MetricChoice(["*/loss", "nsp/acc"]).select(keys) == ["mlm/loss", "nsp/loss", "nsp/acc"]
    assert MetricChoice(["other/*"]).select(keys) == []


def test_by_default_each_task_has_its_first_metric_before_any_has_its_second() -> None:
    keys = [f"t{task}/{name}" for task in range(20) for name in ("grad", "loss", "acc")]
    shown = MetricChoice(limit=24).select(keys)
    assert shown == [*(f"t{task}/grad" for task in range(20)), *(f"t{task}/loss" for task in range(4))]


def test_by_default_what_the_model_reports_comes_before_task_health() -> None:
    measured = [f"{task}/{name}" for name in ("grad_norm", "loss_share") for task in ("lm", "mtp", "kl")]
    keys = ["lm/loss", "mtp/loss", "kl/loss", *measured, "health/conflict", "lm/n_tokens", "lm/perplexity"]
    shown = MetricChoice(limit=8).select(keys)
    assert set(shown) == {
        *("lm/loss", "mtp/loss", "kl/loss", "health/conflict"),
        *("lm/n_tokens", "mtp/grad_norm", "kl/grad_norm", "lm/perplexity"),
    }


def test_an_exact_key_that_is_not_valid_is_refused() -> None:
    with pytest.raises(MetricKeyError, match="'mlm loss' is no valid key"):
        MetricChoice(["mlm loss"])


def test_ungrouped_keys_are_a_group_without_a_name() -> None:
    assert group_by_task(["lr", "a/x", "grad"]) == {"": ["lr", "grad"], "a": ["a/x"]}
