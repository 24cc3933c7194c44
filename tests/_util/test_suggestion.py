from __future__ import annotations

from mtask_sinks._util.suggestion import did_you_mean


def test_the_most_similar_name_is_proposed() -> None:
    assert did_you_mean("acuracy", ["loss", "accuracy", "accuracies"]) == " Did you mean 'accuracy'?"


def test_what_is_no_text_or_like_no_name_has_no_proposal() -> None:
    assert did_you_mean(3, ["loss"]) == did_you_mean("x", ["loss"]) == did_you_mean("loss", []) == ""
