from __future__ import annotations

import re

import pytest

from mtask_sinks.console.text import TaskLines, left_out_lines


def task_lines(phase: str, metrics: dict[str, float], width: int | None = None) -> list[str]:
    return TaskLines().make(phase, metrics, width)


def test_names_that_tasks_share_are_below_one_another() -> None:
    lines = task_lines("eval", {"detection/n_boxes": 3.0, "detection/loss": 12345.6, "mlm/loss": 0.25})
    assert lines == [
        "  eval     detection  loss 12,346   n_boxes 3",
        "  eval     mlm        loss 0.25",
    ]


def columns(line: str) -> dict[str, int]:
    """Word → where it begins."""
    return {found[0]: found.start() for found in re.finditer(r"\S+", line)}


def test_columns_keep_their_place_whatever_a_log_event_holds() -> None:
    lines = TaskLines()
    first = lines.make("train", {"mlm/loss": 10.25, "mlm/acc": 0.1866, "mlm/n": 12345.0, "nsp/loss": 0.5})
    for phase, metrics in (
        ("eval", {"mlm/loss": 1.0, "mlm/acc": 0.5, "mlm/n": 5.0}),
        ("train", {"mlm/n": 21_000.0}),
        ("overall", {"mlm/acc": 0.5, "new/loss": 1.0, "mlm/loss": 2.0, "mlm/n": 9.0}),
        ("train", {"nsp/f1": 0.25, "mlm/acc": 0.75}),
    ):
        for line in lines.make(phase, metrics):
            words = columns(line)
            for name in {"loss", "acc", "n"} & words.keys() - {"new"}:
                assert words[name] == columns(first[0])[name], (phase, line)
            assert line.index(line.split()[1]) == columns(first[0])["mlm"]


def test_long_names_of_a_task_that_shares_no_metric_do_not_move_the_others_apart() -> None:
    health = {"health/grad_cosine.mlm.nsp": -0.125, "health/conflict": 1.0}
    tasks = {"mlm/loss": 10.25, "mlm/acc": 0.5, "nsp/loss": 0.25, "nsp/acc": 0.75}
    lines = TaskLines()
    expected = [
        "  train    mlm     loss 10.25    acc 0.5",
        "  train    nsp     loss 0.25     acc 0.75",
        "  train    health  grad_cosine.mlm.nsp -0.125   conflict 1",
    ]
    assert lines.make("train", {**tasks, **health}) == expected
    assert lines.make("train", {**health, **tasks}) == expected
    # As soon as it shares one, its columns are theirs.
    assert lines.make("train", {"nsp/loss": 0.25, "nsp/acc": 0.5, "alone/loss": 1.0, "alone/long_name": 2.0}) == [
        "  train    nsp     loss 0.25     acc       0.5",
        "  train    alone   loss 1        long_name 2",
    ]


def test_tasks_that_share_a_metric_share_columns_also_if_they_report_it_first_or_last() -> None:
    lines = TaskLines()
    lines.make("train", {"detection/loss": 1.0, "detection/recall": 0.5, "mlm/accuracy": 0.25})
    assert lines.make(
        "eval", {"detection/loss": 1.0, "detection/recall": 0.5, "mlm/accuracy": 0.25, "mlm/loss": 2.0}
    ) == [
        "  eval     detection  loss     1        recall 0.5",
        "  eval     mlm        accuracy 0.25     loss   2",
    ]


def test_a_value_that_is_wider_than_all_before_moves_its_column_once() -> None:
    lines = TaskLines()
    places = [
        columns(lines.make("train", {"a/loss": value, "a/acc": 0.5})[0])["acc"] for value in (1.0, 1e-05, 0.5, 2.0)
    ]
    assert places == [places[0]] * 2 + [places[0]] * 2
    wide = columns(lines.make("train", {"a/loss": -1.2345e-05, "a/acc": 0.5})[0])["acc"]
    after = columns(lines.make("train", {"a/loss": 1.0, "a/acc": 0.5})[0])["acc"]
    assert wide == after == places[0] + len("-1.234e-05") - 7


def test_scripts_whose_characters_are_wide_line_up() -> None:
    first, second = task_lines("train", {"翻译/loss": 1.0, "abcd/loss": 2.0})
    assert first.index("loss") + len("翻译") == second.index("loss")


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_name_that_leaves_no_room_stands_above_its_values(width: int) -> None:
    long = "a_task_whose_name_" + "x" * (width - 18)
    values = {"loss": 1_146_619.0, "mae": 7.881e-08, "rmse": 1.007, "accuracy": 0.390625}
    lines = task_lines(
        "eval_books", {f"{task}/{name}": value for task in (long, "b") for name, value in values.items()}, width
    )
    assert all(len(line) <= width for line in lines if long not in line)
    assert lines[0] == f"  eval_books  {long}"
    for cell in ("loss 1,146,619", "mae 7.881e-08", "rmse 1.007", "accuracy 0.3906"):
        assert sum(cell in re.sub(" +", " ", line) for line in lines) == 2


def test_nan_and_infinity_can_be_read() -> None:
    assert task_lines("train", {"a/x": float("nan"), "a/y": float("-inf")}) == ["  train    a  x nan      y -inf"]


def test_what_does_not_fit_goes_on_below_and_no_line_is_wider_than_the_terminal() -> None:
    metrics = {f"task/metric_{i}": float(i) for i in range(10)}
    lines = task_lines("train", metrics, width=60)
    assert all(len(line) <= 60 for line in lines)
    words = " ".join(lines).split()
    assert [word for word in words if word.startswith("metric")] == [f"metric_{i}" for i in range(10)]
    assert {line.index("metric") for line in lines} == {17}


def test_a_terminal_narrower_than_one_value_breaks_no_value() -> None:
    lines = task_lines("train", {"task/a": 1.0, "task/b": 2.0}, width=5)
    assert lines == ["  train    task", "      a 1", "      b 2"]


@pytest.mark.parametrize(
    ("left_out", "every", "text"),
    [
        ([], ["a/x"], []),
        (["a/x", "b/x"], ["a/x", "b/x", "a/y"], ["  +2 more: */x"]),
        (["a/x", "b/x"], ["a/x", "b/x", "c/x"], ["  +2 more: a/x, b/x"]),
        (["a/x", "free"], ["a/x", "free"], ["  +2 more: a/x, free"]),
        (["h/c.1", "h/c.2", "h/x", "h/c.3"], ["h/c.0", "h/c.1"], ["  +4 more: h/c.* (3), h/x"]),
        (["a/c.1", "b/c.2", "c.3", "c.4"], [], ["  +4 more: a/c.1, b/c.2, c.* (2)"]),
        (["a/c.1", "b/c.1", "a/c.2", "b/c.2"], [], ["  +4 more: */c.1, */c.2"]),
    ],
)
def test_what_is_left_out_has_a_name(left_out, every, text) -> None:
    assert left_out_lines(left_out, {*every, *left_out}) == text


def test_names_of_what_is_left_out_fit_the_terminal_and_all_are_there() -> None:
    keys = [f"task{i}/loss" for i in range(40)]
    lines = left_out_lines(keys[24:], keys, 60)
    assert all(len(line) <= 60 for line in lines)
    assert " ".join(lines).replace(",", "").split() == ["+16", "more:", *keys[24:]]


def test_of_many_metrics_that_are_left_out_the_first_ones_are_named() -> None:
    keys = [f"a/m{i}" for i in range(600)]
    assert left_out_lines(keys[24:44], keys) == [f"  +20 more: {', '.join(keys[24:44])}"]
    assert left_out_lines(keys[24:], keys) == [f"  +576 more: {', '.join(keys[24:44])}, …"]
