"""What a checkpoint holds at the end of an epoch, in the middle of one, and after a training that was cut short."""

from __future__ import annotations

import pytest
import torch
from helpers.toy import InOrder, Reports, arguments, numbers, rows
from transformers import Trainer, TrainerCallback

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, read_journal, report_metrics
from mtask_sinks.analysis.counted import read_trainings


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


class InOrderPlain(InOrder, Trainer):
    pass


@pytest.mark.parametrize("strategy", ["epoch", "steps"])
def test_a_resume_in_the_middle_of_an_epoch_keeps_its_value(tmp_path, strategy) -> None:
    def trainer() -> Ordered:
        args = arguments(tmp_path, num_train_epochs=2, logging_steps=4, save_strategy=strategy, save_steps=5)
        return Ordered(Reports(), args, train_dataset=numbers(1, 2, 6), metrics=MetricRegistry(per_epoch="*/loss"))

    whole, resumed = trainer(), trainer()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{5 if strategy == 'steps' else 3}"))
    for key in ("epoch_a/loss", "a/loss", "overall_a/loss"):
        assert rows(resumed, key) == rows(whole, key)
    assert rows(whole, "epoch_a/loss") == [(3, 3.0), (6, 3.0)]


@pytest.mark.parametrize("logging", ["epoch", "steps"])
def test_a_resume_at_the_end_of_an_epoch_begins_the_next_one(tmp_path, logging) -> None:
    def trainer(epochs: int, name: str = "resumed") -> Ordered:
        changes = {"logging_strategy": logging, "logging_steps": 4, "save_strategy": "steps", "save_steps": 2}
        args = arguments(tmp_path / name, num_train_epochs=epochs, **changes)
        registry = MetricRegistry({"*/n": "sum"}, per_epoch="*")
        return Ordered(Reports(), args, train_dataset=numbers(1, 2, 6, 7), metrics=registry)

    whole, first, second = trainer(2, "whole"), trainer(1), trainer(2)
    whole.train()
    first.train()
    second.train(resume_from_checkpoint=True)
    for key in ("epoch_a/loss", "epoch_a/n", "a/loss", "a/n", "loss"):
        assert rows(first, key) + [row for row in rows(second, key) if row[0] > 4] == rows(whole, key)
    assert rows(second, "overall_a/n") == rows(whole, "overall_a/n")
    assert rows(whole, "epoch_a/loss") == rows(whole, "a/loss") == [(4, 4.0), (8, 4.0)]


def test_a_resume_at_the_end_of_an_epoch_keeps_the_window_that_goes_across_it(tmp_path) -> None:
    def trainer(epochs: int) -> Ordered:
        changes = {"logging_steps": 3, "save_strategy": "steps", "save_steps": 4}
        registry = MetricRegistry({"*/n": "sum"}, per_epoch="*")
        data = numbers(1, 2, 6, 7)
        return Ordered(
            Reports(), arguments(tmp_path, num_train_epochs=epochs, **changes), train_dataset=data, metrics=registry
        )

    first, second = trainer(1), trainer(2)
    first.train()
    second.train(resume_from_checkpoint=True)
    assert [row for row in rows(second, "a/loss") if row[0] > 4] == [(6, (7 + 1 + 2) / 3)]
    assert [row for row in rows(second, "epoch_a/loss") if row[0] > 4] == [(8, 4.0)]


def test_a_training_that_stops_in_mid_epoch_has_no_row_for_it_and_its_resume_has(tmp_path) -> None:
    def trainer(max_steps: int) -> Ordered:
        changes = {"logging_steps": 2, "save_strategy": "epoch", "max_steps": max_steps}
        registry = MetricRegistry(per_epoch="*/loss")
        return Ordered(Reports(), arguments(tmp_path, **changes), train_dataset=numbers(1, 2, 6, 7), metrics=registry)

    first, second = trainer(3), trainer(8)
    first.train()
    second.train(resume_from_checkpoint=True)
    assert rows(first, "epoch_a/loss") == []
    assert rows(second, "epoch_a/loss") == [(4, 4.0), (8, 4.0)]


def test_the_row_of_an_epoch_that_was_cut_short_is_partial_so_that_its_resume_counts_once(tmp_path) -> None:
    def trainer(max_steps: int) -> Ordered:
        args = arguments(tmp_path, logging_strategy="epoch", save_strategy="steps", save_steps=3, max_steps=max_steps)
        return Ordered(Reports(), args, train_dataset=numbers(1, 2, 6, 7), metrics=MetricRegistry({"*/n": "sum"}))

    first = trainer(3)
    first.train()
    trainer(8).train(resume_from_checkpoint=True)
    assert rows(first, "a/n") == [(3, 3.0)]
    runs = read_journal(tmp_path)
    found = [(each.step, each.metrics["a/n"], each.is_partial) for run in runs for each in run.snapshots
             if each.phase == "train" and "a/n" in each.metrics]  # fmt: skip
    assert found == [(3, 3.0, True), (4, 4.0, False), (8, 4.0, False)]


class Endless(torch.utils.data.IterableDataset):
    """Four numbers, without a length."""

    def __iter__(self):
        return iter(numbers(1, 2, 6, 7))


def test_a_resume_that_begins_data_without_a_length_anew_begins_an_epoch(tmp_path) -> None:
    def trainer(name: str) -> HfMultiTaskTrainer:
        changes = {"max_steps": 8, "save_strategy": "steps", "save_steps": 4, "ignore_data_skip": True}
        args = arguments(tmp_path / name, logging_steps=4, **changes)
        return HfMultiTaskTrainer(
            Reports(), args, train_dataset=Endless(), metrics=MetricRegistry({"*/n": "sum"}, per_epoch="*/n")
        )

    whole, second = trainer("whole"), trainer("resumed")
    whole.train()
    second.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert [row for row in rows(second, "epoch_a/n") if row[0] > 4] == [(8, 4.0)]
    assert rows(whole, "epoch_a/n") == [(4, 4.0), (8, 4.0)]


def counted(directory) -> list[tuple[int, float]]:
    """Return step and number of reports of each row of the training that counts, after all resumes."""
    (training,) = read_trainings(directory)
    series = training.series["train", "a/n"]
    return [(training.steps[at], value) for at, value in zip(series.at, series.values)]


def test_a_row_in_mid_epoch_that_comes_before_its_checkpoint_counts_after_a_resume(tmp_path) -> None:
    def trainer(max_steps: int) -> Ordered:
        args = arguments(tmp_path, logging_strategy="epoch", save_strategy="epoch", max_steps=max_steps)
        return Ordered(Reports(), args, train_dataset=numbers(1, 2, 6, 7), metrics=MetricRegistry({"*/n": "sum"}))

    trainer(3).train()
    resumed = trainer(8)
    resumed.train(resume_from_checkpoint=True)
    assert rows(resumed, "overall_a/n") == [(8, 8.0)]
    assert counted(tmp_path) == [(3, 3.0), (4, 1.0), (8, 4.0)]


class Retrieves(TrainerCallback):
    """Reports by itself after each evaluation: between the row of an epoch and its checkpoint."""

    def on_evaluate(self, args, state, control, **kwargs) -> None:
        report_metrics("retrieval", recall=state.global_step)


@pytest.mark.parametrize("logging", ["epoch", "steps"])
def test_a_report_between_the_row_of_an_epoch_and_its_checkpoint_is_in_the_next_row(tmp_path, logging) -> None:
    def trainer(name: str) -> Ordered:
        strategies = dict.fromkeys(("eval_strategy", "save_strategy"), "epoch")
        args = arguments(tmp_path / name, num_train_epochs=3, logging_strategy=logging, logging_steps=3, **strategies)
        data = {"train_dataset": numbers(1, 2, 6, 7), "eval_dataset": numbers(10)}
        return Ordered(Reports(), args, **data, metrics=MetricRegistry(per_epoch="*"), callbacks=[Retrieves()])

    whole, resumed = trainer("whole"), trainer("resumed")
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    for key in ("retrieval/recall", "epoch_retrieval/recall"):
        assert rows(resumed, key) == rows(whole, key)
    assert rows(whole, "epoch_retrieval/recall") == [(8, 4.0), (12, 8.0)]


@pytest.mark.parametrize(
    ("first", "save", "second", "expected"),
    [
        ("steps", "epoch", "epoch", [(8, 8.0)]),  # the window was open at the end of the epoch
        ("steps", "steps", "epoch", [(8, 8.0)]),
        ("epoch", "steps", "steps", [(4, 4.0), (8, 4.0)]),  # the first process logged its row after the checkpoint
        ("epoch", "epoch", "steps", [(4, 4.0), (8, 4.0)]),
    ],
)
def test_a_resume_with_another_logging_strategy_counts_each_report_once(
    tmp_path, first: str, save: str, second: str, expected: list[tuple[int, float]]
) -> None:
    def trainer(strategy: str, epochs: int) -> Ordered:
        changes = {"logging_strategy": strategy, "logging_steps": 8, "save_strategy": save, "save_steps": 4}
        args = arguments(tmp_path, num_train_epochs=epochs, **changes)
        return Ordered(Reports(), args, train_dataset=numbers(1, 2, 6, 7), metrics=MetricRegistry({"*/n": "sum"}))

    trainer(first, 1).train()
    trainer(second, 2).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert counted(tmp_path) == expected


@pytest.mark.parametrize("logging", ["epoch", "steps"])
def test_a_cut_through_data_without_a_length_ends_no_epoch(tmp_path, logging) -> None:
    def trainer(name: str, max_steps: int) -> HfMultiTaskTrainer:
        changes = {"logging_strategy": logging, "save_strategy": "steps", "save_steps": 3, "max_steps": max_steps}
        registry = MetricRegistry({"*/n": "sum"}, per_epoch="*/n")
        return HfMultiTaskTrainer(
            Reports(), arguments(tmp_path / name, **changes), train_dataset=Endless(), metrics=registry
        )

    whole, first, second = trainer("whole", 8), trainer("resumed", 3), trainer("resumed", 8)
    whole.train()
    first.train()
    second.train(resume_from_checkpoint=True)
    assert rows(first, "epoch_a/n") == []
    assert rows(second, "epoch_a/n") == rows(whole, "epoch_a/n") == [(4, 4.0), (8, 4.0)]
    assert counted(tmp_path / "resumed") == counted(tmp_path / "whole")


@pytest.mark.parametrize("data", [Endless(), numbers(1, 2, 6, 7)], ids=["endless", "with a length"])
def test_a_window_of_data_that_begin_anew_is_in_the_next_row(tmp_path, data) -> None:
    def trainer(name: str) -> HfMultiTaskTrainer:
        changes = {"max_steps": 8, "save_strategy": "steps", "save_steps": 2, "ignore_data_skip": True}
        args = arguments(tmp_path / name, logging_strategy="epoch", **changes)
        registry = MetricRegistry({"*/n": "sum"}, per_epoch="*/n")
        return HfMultiTaskTrainer(Reports(), args, train_dataset=data, metrics=registry)

    trainer("whole").train()
    resumed = trainer("resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert rows(resumed, "a/n") == [(6, 6.0), (8, 2.0)]  # 2 of the checkpoint and 4 of the first pass, then a cut pass
    assert rows(resumed, "epoch_a/n") == [(6, 4.0)]


class StopsAt(TrainerCallback):
    """Stops the training when a row is logged, as an alert and `EarlyStoppingCallback` do: after the step has ended."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_log(self, args, state, control, **kwargs) -> None:
        control.should_training_stop |= state.global_step == self.step


@pytest.mark.parametrize("save", ["steps", "epoch"])
def test_a_stop_in_mid_epoch_by_a_callback_ends_no_epoch(tmp_path, save) -> None:
    def trainer(*callbacks: TrainerCallback) -> Ordered:
        args = arguments(tmp_path, num_train_epochs=2, logging_steps=1, save_strategy=save, save_steps=3)
        registry = MetricRegistry({"*/n": "sum"}, per_epoch="*/n")
        data = numbers(1, 2, 6, 7)
        return Ordered(Reports(), args, train_dataset=data, metrics=registry, callbacks=list(callbacks))

    first, second = trainer(StopsAt(3)), trainer()
    first.train()
    second.train(resume_from_checkpoint=True)
    assert first.state.global_step == 3 and rows(first, "epoch_a/n") == []
    assert rows(second, "epoch_a/n") == [(4, 4.0), (8, 4.0)]
    assert counted(tmp_path) == [(step, 1.0) for step in range(1, 9)]


def test_a_resume_at_the_end_of_the_last_epoch_delivers_no_report_again(tmp_path) -> None:
    changes = {"logging_strategy": "epoch", "save_strategy": "steps", "save_steps": 3}
    for resume in (False, True):
        trainer = Ordered(Reports(), arguments(tmp_path, **changes), train_dataset=numbers(1, 2, 6))
        trainer.train(resume_from_checkpoint=resume)
    assert [[each.phase for each in run.snapshots] for run in read_journal(tmp_path)] == [
        ["train", "overall"],
        ["overall"],
    ]


def test_what_a_callback_reports_when_a_training_is_resumed_counts_for_the_next_epoch(tmp_path) -> None:
    class Begins(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs) -> None:
            report_metrics("begin", step=state.global_step)

    changes = {"logging_strategy": "epoch", "save_strategy": "steps", "save_steps": 3}
    for epochs in (1, 2):
        args = arguments(tmp_path, num_train_epochs=epochs, **changes)
        metrics = MetricRegistry(per_epoch="*")
        trainer = Ordered(Reports(), args, train_dataset=numbers(1, 2, 6), metrics=metrics, callbacks=[Begins()])
        trainer.train(resume_from_checkpoint=epochs == 2)
    assert rows(trainer, "begin/step")[-1] == rows(trainer, "epoch_begin/step")[-1] == (6, 3.0)


class SaveIn(TrainerCallback):
    """Writes a checkpoint in some event, and stops the training, as the callback of ``enable_jit_checkpoint`` does."""

    def __init__(self, event: str, step: int) -> None:
        self.trainer: HfMultiTaskTrainer | None = None
        self.step = step
        setattr(self, event, self.save)

    def save(self, args, state, control, **kwargs) -> None:
        if self.trainer is not None and state.global_step == self.step:
            control.should_training_stop = True
            self.trainer._save_checkpoint(self.trainer.model, trial=None)
            self.trainer = None


class ReportsAPart(Reports):
    """Also reports in a phase inside of the steps."""

    def extra(self, x, loss) -> None:
        super().extra(x, loss)
        with self.trainer().report_phase("part"):
            report_metrics("a", n=x.numel())


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(
    ("event", "step"),
    [("on_step_begin", 4), ("on_pre_optimizer_step", 3), ("on_pre_optimizer_step", 4), ("on_step_end", 2),
     ("on_step_end", 3), ("on_log", 2), ("on_log", 4)],
)  # fmt: skip
def test_each_report_counts_once_if_a_callback_writes_the_checkpoint(tmp_path, event, step, accumulation) -> None:
    def trainer(name: str, *callbacks: SaveIn) -> Ordered:
        changes = {"gradient_accumulation_steps": accumulation, "num_train_epochs": 2}
        model = ReportsAPart()
        made = Ordered(
            model,
            arguments(tmp_path / name, **changes),
            train_dataset=numbers(*range(4 * accumulation)),
            callbacks=[*callbacks],
            metrics=MetricRegistry({"*/n": "sum"}, per_epoch="*"),
        )
        model.trainer = lambda: made
        for each in callbacks:
            each.trainer = made
        return made

    whole, first, second = trainer("whole"), trainer("resumed", SaveIn(event, step)), trainer("resumed")
    whole.train()
    first.train()
    second.train(resume_from_checkpoint=str(tmp_path / "resumed" / f"checkpoint-{step}"))
    for key in ("a/loss", "a/n", "part_a/n", "epoch_a/loss", "epoch_a/n"):
        before = [row for row in rows(first, key) if row[0] <= step]
        assert before + [row for row in rows(second, key) if row[0] > step] == rows(whole, key)
    assert rows(second, "overall_a/n") == rows(whole, "overall_a/n") == [(8, 8.0 * accumulation)]


def test_a_step_that_is_repeated_in_fewer_micro_batches_counts_once(tmp_path) -> None:
    def trainer(accumulation: int, *callbacks: SaveIn) -> Ordered:
        args = arguments(tmp_path, max_steps=6, gradient_accumulation_steps=accumulation)
        registry = MetricRegistry({"*/n": "sum"})
        return Ordered(Reports(), args, train_dataset=numbers(*range(12)), callbacks=[*callbacks], metrics=registry)

    save = SaveIn("on_pre_optimizer_step", 3)
    first, second = trainer(2, save), trainer(1)
    save.trainer = first
    first.train()
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert [row for row in rows(second, "a/n") if row[0] > 3] == [(4, 4.0), (6, 2.0)]


@pytest.mark.parametrize("second", ["on_step_begin", "on_substep_end", "on_pre_optimizer_step"])
@pytest.mark.parametrize("first", ["on_substep_end", "on_pre_optimizer_step"])
@pytest.mark.parametrize("step", [3, 4])
def test_a_step_counts_once_if_the_resumed_training_also_stops_inside_of_it(tmp_path, first, second, step) -> None:
    def train(save: SaveIn | None, resume: str | None) -> Ordered:
        args = arguments(tmp_path, num_train_epochs=2, gradient_accumulation_steps=2)
        registry = MetricRegistry({"*/n": "sum"}, per_epoch="*/n")
        callbacks = [] if save is None else [save]
        trainer = Ordered(Reports(), args, train_dataset=numbers(*range(8)), callbacks=callbacks, metrics=registry)
        if save is not None:
            save.trainer = trainer
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    checkpoint = str(tmp_path / f"checkpoint-{step}")
    train(SaveIn(first, step), None)
    train(SaveIn(second, step), checkpoint)
    trainer = train(None, checkpoint)
    assert rows(trainer, "a/n")[-2:] == [(6, 4.0), (8, 4.0)]
    assert rows(trainer, "epoch_a/n") == [(4, 8.0), (8, 8.0)]
    assert rows(trainer, "overall_a/n") == [(8, 16.0)]


class Interrupts(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_pre_optimizer_step(self, args, state, control, **kwargs) -> None:
        if state.global_step == self.step:
            raise KeyboardInterrupt


def test_a_checkpoint_after_an_interrupt_drops_no_report_of_the_step_that_a_resume_does_again(tmp_path) -> None:
    def trainer(*callbacks: TrainerCallback) -> Ordered:
        args = arguments(tmp_path, max_steps=6, gradient_accumulation_steps=2)
        registry = MetricRegistry({"*/n": "sum"})
        return Ordered(Reports(), args, train_dataset=numbers(*range(12)), callbacks=[*callbacks], metrics=registry)

    first, second = trainer(Interrupts(2)), trainer()
    with pytest.raises(KeyboardInterrupt):
        first.train()
    first._save_checkpoint(first.model, trial=None)
    second.train(resume_from_checkpoint=True)
    assert rows(second, "a/n") == [(2, 4.0), (4, 4.0), (6, 4.0)]


class Ten(torch.utils.data.IterableDataset):
    """Ten numbers, without a length."""

    def __iter__(self):
        yield from numbers(*range(10))


@pytest.mark.parametrize("logging", ["epoch", "steps"])
def test_the_end_of_an_epoch_inside_of_a_step_counts_once_if_a_callback_writes_the_checkpoint_there(
    tmp_path, logging
) -> None:
    def trainer(name: str, *callbacks: SaveIn) -> Ordered:
        changes = {"max_steps": 5, "gradient_accumulation_steps": 4, "logging_strategy": logging}
        registry = MetricRegistry({"*/n": "sum"}, per_epoch="*/n")
        made = Ordered(
            Reports(),
            arguments(tmp_path / name, **changes),
            train_dataset=Ten(),
            callbacks=[*callbacks],
            metrics=registry,
        )
        for each in callbacks:
            each.trainer = made
        return made

    whole, first, second = trainer("whole"), trainer("resumed", SaveIn("on_epoch_end", 2)), trainer("resumed")
    whole.train()
    first.train()
    second.train(resume_from_checkpoint=str(tmp_path / "resumed" / "checkpoint-2"))
    for key in ("a/n", "epoch_a/n", "overall_a/n"):
        assert [row for row in rows(second, key) if row[0] > 2] == [row for row in rows(whole, key) if row[0] > 2]
    assert rows(second, "overall_a/n") == [(5, 24.0)]


@pytest.mark.parametrize(("step", "begins_anew"), [(2, False), (4, False), (2, True)])
def test_a_resume_at_the_end_of_an_epoch_inside_of_a_step_drops_only_reports_that_it_repeats(
    tmp_path, step, begins_anew
) -> None:
    def trainer(name: str) -> Ordered:
        changes = {"max_steps": 5, "gradient_accumulation_steps": 4, "logging_steps": 1, "save_strategy": "epoch"}
        args = arguments(tmp_path / name, ignore_data_skip=begins_anew, **changes)
        return Ordered(Reports(), args, train_dataset=Ten(), metrics=MetricRegistry({"*/n": "sum"}))

    trainer("whole").train()
    resumed = trainer("resumed")
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{step}"))
    # The Trainer does the last two micro-batches of the first epoch again. Otherwise it begins the data anew.
    after = [(3, 6.0), (4, 4.0), (5, 6.0)]
    assert [row for row in rows(resumed, "a/n") if row[0] > step] == [row for row in after if row[0] > step]


class StopsInStep(StopsAt):
    def on_step_end(self, args, state, control, **kwargs) -> None:
        control.should_training_stop |= state.global_step == self.step


def test_a_resume_counts_the_partial_row_of_a_cut_epoch_again_if_a_callback_wrote_the_checkpoint(tmp_path) -> None:
    def trainer(*callbacks: TrainerCallback) -> Ordered:
        args = arguments(tmp_path, num_train_epochs=2, logging_strategy="epoch")
        registry = MetricRegistry({"*/n": "sum"}, per_epoch="*/n")
        data = numbers(1, 2, 6, 7)
        return Ordered(Reports(), args, train_dataset=data, metrics=registry, callbacks=list(callbacks))

    save = SaveIn("on_epoch_end", 3)
    first, second = trainer(StopsInStep(3), save), trainer()
    save.trainer = first
    first.train()
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
    assert rows(second, "a/n") == rows(second, "epoch_a/n") == [(4, 4.0), (8, 4.0)]
    found = [(each.step, each.is_partial) for run in read_journal(tmp_path) for each in run.snapshots
             if each.phase == "train"]  # fmt: skip
    assert found == [(3, True), (4, False), (8, False)]


def resume_with_values_per_epoch(path, first: type[Trainer], at: int) -> HfMultiTaskTrainer:
    """Train 9 steps, 3 per epoch; the first ``at`` without values per epoch, and with that class of a trainer."""
    args = arguments(path, max_steps=9, logging_steps=2, save_strategy="steps", save_steps=at)
    first(Reports(), args, train_dataset=numbers(1, 2, 6)).train()
    registry = MetricRegistry({"*/n": "total"}, per_epoch="*")
    resumed = Ordered(Reports(), args, train_dataset=numbers(1, 2, 6), metrics=registry)
    resumed.train(resume_from_checkpoint=str(path / f"checkpoint-{at}"))
    return resumed


@pytest.mark.parametrize("first", [Ordered, InOrderPlain])
@pytest.mark.parametrize(("at", "epochs"), [(2, [6, 9]), (3, [6, 9]), (4, [9]), (5, [9])])
def test_an_epoch_whose_beginning_the_checkpoint_lacks_has_no_values(tmp_path, caplog, first, at, epochs) -> None:
    resumed = resume_with_values_per_epoch(tmp_path, first, at)
    assert rows(resumed, "epoch_a/loss") == [(step, 3.0) for step in epochs]
    assert rows(resumed, "epoch_a/n") == [(step, 3.0) for step in epochs]
    assert ("values per epoch, because the checkpoint" in caplog.text) == (at != 3)


def test_values_over_the_whole_training_are_explained_if_the_checkpoint_lacks_a_part_of_them(tmp_path, caplog) -> None:
    resumed = resume_with_values_per_epoch(tmp_path, InOrderPlain, 4)
    assert rows(resumed, "overall_a/n") == [(9, 5.0)]
    assert caplog.text.count("holds no values over the whole training") == 1


def test_a_checkpoint_of_this_trainer_needs_no_explanation(tmp_path, caplog) -> None:
    resume_with_values_per_epoch(tmp_path, Ordered, 4)
    assert "holds no values over the whole training" not in caplog.text
