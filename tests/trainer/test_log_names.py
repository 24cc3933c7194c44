"""Names in the log that two values want."""

from __future__ import annotations

import pytest
from helpers.faulty import wait_for
from helpers.toy import InOrder, Silent, Toy, arguments, numbers, rows
from transformers import Trainer

from mtask_sinks import HfMultiTaskTrainer, MultiTaskTrainerMixin, Snapshot
from mtask_sinks.sinks import MemorySink
from mtask_sinks.trainer.log_names import LogNames


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


def reporting(**tasks):
    """A model that reports fixed values by task."""

    class Model(Silent):
        supports_report_metrics = True

        def extra(self, x, loss):
            for task, values in tasks.items():
                self.report_metrics(task, **values)

    return Model()


def messages(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("mtask_sinks")]


@pytest.mark.parametrize("task", ["train", "eval", "test"])
def test_a_task_with_the_name_of_a_phase_is_accepted_with_one_hint(tmp_path, task, caplog) -> None:
    sink = MemorySink()
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=2, label_names=["x"])
    model = reporting(**{task: {"x": 3.0, "y": 4.0}})
    trainer = Ordered(model, args, train_dataset=numbers(1, 2), eval_dataset=numbers(1), sinks=[sink])
    trainer.train()
    assert rows(trainer, f"{task}/x") == [(2, 3.0)]
    assert rows(trainer, f"eval_{task}/x") == [(2, 3.0)]
    assert len(messages(caplog)) == 1
    assert f"the task is called {task!r}" in messages(caplog)[0]


def test_two_evaluations_whose_names_meet_are_told_apart(tmp_path, caplog) -> None:
    """`eval_a` with task `b_c` and `eval_a_b` with task `c` are both `eval_a_b_c/loss`."""

    class Model(Silent):
        supports_report_metrics = True

        def extra(self, x, loss):
            self.report_metrics("c" if x.mean() > 50 else "b_c", loss=loss)

    sink = MemorySink()
    args = arguments(tmp_path, label_names=["x"])
    trainer = Ordered(Model(), args, eval_dataset={"a": numbers(10), "a_b": numbers(100)}, sinks=[sink])
    for _ in range(2):
        metrics = trainer.evaluate()
        assert metrics["eval_a_b_c/loss"] == 10.0
        assert metrics["eval_a_b_c/loss.eval_a_b"] == 100.0
    wait_for(lambda: len(sink.snapshots) == 4, "the sink to have all four evaluations")
    found = {each.phase: dict(each.metrics) for each in sink.snapshots}
    assert found == {"eval_a": {"b_c/loss": 10.0}, "eval_a_b": {"c/loss.eval_a_b": 100.0}}
    assert len(messages(caplog)) == 1
    assert "'eval_a_b_c/loss' is the log name of 'b_c/loss' in phase 'eval_a'" in messages(caplog)[0]


def test_the_count_of_nonfinite_reports_has_the_name_of_its_metric(tmp_path) -> None:
    """Also in a row in which all reports were left out, so that the metric itself is absent."""
    names = LogNames()
    first = Snapshot(step=1, phase="eval_a", metrics={"b_c/loss": 1.0}, nonfinite={"b_c/loss": 1})
    assert dict(names.add(first, {}).nonfinite) == {"b_c/loss": 1}
    second = Snapshot(step=1, phase="eval_a_b", metrics={"c/loss": 2.0}, nonfinite={"c/loss": 3})
    assert dict(names.add(second, {}).nonfinite) == {"c/loss.eval_a_b": 3}
    third = Snapshot(step=2, phase="eval_a_b", nonfinite={"c/loss": 4})
    assert dict(names.add(third, {}).nonfinite) == {"c/loss.eval_a_b": 4}


def test_a_training_key_that_looks_like_an_evaluations(tmp_path, caplog) -> None:
    args = arguments(tmp_path, eval_strategy="steps", eval_steps=2, label_names=["x"])

    class Model(Silent):
        supports_report_metrics = True

        def extra(self, x, loss):
            self.report_metrics("eval_a" if self.training else "a", loss=loss)

    trainer = Ordered(Model(), args, train_dataset=numbers(1, 3), eval_dataset=numbers(10))
    trainer.train()
    assert rows(trainer, "eval_a/loss") == [(2, 2.0)]
    assert rows(trainer, "eval_a/loss.eval") == [(2, 10.0)]
    assert len(messages(caplog)) == 1


class Overwrites(Trainer):
    """As TRL's trainers do: metrics of its own join the row, over those of the same name."""

    def log(self, logs, *args, **kwargs):
        super().log({**logs, "completions/mean_length": 7.0, "rounded/x": 3.33}, *args, **kwargs)


class Mine(InOrder, MultiTaskTrainerMixin, Overwrites):
    pass


def test_a_value_that_a_trainer_class_overwrites_is_kept(tmp_path, caplog) -> None:
    sink = MemorySink()
    model = reporting(completions={"mean_length": 9.0, "other": 1.0}, rounded={"x": 3.3333})
    trainer = Mine(model, arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4), sinks=[sink])
    trainer.train()
    assert rows(trainer, "completions/mean_length")[:2] == [(2, 7.0), (4, 7.0)]
    assert rows(trainer, "completions/mean_length.reported") == [(2, 9.0), (4, 9.0)]
    assert not rows(trainer, "rounded/x.reported")  # the same value, rounded
    assert messages(caplog) == [
        "'completions/mean_length': the trainer logs a value of its own by this name; what was reported is logged as "
        "'completions/mean_length.reported'."
    ]
    snapshots = [each for each in sink.snapshots if each.metrics]
    assert snapshots[0].metrics["completions/mean_length.reported"] == 9.0
    assert snapshots[0].counts["completions/mean_length.reported"] == 2
    assert "completions/mean_length" not in snapshots[0].metrics
    assert snapshots[0].logs["completions/mean_length"] == 7.0


def test_toy_is_not_touched_by_any_of_this(tmp_path, caplog) -> None:
    trainer = Mine(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4))
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert not messages(caplog)
