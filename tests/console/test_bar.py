from __future__ import annotations

import io
import re

import pytest
from helpers.terminal import this_process_on_a_terminal
from helpers.toy import InOrder, Toy, arguments, numbers
from tqdm import tqdm

from mtask_sinks import HfMultiTaskTrainer
from mtask_sinks.console.bar import beside_bar, room_beside

THREE = {"translation/loss": 5.2351, "detection/loss": 0.52268, "nsp/loss": 1.25}


@pytest.mark.parametrize(
    ("room", "text"),
    [
        (None, "translation/loss=5.235, detection/loss=0.5227, nsp/loss=1.25"),
        (60, "translation/loss=5.235, detection/loss=0.5227, nsp/loss=1.25"),
        (59, "loss translation=5.235, detection=0.5227, nsp=1.25"),
        (49, "translation/loss=5.235, detection/loss=0.5227, +1"),
        (48, "loss translation=5.235, detection=0.5227, +1"),
        (30, "translation/loss=5.235, +2"),
        (25, ""),
    ],
)
def test_as_many_values_as_fit_are_beside_the_bar_and_the_others_are_counted(room, text) -> None:
    assert beside_bar(THREE, room) == text


def test_values_beyond_the_most_are_counted_too() -> None:
    assert beside_bar(THREE, most=2) == "translation/loss=5.235, detection/loss=0.5227, +1"
    assert beside_bar(THREE, 30, most=2) == "translation/loss=5.235, +2"
    assert beside_bar(THREE, most=3) == beside_bar(THREE)


def test_a_wide_character_takes_two_columns() -> None:
    values = {"情感/loss": 1.0, "翻译/loss": 2.0}
    shown = ["情感/loss=1, 翻译/loss=2", "loss 情感=1, 翻译=2", "情感/loss=1, +1"]
    assert [beside_bar(values, room) for room in (24, 23, 18)] == shown


def test_metrics_of_several_names_keep_their_keys() -> None:
    assert beside_bar({"a/loss": 1.0, "free": 2.0}, 12) == "a/loss=1, +1"


@pytest.mark.parametrize(("columns", "shown"), [(80, 0), (100, 1), (120, 3), (200, 3)])
def test_the_bar_is_still_there_near_the_end_of_a_long_training(columns: int, shown: int) -> None:
    with tqdm(total=300_000, ncols=columns, file=io.StringIO()) as bar:
        bar._time = lambda: bar.start_t + seconds
        bar.n, seconds = 299_998, 35_990.0
        text = beside_bar(THREE, room_beside(bar))
        bar.n, seconds = 299_999, 36_010.0
        drawn = bar.format_meter(**{**bar.format_dict, "postfix": text or None})
    assert len(drawn) <= columns and len(drawn.split("|")[1]) >= 6
    assert sum(task in drawn for task in ("translation", "detection", "nsp")) == shown


def test_without_a_width_there_is_no_limit() -> None:
    with tqdm(total=3, ncols=None, file=io.StringIO()) as bar:
        assert room_beside(bar) is None


class Trainer(InOrder, HfMultiTaskTrainer):
    pass


class Tasks(Toy):
    def extra(self, x, loss):
        for i, task in enumerate(("mlm", "translation", "detection", "nsp")):
            if i < 3 or x.mean() > 20:
                self.report_metrics(task, loss=loss / 7**i, accuracy=1 / loss, n_tokens=1234567 * loss, f1=loss)


def test_a_training_on_a_terminal_of_80_columns(tmp_path, monkeypatch) -> None:
    with this_process_on_a_terminal(monkeypatch, columns=80, lines=80) as screen:
        args = arguments(tmp_path, disable_tqdm=False, logging_steps=10)
        Trainer(Tasks(), args, train_dataset=numbers(*range(1, 41))).train()
    (bar,) = (line for line in screen.lines if line.startswith("100%"))
    assert len(bar.split("|")[1]) >= 6 and bar.endswith(", mlm/loss=35.5, +3]")
    lines = [line for line in screen.lines if re.match("  (train|overall)", line)]
    tasks = [line.split()[1] for line in lines]
    assert tasks[:3] == ["mlm", "translation", "detection"] and tasks.count("nsp") >= 2
    for name in ("loss", "accuracy", "n_tokens"):
        assert len({line.index(name) for line in lines if name in line}) == 1
