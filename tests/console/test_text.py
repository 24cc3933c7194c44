from __future__ import annotations

from mtask_sinks.console.text import task_lines


def test_names_that_tasks_share_stand_under_one_another() -> None:
    lines = task_lines("eval", {"detection/n_boxes": 3.0, "detection/loss": 12345.6, "mlm/loss": 0.25})
    assert lines == [
        "  eval   detection  loss 12,346  n_boxes 3",
        "  eval   mlm        loss 0.25",
    ]


def test_lines_of_two_events_stand_under_one_another() -> None:
    (first,) = task_lines("train", {"mlm/loss": 10.25, "mlm/acc": 0.1866})
    (second,) = task_lines("eval", {"mlm/loss": 0.3851, "mlm/acc": 1.0})
    assert first.index("loss") == second.index("loss")
    assert first.index("acc") == second.index("acc")


def test_nan_and_infinity_can_be_read() -> None:
    assert task_lines("train", {"a/x": float("nan"), "a/y": float("-inf")}) == ["  train  a  x nan     y -inf"]


def test_what_does_not_fit_goes_on_below_and_no_line_is_wider_than_the_terminal() -> None:
    metrics = {f"task/metric_{i}": float(i) for i in range(10)}
    lines = task_lines("train", metrics, width=60)
    assert all(len(line) <= 60 for line in lines)
    words = " ".join(lines).split()
    assert [word for word in words if word.startswith("metric")] == [f"metric_{i}" for i in range(10)]
    assert {line.index("metric") for line in lines} == {15}


def test_a_terminal_narrower_than_one_value_breaks_no_value() -> None:
    assert task_lines("train", {"task/a": 1.0, "task/b": 2.0}, width=5) == ["  train  task  a 1", "               b 2"]
