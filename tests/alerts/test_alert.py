"""What an alert accepts, and what it refuses with which words."""

from __future__ import annotations

import math

import pytest

from mtask_sinks import Alert


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({}, ValueError, "no rule is given"),
        ({"above": 1.0, "below": 0.5}, ValueError, "above and below are given"),
        ({"nonfinite": False}, ValueError, "no rule is given"),
        ({"nonfinite": "yes"}, TypeError, "nonfinite='yes'): pass nonfinite=True"),
        ({"nonfinite": 1}, TypeError, "nonfinite=1): pass nonfinite=True"),
        ({"above": 1.0, "phase": ["eval"]}, TypeError, "pass a phase or a pattern of phases"),
        ({"above": 1.0, "phase": ""}, TypeError, "pass a phase or a pattern of phases"),
        ({"above": 1.0, "action": None}, ValueError, "action='NoneType'): pass 'warn', 'stop'"),
        ({"above": 1.0, "action": {"stop": True}}, ValueError, "action='dict'): pass 'warn', 'stop'"),
        ({"above": "high"}, TypeError, "pass a number, above=10.0"),
        ({"above": True}, TypeError, "pass a number"),
        ({"below": math.nan}, TypeError, "pass a number"),
        ({"above": 10**400}, TypeError, "pass a number, above=10.0"),
        ({"silent_for": math.inf}, TypeError, "pass a number, silent_for=200"),
        ({"above": 1.0, "for_steps": math.inf}, TypeError, "pass a number, for_steps=100"),
        ({"no_improvement": 0}, ValueError, "pass a number of steps"),
        ({"silent_for": 1.5}, ValueError, "pass a number of steps"),
        ({"above": 1.0, "for_steps": -1}, ValueError, "pass a number of steps"),
        ({"diverged": 1.0}, ValueError, "pass a number above 1, diverged=2.0"),
        ({"spread": 0}, ValueError, "pass a number above 0"),
        ({"conflict": 0.5}, ValueError, "pass a number from -1 to 0"),
        ({"above": 1.0, "action": "email"}, ValueError, "action='email'"),
        ({"above": 1.0, "action": ["stop", 3]}, ValueError, "pass 'warn', 'stop', 'wandb'"),
    ],
)
def test_refusals(given, error, words):
    with pytest.raises(error, match=r"Alert\('mlm/loss'") as caught:
        Alert("mlm/loss", **given)
    assert words in str(caught.value)


def test_a_pattern_is_needed():
    with pytest.raises(TypeError, match="the first argument is a key or a pattern"):
        Alert("", nonfinite=True)


def test_thresholds_of_zero_are_thresholds():
    assert (Alert("a", above=0.0).rule, Alert("a", conflict=0.0).rule, Alert("a", below=0).threshold) == (
        "above",
        "conflict",
        0.0,
    )


def test_actions_are_unique_and_addresses_are_not_shown():
    alert = Alert("a", above=1, action=["stop", "https://hooks.example.com/secret", "stop", print])
    assert alert.actions == ("stop", "https://hooks.example.com/secret", print)
    assert alert.stops
    assert alert.addresses == ("https://hooks.example.com/secret",)
    assert "secret" not in repr(alert)
    with pytest.raises(ValueError, match="action='str'") as caught:
        Alert("a", above=1, action="ftp://user:secret@example.com")
    assert "secret" not in str(caught.value)


def test_patterns_of_keys_and_phases():
    alert = Alert("*/loss", above=1, phase="eval*")
    assert alert.matches("mlm/loss", "eval_books")
    assert not alert.matches("mlm/loss", "train")
    assert not alert.matches("mlm/accuracy", "eval")
