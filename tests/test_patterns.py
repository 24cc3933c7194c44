from __future__ import annotations

import pytest

from mtask_sinks.errors import MetricKeyError
from mtask_sinks.patterns import Rules, listed


def test_an_exact_key_beats_a_pattern_that_comes_before_it() -> None:
    assert Rules({"mlm/*": "sum", "mlm/loss": "last"}, "mean").for_key("mlm/loss") == "last"


def test_the_first_matching_pattern_wins() -> None:
    rules = Rules({"*/n_*": "sum", "*/*": "max"}, "mean")
    assert (rules.for_key("mlm/n_tokens"), rules.for_key("mlm/loss")) == ("sum", "max")


def test_without_a_match_the_default_holds() -> None:
    assert Rules({"*/n": "sum"}, "mean").for_key("n") == "mean"


def test_patterns_tell_upper_from_lower_case_and_know_sets() -> None:
    rules = Rules({"a/[xy]": "sum", "B/?": "last"}, "mean")
    assert [rules.for_key(key) for key in ("a/x", "a/z", "b/1", "B/1")] == ["sum", "mean", "mean", "last"]


def test_an_invalid_exact_key_is_refused_at_once() -> None:
    with pytest.raises(MetricKeyError, match="mlm loss"):
        Rules({"mlm loss": "sum"}, "mean")


def test_a_message_names_at_most_twenty_keys() -> None:
    keys = [f"k{number}" for number in range(21)]
    assert listed(keys[:20]) == ", ".join(keys[:20])
    assert listed(keys) == ", ".join(keys[:20]) + ", …"
