"""Alerts as text: the same as in code, and errors that point at the word."""

from __future__ import annotations

import pytest
import yaml
from transformers import HfArgumentParser

from mtask_sinks import Alert, SinkArguments, TaskHealth
from mtask_sinks.alerts.parsing import parse_alerts

TEXTS = [
    "*/loss nonfinite action=stop",
    "nsp/accuracy below=0.5 for_steps=500 phase=eval*",
    "*/loss no_improvement=2000 action=stop,wandb",
    "mlm/* silent_for=200",
    "*/loss diverged=2.0 action=https://hooks.example.com/a,b",
    "health/grad_cosine.* conflict=-0.1",
]
ALERTS = [
    Alert("*/loss", nonfinite=True, action="stop"),
    Alert("nsp/accuracy", below=0.5, for_steps=500, phase="eval*"),
    Alert("*/loss", no_improvement=2000, action=["stop", "wandb"]),
    Alert("mlm/*", silent_for=200),
    Alert("*/loss", diverged=2.0, action="https://hooks.example.com/a,b"),
    Alert("health/grad_cosine.*", conflict=-0.1),
]


def actions(alerts):
    return [
        (alert.pattern, alert.rule, alert.threshold, alert.for_steps, alert.phase, alert.actions) for alert in alerts
    ]


def test_from_the_command_line_and_from_yaml(tmp_path):
    parser = HfArgumentParser(SinkArguments)
    (given,) = parser.parse_args_into_dataclasses(["--alerts", *TEXTS, "--task_health_every", "50"])
    assert actions(given.make_alerts()) == actions(ALERTS)
    assert given.make_task_health() == TaskHealth(every=50)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"alerts": TEXTS, "task_health_every": 10, "task_health_losses": ["*/l"]}))
    (given,) = parser.parse_yaml_file(str(path))
    assert actions(given.make_alerts()) == actions(ALERTS)
    assert given.make_task_health() == TaskHealth(["*/l"], None, 10)
    assert SinkArguments().make_alerts() == []
    assert SinkArguments().make_task_health() is None
    with pytest.raises(ValueError, match="but not task_health_every"):
        SinkArguments(task_health_shared="x").make_task_health()


@pytest.mark.parametrize(
    ("text", "word", "reason"),
    [
        ("nsp/accuracy belw=0.5", "belw=0.5", "'belw' is no rule"),
        ("nsp/accuracy below=half for_steps=5", "below=half", "'half' is not a number"),
        ("a below", "below", "write a value: below=0.5"),
        ("a silent_for=1.5", "silent_for=1.5", "'1.5' is not a whole number"),
        ("a  below=1   below=2", "below=2", "below is given twice"),
    ],
)
def test_errors_point_at_the_word(text, word, reason):
    with pytest.raises(ValueError, match="alerts, entry 2: ") as caught:
        parse_alerts(["a above=1", text])
    first, shown, mark = str(caught.value).splitlines()
    assert reason in first
    assert shown.strip() == text
    start = mark.index("^")
    assert shown[start : start + mark.count("^")] == word


def test_errors_do_not_show_addresses():
    with pytest.raises(ValueError, match="'abve' is no rule") as caught:
        parse_alerts(["a action=https://hooks.example.com/secret abve=1"])
    _, shown, mark = str(caught.value).splitlines()
    assert "secret" not in shown and "hooks" not in shown
    assert shown[mark.index("^") :].startswith("abve=1")


@pytest.mark.parametrize("text", ["", "   ", None])
def test_nothing_is_no_alert(text):
    with pytest.raises(ValueError, match=r"alerts, entry 1: .* is no alert; write PATTERN RULE"):
        parse_alerts([text])


def test_what_the_alert_itself_refuses_names_the_entry():
    with pytest.raises(ValueError, match=r"alerts, entry 1: Alert\('a'\): no rule is given"):
        parse_alerts(["a action=stop"])
