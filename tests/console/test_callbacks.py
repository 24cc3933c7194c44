"""The output of a training with the Trainer's own callbacks."""

from __future__ import annotations

import ast
import io
import re
import sys
from typing import Any

import pytest
from helpers.toy import InOrder, Toy, arguments, numbers
from transformers import PrinterCallback, ProgressCallback

from mtask_sinks import HfMultiTaskTrainer, SinkArguments


class Trainer(InOrder, HfMultiTaskTrainer):
    pass


class TwoTasks(Toy):
    def extra(self, x, loss):
        self.report_metrics("a", loss=loss, size=10 * loss)
        self.report_metrics("long", loss=loss / 2)
        self.report_metrics(free=-loss)


def make(tmp_path, model: Toy | None = None, sink_args: SinkArguments | None = None, **changes: Any) -> Trainer:
    args = arguments(tmp_path, **changes)
    return Trainer(
        model or TwoTasks(),
        args,
        train_dataset=numbers(1, 2, 3, 4),
        eval_dataset=numbers(10, 20),
        sink_args=sink_args,
    )


def train(trainer: Trainer, capsys) -> tuple[list[dict[str, Any]], list[str], str]:
    """Train, and return the Trainer's rows, all other lines, and the last text next to the progress bar."""
    trainer.train()
    output = capsys.readouterr()
    lines = [line for line in output.out.splitlines() if line]
    beside = re.findall(r"\d(?:it/s|s/it), ([^\]]*)\]", output.err)
    rows = [ast.literal_eval(line) for line in lines if line.startswith("{")]
    return rows, [line for line in lines if not line.startswith("{")], beside[-1] if beside else ""


TABLE = [
    "  train    a     loss 1.5      size 15",
    "  train    long  loss 0.75",
    "  train    a     loss 3.5      size 35",
    "  train    long  loss 1.75",
    "  overall  a     loss 2.5      size 25",
    "  overall  long  loss 1.25",
]


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_each_task_has_a_line_below_the_trainers_own_row(tmp_path, capsys, disable_tqdm: bool) -> None:
    rows, lines, beside = train(make(tmp_path, disable_tqdm=disable_tqdm), capsys)
    assert lines == TABLE
    assert [list(row) for row in rows[:2]] == [["loss", "grad_norm", "learning_rate", "free", "epoch"]] * 2
    assert [float(row["free"]) for row in rows[:2]] == [-1.5, -3.5]
    assert beside == ("" if disable_tqdm else "a/loss=3.5, long/loss=1.75")


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_what_came_after_the_last_row_has_lines_of_its_own(tmp_path, capsys, disable_tqdm: bool) -> None:
    trainer = make(tmp_path, disable_tqdm=disable_tqdm, logging_steps=3, max_steps=4)
    _, lines, _ = train(trainer, capsys)
    assert lines[2:4] == ["  partial  a     loss 4        size 40", "  partial  long  loss 2"]


def test_an_evaluation_says_its_phase(tmp_path, capsys) -> None:
    rows, lines, _ = train(make(tmp_path, eval_strategy="steps", eval_steps=4), capsys)
    assert lines[4:6] == ["  eval     a     loss 15       size 150", "  eval     long  loss 7.5"]
    (row,) = (row for row in rows if "eval_runtime" in row)
    assert "eval_a/loss" not in row and float(row["eval_free"]) == -15.0


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_dict_prints_what_the_trainer_prints(tmp_path, capsys, disable_tqdm: bool) -> None:
    trainer = make(tmp_path, sink_args=SinkArguments(console="dict"), disable_tqdm=disable_tqdm)
    rows, lines, beside = train(trainer, capsys)
    assert (lines, beside) == ([], "")
    assert [float(row["a/loss"]) for row in rows[:2]] == [1.5, 3.5]


def test_off_prints_the_trainers_own_values_alone(tmp_path, capsys) -> None:
    trainer = make(tmp_path, sink_args=SinkArguments(console="off"), disable_tqdm=False)
    rows, lines, beside = train(trainer, capsys)
    assert (lines, beside) == ([], "")
    assert list(rows[0]) == ["loss", "grad_norm", "learning_rate", "epoch"]
    assert trainer.state.log_history[0]["a/loss"] == 1.5


def test_metrics_are_chosen_for_the_lines_and_for_the_bar(tmp_path, capsys) -> None:
    sink_args = SinkArguments(console_metrics=["*/size"], progress_bar_metrics=["a/size", "free"])
    rows, lines, beside = train(make(tmp_path, sink_args=sink_args, disable_tqdm=False), capsys)
    more = "  +3 more: */loss, free"
    assert lines == ["  train    a  size 15", more, "  train    a  size 35", more, "  overall  a  size 25", more]
    assert "free" not in rows[0]
    assert beside == "a/size=35, free=-3.5"


def test_beside_the_bar_there_may_be_nothing(tmp_path, capsys) -> None:
    sink_args = SinkArguments(progress_bar_metrics=["none"])
    assert train(make(tmp_path, sink_args=sink_args, disable_tqdm=False), capsys)[2] == ""


def test_more_than_24_metrics_are_counted(tmp_path, capsys) -> None:
    class Many(Toy):
        def extra(self, x, loss):
            for i in range(36):
                self.report_metrics(f"t{i:02}", loss=loss)

    _, lines, _ = train(make(tmp_path, Many()), capsys)
    named = ", ".join(f"t{i}/loss" for i in range(24, 36))
    assert lines[23:26] == ["  train    t23  loss 1.5", f"  +12 more: {named}", "  train    t00  loss 3.5"]


def test_no_escape_sequence_is_printed(tmp_path, capsys) -> None:
    make(tmp_path, disable_tqdm=False).train()
    assert "\x1b" not in capsys.readouterr().out


def test_a_process_that_the_trainer_keeps_quiet_is_quiet(tmp_path, capsys) -> None:
    for disable_tqdm in (True, False):
        trainer = make(tmp_path, disable_tqdm=disable_tqdm)
        trainer.is_local_process_zero = trainer.is_world_process_zero = lambda: False
        trainer.train()
        assert capsys.readouterr().out == ""


def test_history_is_what_it_is_without_a_console(tmp_path, capsys) -> None:
    histories = []
    for style in ("table", "dict", "off"):
        trainer = make(tmp_path / style, sink_args=SinkArguments(console=style))
        metrics = trainer.train().metrics
        history = [{name: row[name] for name in row if "runtime" not in name and "per_second" not in name}
                   for row in trainer.state.log_history]  # fmt: skip
        histories.append((history, list(metrics)))
    assert histories[0] == histories[1] == histories[2]


class Own(ProgressCallback):
    def on_log(self, args, state, control, logs=None, **kwargs):
        self.training_bar.write(f"own {logs['a/loss']}" if "a/loss" in logs else "own end")


def test_a_callback_derived_from_the_trainers_prints_what_its_author_wants(tmp_path, capsys) -> None:
    trainer = make(tmp_path, disable_tqdm=False)
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Own)
    assert train(trainer, capsys)[1] == ["own 1.5", "own 3.5", "own end"]


def test_a_callback_that_is_added_later_prints_this_way_too_and_none_prints_none(tmp_path, capsys) -> None:
    trainer = make(tmp_path, disable_tqdm=False)
    trainer.remove_callback(ProgressCallback)
    trainer.train()
    assert capsys.readouterr().out == ""
    trainer.add_callback(PrinterCallback)
    assert train(trainer, capsys)[1] == TABLE


def test_a_style_that_there_is_not_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match=r"console='tabel': choose one of 'table', 'dict', 'off'"):
        make(tmp_path, sink_args=SinkArguments(console="tabel"))  # type: ignore[arg-type]


def test_a_callback_that_is_handed_on_shows_the_values_of_its_new_trainer(tmp_path, capsys) -> None:
    shared = PrinterCallback()
    for name, values in (("first", (1, 2, 3, 4)), ("second", (5, 6, 7, 8))):
        args = arguments(tmp_path / name, disable_tqdm=True)
        trainer = Trainer(TwoTasks(), args, train_dataset=numbers(*values))
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(shared)
        capsys.readouterr()
        trainer.train()
        shown = re.findall(r"train    a +loss (\S+)", capsys.readouterr().out)
        assert [float(each) for each in shown] == [sum(values[:2]) / 2, sum(values[2:]) / 2]


class Tee:
    """A logger in place of the standard output, as many scripts have it: with `write` and `flush` alone."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_an_output_that_is_no_file_gets_the_lines(tmp_path, monkeypatch, disable_tqdm) -> None:
    trainer, tee = make(tmp_path, disable_tqdm=disable_tqdm), Tee()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", tee)
        trainer.train()
    assert [line for line in tee.text.splitlines() if line.strip()][1:3] == TABLE[:2]


@pytest.mark.parametrize("disable_tqdm", [True, False])
def test_an_output_that_cannot_write_the_name_of_a_task_gets_it_in_ascii(tmp_path, monkeypatch, disable_tqdm) -> None:
    class Chinese(Toy):
        def extra(self, x, loss):
            self.report_metrics("价格", loss=loss)

    written = io.BytesIO()
    output = io.TextIOWrapper(written, encoding="cp1252", write_through=True)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", output)
        make(tmp_path, Chinese(), disable_tqdm=disable_tqdm).train()
    text = written.getvalue().decode("cp1252")
    assert r"\u4ef7\u683c  loss 1.5" in text
    assert r"\u4ef7\u683c  loss 3.5" in text
