"""Phases that the user names: in callbacks, in evaluations of their own, inside a step."""

from __future__ import annotations

import threading

import pytest
import torch
from helpers.toy import InOrder, Toy, arguments, numbers, points, rows
from transformers import Trainer, TrainerCallback

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, MultiTaskTrainerMixin, report_metrics
from mtask_sinks.sinks import MemorySink

OWN = [(2, 1.5), (4, 3.5)]


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


class Probe(TrainerCallback):
    """Runs the model on numbers of its own after every step."""

    def __init__(self, *values, name="probe") -> None:
        self.values, self.name = values, name
        self.seen: list[dict[str, float]] = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        model.eval()
        with torch.no_grad(), self.trainer.report_phase(self.name) as metrics:
            for value in self.values:
                model(torch.tensor([[float(value)]]))
        self.seen.append(metrics)


def trained(tmp_path, *callbacks, cls=Ordered, **changes):
    args = arguments(tmp_path, **changes)
    sink = MemorySink()
    data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(10, 20)}
    trainer = cls(Toy(), args, callbacks=[*callbacks], sinks=[sink], **data)
    for callback in callbacks:
        callback.trainer = trainer
    trainer.train()
    return trainer, sink.snapshots


def test_a_phase_in_a_callback_is_logged_like_an_evaluation(tmp_path) -> None:
    probe = Probe(100, 300)
    trainer, snapshots = trained(tmp_path, probe)
    assert rows(trainer, "a/loss") == OWN
    assert rows(trainer, "probe_a/loss") == [(step, 200.0) for step in (1, 2, 3, 4)]
    assert probe.seen == [{"probe_a/loss": 200.0}] * 4
    found = [(each.step, dict(each.metrics), dict(each.counts)) for each in snapshots if each.phase == "probe"]
    assert found == [(step, {"a/loss": 200.0}, {"a/loss": 2}) for step in (1, 2, 3, 4)]
    assert not trainer.metric_registry.dropped


def test_a_trainer_class_that_adds_its_own_values_keeps_them_for_the_row_of_their_mode(tmp_path) -> None:
    class AsInTrl(InOrder, Trainer):
        """Adds a mean to the rows of each mode, and tells the mode from the model, as TRL's trainers do."""

        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            self.own = {True: [], False: []}

        def compute_loss(self, model, inputs, *args, **kwargs):
            self.own[model.training].append(inputs["x"].mean().item())
            return super().compute_loss(model, inputs, *args, **kwargs)

        def log(self, logs, *args):
            own = self.own[self.model.training]
            super().log({**logs, **({"own": sum(own) / len(own)} if own else {})}, *args)
            own.clear()

    class Added(MultiTaskTrainerMixin, AsInTrl):
        pass

    class InTraining(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            frozen = model.part.training = False
            with self.trainer.report_phase("probe"):
                report_metrics("a", loss=1.0)
            assert model.training and model.part.training is frozen

    class TwoParts(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.part = torch.nn.Dropout()

    probe = InTraining()
    trainer = Added(TwoParts(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4), callbacks=[probe])
    probe.trainer = trainer
    trainer.train()
    assert rows(trainer, "own") == OWN
    assert rows(trainer, "probe_a/loss") == [(step, 1.0) for step in (1, 2, 3, 4)]


def test_the_value_of_a_phase_chooses_nothing_but_is_there_for_the_callbacks(tmp_path) -> None:
    class Hears(TrainerCallback):
        def __init__(self) -> None:
            self.logs: list[dict[str, float]] = []

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.logs.append(dict(logs))

    hears = Hears()
    trained(tmp_path, Probe(7), hears)
    assert [logs["probe_a/loss"] for logs in hears.logs if "probe_a/loss" in logs] == [7.0] * 4


class OwnEvaluate(Ordered):
    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        self.model.eval()
        with torch.no_grad(), self.report_phase(metric_key_prefix) as metrics:
            for batch in self.get_eval_dataloader(eval_dataset):
                self.model(**batch)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


@pytest.mark.parametrize("is_training", [True, False])
def test_an_evaluation_of_the_users_own_in_a_phase_is_an_evaluation(tmp_path, is_training) -> None:
    settings = {"eval_strategy": "steps", "eval_steps": 2} if is_training else {}
    if is_training:
        trainer, snapshots = trained(tmp_path, cls=OwnEvaluate, **settings)
        assert rows(trainer, "a/loss") == OWN
        assert rows(trainer, "eval_a/loss") == [(2, 15.0), (4, 15.0)]
        assert [each.step for each in snapshots if each.phase == "eval"] == [2, 4]
    else:
        trainer = OwnEvaluate(Toy(), arguments(tmp_path), eval_dataset=numbers(10, 20))
        assert trainer.evaluate() == {"eval_a/loss": 15.0}
        assert not hasattr(trainer.model, "report_metrics")


def test_the_best_checkpoint_can_be_chosen_by_a_phase(tmp_path) -> None:
    trainer, _ = trained(
        tmp_path,
        cls=OwnEvaluate,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_a/loss",
        greater_is_better=False,
    )
    assert trainer.state.best_metric == 15.0


class Rollout(Ordered):
    """Generates inside of the step, as trainers of reinforcement learning do."""

    def training_step(self, model, inputs, *args, **kwargs):
        with torch.no_grad(), self.report_phase("rollout"):
            model(inputs["x"] * 100)
        return super().training_step(model, inputs, *args, **kwargs)


def test_a_phase_inside_a_step_is_reduced_with_the_training(tmp_path) -> None:
    trainer, snapshots = trained(tmp_path, cls=Rollout)
    assert rows(trainer, "a/loss") == OWN
    assert rows(trainer, "rollout_a/loss") == [(2, 150.0), (4, 350.0)]
    assert [(each.step, each.phase) for each in snapshots if each.metrics] == [
        (2, "train"),
        (2, "rollout"),
        (4, "train"),
        (4, "rollout"),
        (4, "overall"),
    ]


def test_a_phase_inside_a_step_is_in_the_checkpoint(tmp_path) -> None:
    settings = {"save_strategy": "steps", "save_steps": 3, "logging_steps": 4, "max_steps": 4}
    whole, _ = trained(tmp_path / "whole", cls=Rollout, **settings)
    first = Rollout(Toy(), arguments(tmp_path / "two", **settings), train_dataset=numbers(1, 2, 3, 4))
    first.train()
    second = Rollout(Toy(), arguments(tmp_path / "two", **settings), train_dataset=numbers(1, 2, 3, 4))
    second.train(resume_from_checkpoint=str(tmp_path / "two" / "checkpoint-3"))
    assert rows(second, "rollout_a/loss") == rows(whole, "rollout_a/loss") == [(4, 250.0)]


def test_the_rest_of_a_phase_is_delivered_at_the_end(tmp_path) -> None:
    trainer, snapshots = trained(tmp_path, cls=Rollout, logging_steps=3)
    assert rows(trainer, "rollout_a/loss") == [(3, 200.0)]
    assert points(trainer, "a/loss", "rollout") == [(3, 200.0), (4, 400.0)]
    assert [each.is_partial for each in snapshots if each.phase == "rollout"] == [False, True]


def test_a_phase_in_a_thread_is_reduced_with_the_training(tmp_path) -> None:
    class InThread(Probe):
        def on_step_end(self, *args, **kwargs):
            parent = super().on_step_end
            thread = threading.Thread(target=lambda: parent(*args, **kwargs))
            thread.start()
            thread.join()

    trainer, _ = trained(tmp_path, InThread(100, 300))
    assert rows(trainer, "a/loss") == OWN
    # The second step ends before its log event, the fourth too.
    assert rows(trainer, "probe_a/loss") == [(2, 200.0), (4, 200.0)]


def test_a_phase_inside_an_evaluation_step_is_a_row_of_its_own(tmp_path) -> None:
    class Inside(Ordered):
        def prediction_step(self, model, inputs, *args, **kwargs):
            with self.report_phase("inner"):
                report_metrics("n", x=inputs["x"].sum())
            return super().prediction_step(model, inputs, *args, **kwargs)

    trainer = Inside(Toy(), arguments(tmp_path, label_names=["x"]), eval_dataset=numbers(10, 20))
    metrics = trainer.evaluate()
    assert metrics["eval_a/loss"] == 15.0
    assert "eval_n/x" not in metrics
    assert rows(trainer, "eval_inner_n/x") == [(0, 15.0)]


def test_a_phase_inside_the_steps_of_the_users_own_evaluation_is_a_row_of_its_own(tmp_path) -> None:
    class Own(Ordered):
        def prediction_step(self, model, inputs, *args, **kwargs):
            with self.report_phase("inner"):
                report_metrics("n", x=inputs["x"].sum())
            return super().prediction_step(model, inputs, *args, **kwargs)

        def evaluate(self):
            with self.report_phase("eval") as metrics:
                for batch in self.get_eval_dataloader():
                    self.prediction_step(self.model, batch, True)
            return metrics

    trainer = Own(Toy(), arguments(tmp_path), eval_dataset=numbers(10, 20))
    assert trainer.evaluate() == {"eval_a/loss": 15.0}
    assert rows(trainer, "inner_n/x") == [(0, 15.0)]
    assert trainer.evaluate() == {"eval_a/loss": 15.0}
    assert rows(trainer, "inner_n/x") == [(0, 15.0)] * 2


class InnerAndBeside(Ordered):
    """Has a phase inside of each evaluation step, and a second one after it."""

    def prediction_step(self, model, inputs, *args, **kwargs):
        with self.report_phase("inner"):
            report_metrics("n", x=inputs["x"].sum())
        return super().prediction_step(model, inputs, *args, **kwargs)

    def evaluate_by_hand(self):
        with self.report_phase("eval") as metrics:
            for batch in self.get_eval_dataloader():
                self.prediction_step(self.model, batch, True)
                with self.report_phase("beside"):
                    report_metrics("m", y=1)
        return metrics


class Beside(TrainerCallback):
    def on_prediction_step(self, args, state, control, **kwargs):
        with self.trainer.report_phase("beside"):
            report_metrics("m", y=1)


def test_a_report_at_the_row_of_a_phase_inside_of_an_evaluation_counts_in_the_training(tmp_path) -> None:
    class AtRows(TrainerCallback):
        def on_log(self, args, state, control, **kwargs):
            report_metrics("rows", n=1)

    trainer = InnerAndBeside(
        Toy(),
        arguments(tmp_path, label_names=["x"], eval_strategy="steps", eval_steps=1),
        train_dataset=numbers(1, 2, 3, 4),
        eval_dataset=numbers(10, 20),
        callbacks=[AtRows()],
        metrics=MetricRegistry({"rows/n": "sum"}),
    )
    trainer.train()
    # Each evaluation has two rows. The first row of the training comes after the evaluation of step 1, the second one
    # after the first one and the evaluations of steps 2 and 3.
    assert rows(trainer, "eval_inner_n/x") == [(step, 15.0) for step in (1, 2, 3, 4)]
    assert rows(trainer, "rows/n") == [(2, 2.0), (4, 5.0)]


def test_a_row_that_a_callback_logs_gets_no_values_of_a_phase_inside_of_an_evaluation(tmp_path) -> None:
    class TwoInside(Toy):
        def forward(self, *args, **kwargs):
            for name in ("one", "two"):
                with trainer.report_phase(name):
                    report_metrics("n", x=1)
            return super().forward(*args, **kwargs)

    class AtFirst(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            if "eval_one_n/x" in logs:
                trainer.log({"eval_two_mine": 5.0})

    sink = MemorySink()
    args = arguments(tmp_path, label_names=["x"])
    trainer = Ordered(TwoInside(), args, eval_dataset=numbers(10, 20), callbacks=[AtFirst()], sinks=[sink])
    trainer.evaluate()
    phases = [each.phase for each in sink.snapshots if "n/x" in each.metrics]
    assert sorted(phases) == ["eval_one", "eval_two"]


@pytest.mark.parametrize("is_own", [False, True])
def test_a_phase_beside_the_steps_of_an_evaluation_does_not_end_the_phase_inside_of_them(tmp_path, is_own) -> None:
    beside = Beside()
    callbacks = [] if is_own else [beside]
    beside.trainer = trainer = InnerAndBeside(
        Toy(), arguments(tmp_path), eval_dataset=numbers(10, 20), callbacks=callbacks
    )
    metrics = trainer.evaluate_by_hand() if is_own else trainer.evaluate()
    assert metrics["eval_a/loss"] == 15.0
    assert rows(trainer, "inner_n/x" if is_own else "eval_inner_n/x") == [(0, 15.0)]
    assert rows(trainer, "beside_m/y") == [(0, 1.0)] * 2


def test_a_phase_without_a_report_says_so_once(tmp_path, caplog) -> None:
    trainer, _ = trained(tmp_path, Probe())
    messages = [record.getMessage() for record in caplog.records if "report_phase" in record.getMessage()]
    assert messages == ["report_phase('probe'): nothing was reported inside the block."]
    assert not rows(trainer, "probe_a/loss")


def test_a_block_that_raises_logs_nothing_and_the_next_one_begins_anew(tmp_path) -> None:
    class Breaks(Probe):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            try:
                with self.trainer.report_phase("probe"):
                    model(torch.tensor([[1e6]]))
                    raise ValueError("no")
            except ValueError:
                super().on_step_end(args, state, control, model=model, **kwargs)

    trainer, _ = trained(tmp_path, Breaks(5))
    assert rows(trainer, "probe_a/loss") == [(step, 5.0) for step in (1, 2, 3, 4)]


@pytest.mark.parametrize("name", ["train", "eval", "eval_books", "rollout", "a b/c", "train_evaluation"])
def test_any_name_is_a_phase_of_its_own(tmp_path, name) -> None:
    trainer, snapshots = trained(tmp_path, Probe(7, name=name))
    assert rows(trainer, "a/loss") == OWN
    assert [value for _, value in rows(trainer, f"{name}_a/loss")] == [7.0] * 4
    assert len({each.phase for each in snapshots if each.metrics} - {"overall"}) == 2


def test_reducers_hold_in_every_phase(tmp_path) -> None:
    registry = MetricRegistry({"a/loss": "max"})
    trainer = Ordered(Toy(), arguments(tmp_path), metrics=registry, train_dataset=numbers(1, 2))
    with trainer.report_phase("probe") as metrics:
        for value in (3.0, 9.0, 6.0):
            trainer.model(torch.tensor([[value]]))
    assert metrics == {"probe_a/loss": 9.0}


def test_a_training_that_is_started_again_forgets_what_a_phase_had_before(tmp_path) -> None:
    class Interrupted(Rollout):
        is_first = True

        def training_step(self, *args, **kwargs):
            loss = super().training_step(*args, **kwargs)
            if self.is_first and self.state.global_step == 2:
                self.is_first = False
                raise KeyboardInterrupt
            return loss

    trainer = Interrupted(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4))
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.train()
    assert rows(trainer, "rollout_a/loss")[-2:] == [(2, 150.0), (4, 350.0)]


class RollsOut(Ordered):
    """Reports its batch for a phase in each step, also in those of evaluations, as TRL's GRPOTrainer generates."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        with self.report_phase("rollout"):
            report_metrics("a", loss=inputs["x"].sum())
        return super().compute_loss(model, inputs, *args, **kwargs)


def test_a_phase_inside_the_steps_of_an_evaluation_is_no_part_of_the_training(tmp_path) -> None:
    changes = {"eval_strategy": "steps", "eval_steps": 1, "label_names": ["x"]}
    trainer, snapshots = trained(tmp_path, cls=RollsOut, **changes)
    assert rows(trainer, "rollout_a/loss") == OWN
    assert rows(trainer, "eval_rollout_a/loss") == [(step, 15.0) for step in (1, 2, 3, 4)]
    assert rows(trainer, "a/loss") == OWN
    assert rows(trainer, "eval_a/loss") == [(step, 15.0) for step in (1, 2, 3, 4)]
    of_evaluations = [each for each in snapshots if each.phase == "eval_rollout"]
    assert [(each.step, dict(each.counts)) for each in of_evaluations] == [(s, {"a/loss": 2}) for s in (1, 2, 3, 4)]


def test_a_phase_inside_the_steps_of_one_of_several_evaluations(tmp_path) -> None:
    trainer = RollsOut(Toy(), arguments(tmp_path, label_names=["x"]))
    for name, data in ("one", numbers(1, 3)), ("two", numbers(10)), ("one", numbers(5)):
        trainer.evaluate(data, metric_key_prefix=f"eval_{name}")
    assert rows(trainer, "eval_one_rollout_a/loss") == [(0, 2.0), (0, 5.0)]
    assert rows(trainer, "eval_two_rollout_a/loss") == [(0, 10.0)]


class Helps(TrainerCallback):
    """Uses the phase of the rollouts outside of the steps too, once."""

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            with self.trainer.report_phase("rollout"):
                report_metrics("a", loss=50.0)


def test_a_phase_of_the_steps_that_a_callback_uses_too_loses_nothing(tmp_path) -> None:
    trainer, snapshots = trained(tmp_path, Helps(), cls=RollsOut, logging_steps=4)
    assert rows(trainer, "rollout_a/loss") == [(3, 50.0), (4, 2.5)]
    found = [(each.step, dict(each.counts)) for each in snapshots if each.phase == "rollout"]
    assert found == [(3, {"a/loss": 1}), (4, {"a/loss": 4})]


def test_after_an_interrupt_the_next_evaluation_has_no_row_of_a_phase_of_the_training(tmp_path) -> None:
    class Interrupted(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                raise KeyboardInterrupt

    data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(10, 20)}
    trainer = Rollout(Toy(), arguments(tmp_path, logging_steps=4), callbacks=[Interrupted()], **data)
    with pytest.raises(KeyboardInterrupt):
        trainer.train()
    trainer.evaluate()
    assert rows(trainer, "rollout_a/loss") == []
    assert rows(trainer, "eval_a/loss") == [(3, 15.0)]


def test_a_phase_without_a_report_takes_no_row_of_the_evaluation(tmp_path) -> None:
    class Generates(Ordered):
        def prediction_step(self, model, inputs, *args, **kwargs):
            if self.state.global_step == 2:
                with self.report_phase("gen"):
                    report_metrics("a", loss=7.0)
            return super().prediction_step(model, inputs, *args, **kwargs)

    args = arguments(tmp_path, eval_strategy="steps", eval_steps=2, label_names=["x"])
    data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(10, 20)}
    trainer = Generates(Toy(), args, compute_metrics=lambda _: {"gen_len": 3.0}, **data)
    trainer.train()
    assert points(trainer, "a/loss", "eval") == [(2, 15.0), (4, 15.0)]
    assert points(trainer, "a/loss", "eval_gen") == [(2, 7.0)]


def test_a_block_that_raises_beside_the_steps_spoils_nothing_of_their_phase(tmp_path) -> None:
    class Raises(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                with pytest.raises(ValueError, match="of the user"), self.trainer.report_phase("rollout"):
                    raise ValueError("of the user")

    registry = MetricRegistry(derived={"a/steps": lambda m: m["window.steps"] + 0 * m["a/loss"]})

    class RollsOutTimed(RollsOut):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, metrics=registry, **kwargs)

    trainer, _ = trained(tmp_path, Raises(), cls=RollsOutTimed, logging_steps=4)
    assert rows(trainer, "rollout_a/loss") == [(4, 2.5)]
    assert rows(trainer, "rollout_a/steps") == [(4, 4.0)]


def test_a_phase_that_is_no_string_is_named(tmp_path) -> None:
    trainer = HfMultiTaskTrainer(Toy(), arguments(tmp_path))
    with pytest.raises(TypeError, match="3 is no phase: pass its name"), trainer.report_phase(3):
        pass


def test_a_block_after_the_training_reaches_the_sinks_although_steps_of_the_training_had_this_phase(tmp_path) -> None:
    trainer, _ = trained(tmp_path, cls=Rollout)
    with trainer.report_phase("rollout") as metrics:
        report_metrics("a", loss=7.0)
    assert metrics == {"rollout_a/loss": 7.0}
    assert points(trainer, "a/loss", "rollout") == rows(trainer, "rollout_a/loss") == [(2, 150.0), (4, 350.0), (4, 7.0)]
    trainer.evaluate(metric_key_prefix="rollout")
    assert points(trainer, "a/loss", "rollout") == rows(trainer, "rollout_a/loss")
    assert rows(trainer, "rollout_a/loss")[-1] == (4, 15.0)


def test_the_last_report_of_another_thread_is_the_last_one_also_after_an_evaluation_and_a_checkpoint(tmp_path) -> None:
    class Beside(TrainerCallback):
        def report(self, value: float) -> None:
            with trainer.report_phase("beside"):
                report_metrics("b", x=value)

        def in_thread(self, value: float) -> None:
            thread = threading.Thread(target=self.report, args=[value])
            thread.start()
            thread.join()

        def on_step_begin(self, args, state, control, **kwargs):
            self.in_thread(state.global_step)

        def on_prediction_step(self, args, state, control, **kwargs):
            self.in_thread(100)

    trainer = Ordered(
        Toy(),
        arguments(tmp_path, logging_steps=4, eval_strategy="steps", eval_steps=3, save_strategy="steps", save_steps=3),
        train_dataset=numbers(1, 2, 3, 4),
        eval_dataset=numbers(10, 20),
        callbacks=[Beside()],
        metrics=MetricRegistry({"b/x": "last"}),
    )
    trainer.train()
    assert rows(trainer, "beside_b/x") == [(4, 3.0)]
