"""A `log` of the user's own, and callbacks that raise while a row is logged."""

from __future__ import annotations

import pytest
import torch
from helpers.toy import InOrder, Silent, Toy, arguments, numbers, rows
from transformers import Trainer, TrainerCallback

from mtask_sinks import HfMultiTaskTrainer, MultiTaskTrainerMixin
from mtask_sinks.sinks import MemorySink

TRAIN = [(2, {"a/loss": 1.5}), (4, {"a/loss": 3.5})]
EVAL = [(2, {"a/loss": 15.0}), (4, {"a/loss": 15.0})]


class Copied:
    """The body of `Trainer.log`, copied, as forks of hf-mtask-trainer have it."""

    def log(self, logs, start_time=None):
        if self.state.epoch is not None:
            logs["epoch"] = self.state.epoch
        output = {**logs, "step": self.state.global_step}
        self.state.log_history.append(output)
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)


class CopiedToOtherDict(Copied):
    """The same, handing the callbacks a copy."""

    def log(self, logs, start_time=None):
        super().log({**logs, "mine": 1.0})


class LogOfTheTrainer:
    """Calls the `log` of the Trainer past ours."""

    def log(self, logs, start_time=None):
        Trainer.log(self, logs, start_time)


class WithoutHistory:
    """Tells the callbacks only."""

    def log(self, logs, *args):
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)


class Silenced:
    """Tells nobody but the history."""

    def log(self, logs, *args):
        self.state.log_history.append({**logs, "step": self.state.global_step})


class Hears(TrainerCallback):
    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append(dict(logs))


def trained(own, tmp_path, *callbacks, model=None, **changes):
    cls = type("Mine", (InOrder, own, HfMultiTaskTrainer), {})
    sink = MemorySink()
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=2, label_names=["x"], **changes)
    data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(10, 20)}
    trainer = cls(Toy() if model is None else model, args, callbacks=[*callbacks], sinks=[sink], **data)
    trainer.train()
    return trainer, sink


def points(sink: MemorySink, phase: str) -> list[tuple[int, dict[str, float]]]:
    return [(each.step, dict(each.metrics)) for each in sink.snapshots if each.phase == phase and each.metrics]


@pytest.mark.parametrize("own", [Copied, CopiedToOtherDict, WithoutHistory])
def test_a_copied_log_loses_nothing(tmp_path, own, caplog) -> None:
    hears = Hears()
    trainer, sink = trained(own, tmp_path, hears)
    assert points(sink, "train") == TRAIN
    assert points(sink, "eval") == EVAL
    assert [logs["a/loss"] for logs in hears.logs if "a/loss" in logs] == [1.5, 3.5]
    assert [logs["eval_a/loss"] for logs in hears.logs if "eval_a/loss" in logs] == [15.0, 15.0]
    if own is not WithoutHistory:
        assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
        assert rows(trainer, "eval_a/loss") == [(2, 15.0), (4, 15.0)]
        first = next(each for each in sink.snapshots if each.metrics)
        assert first.logs["loss"] == 1.5  # the Trainer's own values go along
    assert trainer.sink_counts["memory"].delivered == len(sink.snapshots)
    assert not caplog.records


@pytest.mark.parametrize("seen", ["no", "all"])
def test_a_row_with_the_run_time_beside_the_tokens_seen_is_no_summary(tmp_path, seen) -> None:
    model = Toy()
    model.main_input_name = "x"
    trainer, sink = trained(LogOfTheTrainer, tmp_path, model=model, include_num_input_tokens_seen=seen)
    assert ("train_runtime" in trainer.state.log_history[0]) is (seen == "all")
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert rows(trainer, "overall_a/loss") == [(4, 2.5)]
    assert points(sink, "train") == TRAIN
    assert points(sink, "overall") == [(4, {"a/loss": 2.5})]
    assert not any(each.is_partial for each in sink.snapshots)


class WithoutFlos:
    """Takes out a value that nobody wants to see."""

    def log(self, logs, *args):
        logs.pop("total_flos", None)
        super().log(logs, *args)


def test_a_summary_without_a_value_that_the_own_log_takes_out_is_a_summary(tmp_path) -> None:
    trainer, sink = trained(WithoutFlos, tmp_path)
    assert rows(trainer, "overall_a/loss") == [(4, 2.5)]
    assert points(sink, "overall") == [(4, {"a/loss": 2.5})]


@pytest.mark.parametrize("at", [3, 4, "the end"])
def test_an_evaluation_of_the_training_data_that_is_logged_twice_is_no_summary(tmp_path, at) -> None:
    class Evaluates(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == at:
                trainer.log(trainer.evaluate(metric_key_prefix="train"))

        def on_train_end(self, args, state, control, **kwargs):
            if at == "the end":
                trainer.log(trainer.evaluate(metric_key_prefix="train"))

    cls = type("Mine", (InOrder, WithoutFlos, HfMultiTaskTrainer), {})
    sink = MemorySink()
    data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(10, 20)}
    trainer = cls(Toy(), arguments(tmp_path, label_names=["x"]), callbacks=[Evaluates()], sinks=[sink], **data)
    trainer.train()
    assert points(sink, "overall") == [(4, {"a/loss": 2.5})]


def test_a_row_of_a_callback_with_the_run_time_so_far_is_no_summary(tmp_path) -> None:
    class Times(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step in (1, 3):
                trainer.log({"train_runtime": 1.0})

    cls = type("Mine", (InOrder, HfMultiTaskTrainer), {})
    sink = MemorySink()
    trainer = cls(Toy(), arguments(tmp_path), callbacks=[Times()], sinks=[sink], train_dataset=numbers(1, 2, 3, 4))
    trainer.train()
    assert points(sink, "train") == TRAIN
    assert points(sink, "overall") == [(4, {"a/loss": 2.5})]


def test_a_log_that_tells_nobody_is_said_at_the_first_event_that_it_misses(tmp_path, caplog) -> None:
    _, sink = trained(Silenced, tmp_path)
    # Clients of earlier tests may log that they still look for their server.
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("mtask_sinks")]
    assert len(messages) == 1
    assert messages[0].startswith("step 2 has no row")
    assert "super().log(logs)" in messages[0]
    assert points(sink, "train") == [(4, {"a/loss": 2.5})]  # at the end, in a row that we log ourselves


@pytest.mark.parametrize("model", [Silent(), Toy()])
def test_a_plain_trainer_with_a_log_of_its_own_hears_nothing(tmp_path, caplog, model) -> None:
    """With `MultiTaskTrainerMixin` below, whose log is called first, every log is right."""

    class Theirs(Silenced, Trainer):
        pass

    class Mine(InOrder, MultiTaskTrainerMixin, Theirs):
        pass

    trainer = Mine(model, arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4))
    trainer.train()
    reported = isinstance(model, Toy) and not isinstance(model, Silent)
    assert rows(trainer, "a/loss") == ([(2, 1.5), (4, 3.5)] if reported else [])


class Raises(TrainerCallback):
    """A tracker that is away at one event."""

    def __init__(self, at: int) -> None:
        self.at = at

    def on_log(self, args, state, control, **kwargs):
        if state.global_step == self.at:
            raise ConnectionError("the tracker is away")


@pytest.mark.parametrize("own", [type("Nothing", (), {}), Copied])
def test_a_callback_that_raises_does_not_lose_the_window(tmp_path, own) -> None:
    sink = MemorySink()
    cls = type("Mine", (InOrder, own, HfMultiTaskTrainer), {})
    trainer = cls(Toy(), arguments(tmp_path), callbacks=[Raises(4)], sinks=[sink], train_dataset=numbers(1, 2, 3, 4))
    with pytest.raises(ConnectionError, match="the tracker is away"):
        trainer.train()
    assert points(sink, "train") == TRAIN
    last = sink.snapshots[-1]
    row = trainer.state.log_history[-1]
    assert row["a/loss"] == 3.5
    assert {"loss": last.logs["loss"], "epoch": last.logs["epoch"]} == {"loss": row["loss"], "epoch": row["epoch"]}


def test_a_row_that_a_callback_logs_while_a_row_is_logged(tmp_path) -> None:
    class Adds(TrainerCallback):
        is_logging = False

        def on_log(self, args, state, control, logs=None, **kwargs):
            if "a/loss" in logs and not self.is_logging:
                self.is_logging = True
                control.should_log = False
                trainer.log({"extra": logs["a/loss"] * 2})
                self.is_logging = False

    cls = type("Mine", (InOrder, HfMultiTaskTrainer), {})
    sink = MemorySink()
    trainer = cls(Toy(), arguments(tmp_path), callbacks=[Adds()], sinks=[sink], train_dataset=numbers(1, 2, 3, 4))
    trainer.train()
    assert points(sink, "train") == TRAIN
    assert rows(trainer, "extra") == [(2, 3.0), (4, 7.0)]


class Probes(TrainerCallback):
    """Logs rows of its own, or predicts, while a row of the training or an evaluation is logged."""

    is_inside = False

    def __init__(self, probe) -> None:
        self.probe = probe

    def on_log(self, args, state, control, logs=None, **kwargs):
        if ("loss" in logs or "eval_runtime" in logs) and not self.is_inside:
            self.is_inside = True
            self.probe(self.trainer)
            self.is_inside = False


def _in_a_phase(trainer) -> None:
    with torch.no_grad(), trainer.report_phase("probe"):
        trainer.model(torch.tensor([7.0]))


@pytest.mark.parametrize(
    ("probe", "phase"),
    [
        (_in_a_phase, "probe"),
        (lambda trainer: trainer.log({"extra": 5.0}), None),
        (lambda trainer: trainer.predict(numbers(8)), "test"),
    ],
)
def test_each_row_reaches_the_sinks_with_its_own_logs_if_a_callback_logs_in_between(tmp_path, probe, phase) -> None:
    sink, probes = MemorySink(), Probes(probe)
    cls = type("Mine", (InOrder, HfMultiTaskTrainer), {})
    data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(5)}
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=2)
    probes.trainer = trainer = cls(Toy(), args, callbacks=[probes], sinks=[sink], **data)
    trainer.train()
    found = {name: [each for each in sink.snapshots if each.phase == name] for name in ("train", "eval", phase)}
    losses = [(each.logs["loss"], each.metrics["a/loss"]) for each in found["train"] if "loss" in each.logs]
    assert losses == [(1.5, 1.5), (3.5, 3.5)]
    assert [("eval_runtime" in each.logs, each.metrics["a/loss"]) for each in found["eval"]] == [(True, 5.0)] * 2
    if phase is not None:
        expected = 7.0 if phase == "probe" else 8.0
        assert [each.metrics["a/loss"] for each in found[phase]] == [expected] * 4


def test_the_summary_has_the_values_over_the_training_even_if_no_row_cleared_the_request_for_one(tmp_path) -> None:
    cls = type("Mine", (InOrder, HfMultiTaskTrainer), {})
    args = arguments(tmp_path, max_steps=1, logging_strategy="epoch", logging_first_step=True)
    trainer = cls(Toy(), args, train_dataset=numbers(3, 4))
    assert trainer.train().metrics["overall_a/loss"] == 3.0
    assert rows(trainer, "a/loss") == [(1, 3.0)]
