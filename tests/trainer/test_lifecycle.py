"""Models and trainers come and go in one process. None affects another."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import time
import weakref

import pytest
import torch
from helpers.failing_sinks import threads_of_ours
from helpers.toy import InOrder, Silent, Toy, arguments, numbers, rows
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, Trainer, TrainerCallback

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, MultiTaskTrainerMixin, SinkArguments, report_metrics
from mtask_sinks.analysis.counted import read_trainings
from mtask_sinks.sinks import MemorySink


class Ours(InOrder, HfMultiTaskTrainer):
    pass


def test_every_argument_of_trainer_is_taken_by_position_and_by_name(tmp_path) -> None:
    model, args, data = Toy(), arguments(tmp_path), numbers(1, 2)
    names = [name for name in inspect.signature(Trainer.__init__).parameters if name != "self"]
    values = dict.fromkeys(names, None)
    values |= {
        "model": model, "args": args, "train_dataset": data, "eval_dataset": data, "optimizers": (None, None),
        "compute_metrics": len, "callbacks": [],
    }  # fmt: skip
    by_position = HfMultiTaskTrainer(*values.values())
    by_name = HfMultiTaskTrainer(**values)
    for trainer in (by_position, by_name):
        assert (trainer.model, trainer.args, trainer.train_dataset, trainer.eval_dataset) == (model, args, data, data)
        assert trainer.compute_metrics is len


def test_training_arguments_may_be_left_out(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("DISABLE_MLFLOW_INTEGRATION", "TRUE")
    trainer = HfMultiTaskTrainer(Toy(), train_dataset=numbers(1))
    assert trainer.args.output_dir in ("tmp_trainer", "trainer_output")


def test_the_arguments_keep_what_report_to_says(tmp_path) -> None:
    args = arguments(tmp_path, report_to=["example_lines"])
    assert HfMultiTaskTrainer(Toy(), args).args.report_to == ["example_lines"]


def test_the_model_has_report_metrics_only_while_somebody_is_at_work(tmp_path) -> None:
    seen = []

    class Looks(Toy):
        def extra(self, x, loss):
            seen.append(hasattr(self, "report_metrics"))

    model = Looks()
    trainer = Ours(model, arguments(tmp_path), train_dataset=numbers(1, 2), eval_dataset=numbers(3))
    assert not hasattr(model, "report_metrics")
    for work in (trainer.train, trainer.evaluate, lambda: trainer.predict(numbers(4))):
        work()
        assert not hasattr(model, "report_metrics")
    assert seen == [True] * 4


def test_inference_outside_training_reports_nowhere(tmp_path) -> None:
    model = Toy()
    trainer = Ours(model, arguments(tmp_path), train_dataset=numbers(1, 2))
    trainer.train()
    for _ in range(10):
        model(torch.tensor([100.0]))
        report_metrics("a", loss=100.0)
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5)]


def test_a_second_instance_of_the_class_stays_silent(tmp_path) -> None:
    class Distilled(Toy):
        teacher = ()

        def extra(self, x, loss):
            super().extra(x, loss)
            for teacher in self.teacher:
                teacher(x + 100)

    model = Distilled()
    model.teacher = [Toy(), copy.deepcopy(model)]
    trainer = Ours(model, arguments(tmp_path), train_dataset=numbers(1, 2))
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5)]


def test_two_trainers_one_after_another_and_on_one_model(tmp_path) -> None:
    model = Toy()
    for data in ((1, 2), (10, 20)):
        for subject in (model, Toy()):
            trainer = Ours(subject, arguments(tmp_path), train_dataset=numbers(*data))
            trainer.train()
            assert rows(trainer, "a/loss") == [(2, sum(data) / 2)]


def test_a_trainer_at_work_inside_another_keeps_its_reports_to_itself(tmp_path) -> None:
    inner = Ours(Toy(), arguments(tmp_path), train_dataset=numbers(100, 200), eval_dataset=numbers(7))
    model = Toy()
    same = Ours(model, arguments(tmp_path), eval_dataset=numbers(9))
    inner_rows = []

    class TrainsAnother(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 1:
                inner.train()
                inner_rows.append((inner.evaluate()["eval_a/loss"], same.evaluate()["eval_a/loss"]))

    outer = Ours(model, arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4), callbacks=[TrainsAnother()])
    outer.train()
    assert rows(outer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert rows(inner, "a/loss") == [(2, 150.0)]
    assert inner_rows == [(7.0, 9.0)]


def test_a_model_from_model_init_is_bound_anew_each_time(tmp_path) -> None:
    made = []

    def model_init():
        made.append(Toy())
        return made[-1]

    trainer = Ours(
        model_init=model_init, args=arguments(tmp_path), train_dataset=numbers(1, 2), eval_dataset=numbers(5)
    )
    for _ in range(2):
        trainer.train()
        assert rows(trainer, "a/loss") == [(2, 1.5)]
        assert trainer.evaluate()["eval_a/loss"] == 5.0
    assert len(made) == 3
    assert not any(hasattr(model, "report_metrics") for model in made)


def test_the_model_that_trains_reports_even_if_the_trainer_was_given_another_one(tmp_path) -> None:
    """The Trainer goes on to train its ``model_wrapped``, and evaluates its ``model``."""

    class Other(Toy):
        def extra(self, x, loss):
            self.report_metrics("other", loss=loss)

    trains = Toy()
    trainer = Ours(trains, arguments(tmp_path), train_dataset=numbers(1, 2), eval_dataset=numbers(5))
    trainer.model = Other()
    trainer.train()
    assert trainer.model_wrapped is trains
    assert (rows(trainer, "a/loss"), rows(trainer, "other/loss")) == ([(2, 1.5)], [])
    assert trainer.evaluate()["eval_other/loss"] == 5.0
    assert not any(hasattr(model, "report_metrics") for model in (trains, trainer.model))


def test_a_wrapper_that_the_trainer_was_given_does_not_bind_its_model_twice(tmp_path, caplog) -> None:
    class OwnMethod(Toy):
        def report_metrics(self, task, **metrics):
            pass

    class Wrapper(torch.nn.Module):
        def __init__(self, inner) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x)

    trainer = Ours(OwnMethod(), arguments(tmp_path), train_dataset=numbers(1, 2))
    trainer.model = Wrapper(trainer.model)
    trainer.train()
    assert caplog.text.count("a method report_metrics of its own") == 1


def test_a_hyper_parameter_search_logs_every_trial(tmp_path) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sink, seen = MemorySink(), []

    class Keeps(TrainerCallback):
        def on_train_end(self, args, state, control, **kwargs):
            seen.append([row["a/loss"] for row in state.log_history if "a/loss" in row])

    trainer = Ours(
        model_init=Toy, args=arguments(tmp_path, eval_strategy="epoch"), train_dataset=numbers(1, 2),
        eval_dataset=numbers(5), sinks=[sink], callbacks=[Keeps()],
    )  # fmt: skip
    best = trainer.hyperparameter_search(
        backend="optuna", n_trials=3, direction="minimize",
        hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 0.0, 1e-12)},
        compute_objective=lambda metrics: metrics["eval_a/loss"],
    )  # fmt: skip
    assert best.objective == pytest.approx(5.0)
    assert seen == [[1.5]] * 3
    assert len({run.id for run in sink.runs}) == 3
    assert sink.closed == ["finished"] * 3


def test_a_pruned_trial_is_no_failure(tmp_path) -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sink = MemorySink()
    trainer = Ours(
        model_init=Toy, args=arguments(tmp_path, eval_strategy="steps", eval_steps=1), train_dataset=numbers(1, 2),
        eval_dataset=numbers(5), sinks=[sink],
    )  # fmt: skip

    class Always(optuna.pruners.BasePruner):
        def prune(self, study, trial):
            return trial.number == 0

    trainer.hyperparameter_search(
        backend="optuna", n_trials=2, direction="minimize", hp_space=lambda trial: {}, pruner=Always(),
        compute_objective=lambda metrics: metrics["eval_a/loss"],
    )  # fmt: skip
    assert sink.closed == ["finished"] * 2
    assert not hasattr(trainer.model, "report_metrics")


def test_copies_and_pickles_made_in_mid_training_are_harmless(tmp_path) -> None:
    copies = []

    class Copies(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            copies.append(copy.deepcopy(model))
            copies.append(pickle.loads(pickle.dumps(model)))
            torch.save(model, tmp_path / "model.pt")
            copies.append(torch.load(tmp_path / "model.pt", weights_only=False))
            for twin in copies:
                twin(torch.tensor([100.0]))

    trainer = Ours(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2), callbacks=[Copies()])
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5)]


def test_a_pretrained_model_saves_and_loads_in_mid_training(tmp_path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    class Model(BertForMaskedLM):
        supports_report_metrics = True

        def forward(self, input_ids, labels):
            outputs = super().forward(input_ids=input_ids, labels=labels)
            self.report_metrics("mlm", loss=outputs.loss)
            return outputs

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = Model(BertConfig(vocab_size=20, max_position_embeddings=8, **sizes))
    data = [{"input_ids": torch.arange(8), "labels": torch.arange(8)}] * 4
    Ours(model, arguments(tmp_path, save_strategy="steps", save_steps=2), train_dataset=data).train()
    loaded = Model.from_pretrained(tmp_path / "checkpoint-2")
    assert not hasattr(loaded, "report_metrics")
    assert loaded.config.architectures == ["Model"]
    assert "report" not in (tmp_path / "checkpoint-2" / "config.json").read_text()


def test_an_exception_in_a_forward_cleans_up_and_says_failed(tmp_path) -> None:
    class Breaks(Toy):
        broken = True

        def extra(self, x, loss):
            super().extra(x, loss)
            if x == 3 and self.broken:
                raise RuntimeError("broken")

    sink, model = MemorySink(), Breaks()
    trainer = Ours(model, arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4), sinks=[sink])
    with pytest.raises(RuntimeError, match="broken"):
        trainer.train()
    assert sink.closed == ["failed"]
    assert sink.series("a/loss") == [(2, 1.5)]
    assert not hasattr(model, "report_metrics")
    model.broken = False
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert sink.closed == ["failed", "finished"]


def test_a_smaller_batch_after_running_out_of_memory_starts_the_window_anew(tmp_path) -> None:
    class RunsOut(Toy):
        def extra(self, x, loss):
            self.report_metrics("a", n=len(x))
            if len(x) > 1:
                raise RuntimeError("CUDA out of memory.")

    trainer = Ours(
        RunsOut(), arguments(tmp_path, auto_find_batch_size=True, per_device_train_batch_size=2, logging_steps=4),
        train_dataset=numbers(1, 2, 3, 4), metrics=MetricRegistry(reducers={"a/n": "sum"}),
    )  # fmt: skip
    trainer.train()
    assert rows(trainer, "a/n") == [(4, 4.0)]


def test_the_rows_before_a_smaller_batch_belong_to_a_training_that_failed(tmp_path) -> None:
    class RunsOut(Toy):
        def extra(self, x, loss):
            if 7.0 in x and len(x) > 1:
                raise RuntimeError("CUDA out of memory.")
            self.report_metrics("a", loss=loss)

    args = arguments(tmp_path, auto_find_batch_size=True, per_device_train_batch_size=2, max_steps=4, logging_steps=1)
    sink = MemorySink()
    trainer = Ours(RunsOut(), args, train_dataset=numbers(1, 2, 3, 4, 5, 6, 7, 8), sinks=[sink])
    trainer.train()
    (failed, finished) = read_trainings(tmp_path)
    assert (failed.status, finished.status) == ("failed", "finished")
    assert [*failed.series["train", "a/loss"].values] == [1.5, 3.5, 5.5]
    assert [*finished.series["train", "a/loss"].values] == [value for _, value in rows(trainer, "a/loss")]
    assert [*finished.steps] == [1, 2, 3, 4, 4]
    assert sink.closed == ["failed", "finished"]


def test_trainers_and_models_are_freed_without_the_garbage_collector(tmp_path) -> None:
    model = Toy()
    trainer = Ours(model, arguments(tmp_path), train_dataset=numbers(1, 2), sinks=[MemorySink()])
    trainer.train()
    plain = Trainer(Silent(), arguments(tmp_path), train_dataset=numbers(1, 2))
    plain.train()
    ours, theirs, bound = weakref.ref(trainer), weakref.ref(plain), weakref.ref(model)
    gc.collect()
    gc.disable()
    try:
        del trainer, plain, model
        assert (ours() is None, bound() is None) == (theirs() is None, theirs() is None)
    finally:
        gc.enable()
    gc.collect()
    assert ours() is None
    assert bound() is None


def test_no_thread_outlives_its_training(tmp_path) -> None:
    before = threads_of_ours()
    for _ in range(3):
        Ours(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2), sinks=[MemorySink()]).train()
    end = time.monotonic() + 30
    while threads_of_ours() - before and time.monotonic() < end:
        time.sleep(0.01)
    assert threads_of_ours() <= before


def test_the_threads_of_deleted_trainers_that_evaluated_last_do_not_add_up(tmp_path) -> None:
    before = threads_of_ours()
    for fold in range(3):
        data = {"train_dataset": numbers(1, 2), "eval_dataset": numbers(3)}
        trainer = Ours(Toy(), arguments(tmp_path / str(fold)), sinks=[MemorySink()], **data)
        trainer.train()
        trainer.evaluate()
        del trainer
        gc.collect()
    end = time.monotonic() + 30
    while len(threads_of_ours() - before) > 1 and time.monotonic() < end:
        time.sleep(0.01)
    assert len(threads_of_ours() - before) <= 1  # that of the last one ends at the exit


def test_the_mixin_makes_a_multi_task_trainer_of_another(tmp_path) -> None:
    class Mixed(MultiTaskTrainerMixin, Seq2SeqTrainer):
        pass

    args = Seq2SeqTrainingArguments(
        str(tmp_path), max_steps=2, logging_steps=2, report_to="none", disable_tqdm=True, use_cpu=True,
        learning_rate=0.0, per_device_train_batch_size=1, save_strategy="no",
    )  # fmt: skip
    trainer = Mixed(Toy(), args, train_dataset=numbers(4, 4), eval_dataset=numbers(5))
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 4.0)]
    assert trainer.evaluate()["eval_a/loss"] == 5.0


def test_two_different_sets_of_rules_are_refused(tmp_path) -> None:
    sink_args = SinkArguments(metric_reducers=["*=sum"])
    with pytest.raises(ValueError, match="sets metric_reducers, which this registry does not follow"):
        HfMultiTaskTrainer(Toy(), arguments(tmp_path), metrics=MetricRegistry(), sink_args=sink_args)


def test_what_the_refusal_of_two_sets_of_rules_proposes_is_accepted(tmp_path) -> None:
    sink_args = SinkArguments(metric_reducers=["*/loss=sum"], metric_max_keys=9)
    made = sink_args.make_registry(derived={"a/double": lambda m: 2 * m["a/loss"]})
    by_hand = MetricRegistry(reducers={"*/n": "max", **sink_args.reducers()}, max_keys=9)
    doubles = []
    for registry in (made, by_hand, pickle.loads(pickle.dumps(by_hand))):
        trainer = HfMultiTaskTrainer(
            Toy(), arguments(tmp_path, max_steps=2, logging_steps=2), train_dataset=numbers(1, 2), metrics=registry,
            sink_args=sink_args,
        )  # fmt: skip
        trainer.train()
        assert rows(trainer, "a/loss") == [(2, 3.0)]
        doubles.append(rows(trainer, "a/double"))
    assert doubles == [[(2, 6.0)], [], []]


def test_rules_from_the_command_line_hold(tmp_path) -> None:
    sink_args = SinkArguments(metric_reducers=["a/*=sum"])
    trainer = Ours(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2), sink_args=sink_args)
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 3.0)]


def test_what_is_no_registry_is_refused(tmp_path) -> None:
    with pytest.raises(TypeError, match="metrics=MetricRegistry"):
        HfMultiTaskTrainer(Toy(), arguments(tmp_path), metrics={"a/*": "sum"})


def test_only_the_first_rank_writes_to_sinks(tmp_path) -> None:
    sink = MemorySink()
    trainer = Ours(Toy(), arguments(tmp_path), eval_dataset=numbers(1), sinks=[sink])
    trainer.state.is_world_process_zero = False
    assert trainer.evaluate()["eval_a/loss"] == 1.0
    assert sink.snapshots == []


def test_sinks_get_the_trainers_own_logs_apart_from_the_metrics(tmp_path) -> None:
    sink = MemorySink()
    trainer = Ours(
        Toy(), arguments(tmp_path, run_name="r"), train_dataset=numbers(1, 2, 3), eval_dataset=numbers(9), sinks=[sink]
    )
    trainer.train()
    trainer.evaluate()
    trainer.predict(numbers(8))
    trainer._session.delivery.close("finished")
    steps = [(s.step, s.phase, dict(s.metrics), sorted(s.logs)) for s in sink.snapshots]
    timing = ["runtime", "samples_per_second", "steps_per_second"]
    assert steps[0] == (2, "train", {"a/loss": 1.5}, ["epoch", "grad_norm", "learning_rate", "loss"])
    assert steps[1] == (3, "train", {"a/loss": 3.0}, [])
    assert steps[2][:3] == (3, "overall", {"a/loss": 2.0})
    assert "train_runtime" in steps[2][3]
    assert steps[3][:3] == (3, "eval", {"a/loss": 9.0})
    assert {f"eval_{name}" for name in timing} <= set(steps[3][3]) and "eval_a/loss" not in steps[3][3]
    assert steps[4][:3] == (3, "test", {"a/loss": 8.0})
    assert (sink.runs[0].name, sink.runs[0].params["learning_rate"]) == ("r", 0.0)


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_training_inside_another_one_is_told_to_have_a_registry_of_its_own(tmp_path, caplog, is_shared) -> None:
    registry = MetricRegistry({"*/n": "sum"})

    class TrainsAnother(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 1:
                own = registry if is_shared else copy.copy(registry)
                Ours(Toy(), arguments(tmp_path / "inner"), train_dataset=numbers(30, 40), metrics=own).train()

    outer = arguments(tmp_path / "outer")
    made = [
        Ours(Toy(), outer, train_dataset=numbers(1, 2, 3, 4), metrics=registry, callbacks=callbacks)
        for callbacks in ([TrainsAnother()], [])
    ]
    for trainer in made:  # one after the other, they may share it
        trainer.train()
    said = [record.getMessage() for record in caplog.records if "has the same MetricRegistry" in record.getMessage()]
    assert len(said) == is_shared
    assert rows(made[0], "a/loss")[0] == (2, 2.0 if is_shared else 1.5)  # shared, it lacks what was reported before
    assert rows(made[1], "a/loss") == [(2, 1.5), (4, 3.5)]


def test_a_training_that_begins_when_another_one_has_ended_may_share_its_registry(tmp_path, caplog) -> None:
    registry, second = MetricRegistry(), []

    class TrainsNext(TrainerCallback):
        def on_train_end(self, args, state, control, **kwargs):
            second.append(Ours(Toy(), arguments(tmp_path / "2"), train_dataset=numbers(5, 6), metrics=registry))
            second[0].train()

    settings = {"train_dataset": numbers(1, 2, 3, 4), "metrics": registry, "callbacks": [TrainsNext()]}
    first = Ours(Toy(), arguments(tmp_path / "1"), **settings)
    first.train()
    assert rows(first, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert rows(first, "overall_a/loss") == [(4, 2.5)]
    assert rows(second[0], "a/loss") == rows(second[0], "overall_a/loss") == [(2, 5.5)]
    assert "has the same MetricRegistry" not in caplog.text
