"""A trainer can be copied wherever a plain `Trainer` can; the copy trains, reports and delivers by itself."""

from __future__ import annotations

import copy
import gc
import logging
import pickle
import weakref
from itertools import product

import cloudpickle
import pytest
import torch
from accelerate.state import GradientState
from helpers.toy import InOrder, Silent, Toy, arguments, numbers, rows
from transformers import Trainer, TrainerCallback

from mtask_sinks import (
    Alert,
    HfMultiTaskTrainer,
    MetricRegistry,
    MultiTaskTrainerMixin,
    SinkArguments,
    TaskHealth,
    read_journal,
)
from mtask_sinks.sinks import MemorySink

WAYS = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "cloudpickle": lambda thing: pickle.loads(cloudpickle.dumps(thing)),
}
DEEP = {name: way for name, way in WAYS.items() if name != "copy"}


@pytest.fixture(autouse=True)
def _no_training_before() -> None:
    # accelerate keeps weak references to the data loaders of all trainings of a process; a pickle cannot have them.
    GradientState._reset_state()


class Ours(InOrder, HfMultiTaskTrainer):
    pass


class Plain(InOrder, Trainer):
    pass


def make(directory, cls=Ours, model=Toy, more=None, **changes):
    args = arguments(directory, **changes)
    return cls(model(), args, train_dataset=numbers(1, 2, 3, 4), eval_dataset=numbers(10, 20), **(more or {}))


def losses_in_journal(directory):
    return [
        [
            (snapshot.step, snapshot.phase, snapshot.metrics["a/loss"])
            for snapshot in training.snapshots
            if snapshot.metrics
        ]
        for training in read_journal(directory)
    ]


TRAINED = [(2, "train", 1.5), (4, "train", 3.5), (4, "overall", 2.5)]


@pytest.mark.parametrize(
    ("way", "report_to"),
    [
        *product(WAYS, ["none"]),
        *product(DEEP, ["tensorboard"]),
        ("cloudpickle", ["tensorboard", "mlflow", "wandb"]),
    ],
    ids=str,
)
def test_before_training_it_can_be_copied_where_a_plain_trainer_can(way, report_to, tmp_path) -> None:
    WAYS[way](make(tmp_path / "plain", Plain, Silent, report_to=report_to))
    sink = MemorySink()
    original = make(tmp_path / "ours", report_to=report_to, more={"sinks": [sink]})
    copied = WAYS[way](original)
    if report_to not in ("none", "tensorboard"):
        return
    copied.train()
    assert copied.evaluate()["eval_a/loss"] == 15.0
    assert rows(copied, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert losses_in_journal(tmp_path / "ours") == [[*TRAINED, (4, "eval", 15.0)]]
    assert {name: counts.pending for name, counts in copied.sink_counts.items()} == dict.fromkeys(copied.sink_counts, 0)
    assert rows(original, "a/loss") == []
    if way == "copy":  # as with a plain Trainer, a shallow copy shares what it consists of
        assert sink.series("a/loss") == [(2, 1.5), (4, 3.5)]
    else:
        assert sink.snapshots == [] and copied.metric_registry is not original.metric_registry
        assert copied.sink_counts["memory"].delivered == 4  # two steps, the summary, the evaluation


@pytest.mark.parametrize("report_to", ["none", "tensorboard"])
def test_after_training_it_can_be_deep_copied(report_to, tmp_path) -> None:
    original = make(tmp_path, report_to=report_to, more={"sinks": [MemorySink()]})
    original.train()
    copied = copy.deepcopy(original)
    copied.args.output_dir = str(tmp_path / "copied")
    copied.train()
    original.evaluate()
    assert rows(copied, "a/loss") == rows(original, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert losses_in_journal(tmp_path / "copied") == [TRAINED]
    assert losses_in_journal(tmp_path) == [[*TRAINED, (4, "eval", 15.0)]]


def test_a_copy_that_a_callback_makes_in_the_middle_of_a_training_is_a_trainer_of_its_own(tmp_path) -> None:
    class Copies(TrainerCallback):
        def on_log(self, args, state, control, **kwargs):
            if "copied" not in found and state.global_step == 2:
                found["copied"] = copy.deepcopy(original)

    found = {}
    original = make(tmp_path)
    original.add_callback(Copies())
    original.train()
    copied = found["copied"]
    assert copied._session.trainer() is copied
    copied.args.output_dir = str(tmp_path / "copied")
    copied.train()
    assert rows(copied, "a/loss") == rows(original, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert losses_in_journal(tmp_path) == losses_in_journal(tmp_path / "copied") == [TRAINED]


def test_a_shallow_copy_and_its_original_take_turns_and_each_row_is_delivered_once(tmp_path) -> None:
    original = make(tmp_path)
    copied = copy.copy(original)
    original.train()
    copied.train()
    original.evaluate()
    del original
    copied.evaluate()
    evaluated = (4, "eval", 15.0)
    assert losses_in_journal(tmp_path) == [TRAINED, [*TRAINED, evaluated, evaluated]]
    assert rows(copied, "a/loss") == [(2, 1.5), (4, 3.5)]


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_keeps_no_trainer_alive_and_is_freed_at_once(way, tmp_path) -> None:
    original = make(tmp_path)
    copied = WAYS[way](original)
    gc.collect()
    gc.disable()
    try:
        alive = [weakref.ref(original), weakref.ref(copied)]
        del original
        assert alive[0]() is None
        assert copied.evaluate()["eval_a/loss"] == 15.0
        del copied
        assert alive[1]() is None
    finally:
        gc.enable()


class WithState(MultiTaskTrainerMixin, Plain):
    """Says itself what its pickle holds, and asks nobody above it."""

    def __getstate__(self):
        return {**vars(self), "note": "pickled"}

    def __setstate__(self, state):
        vars(self).update(state)


@pytest.mark.parametrize("way", DEEP)
def test_a_class_that_says_itself_what_its_copies_hold_can_be_copied(way, tmp_path) -> None:
    copied = DEEP[way](make(tmp_path, WithState))
    copied.train()
    assert copied.note == "pickled" and rows(copied, "a/loss") == [(2, 1.5), (4, 3.5)]


class Parts(Silent):
    """Returns the parts of its loss; nothing reports."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        part = (self.weight * x).mean()
        return {"loss": 3 * part, "aux_loss": part}


@pytest.mark.parametrize("way", DEEP)
def test_capture_and_loss_budget_work_in_a_copy(way, tmp_path, caplog) -> None:
    """With three items in two micro-batches, a mean over samples and one over micro-batches differ."""
    given = {"capture": "aux_loss", "loss_budget": {"aux_loss": 3.0}, "metrics": MetricRegistry({"aux_loss": "mean"})}
    changes = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "logging_steps": 1}
    original = Ours(Parts(), arguments(tmp_path, **changes), train_dataset=numbers(1, 2, 6), **given)
    copied = DEEP[way](original)
    assert copied._session.trainer() is copied
    with caplog.at_level(logging.WARNING, "mtask_sinks"):
        copied.train()
    assert rows(copied, "aux_loss") == [(1, 3.0)]
    assert rows(copied, "loss") == [(1, pytest.approx(3 * (1.5 + 6) / 2))]
    assert "loss budget" not in caplog.text


def test_a_copy_prints_its_own_metrics(tmp_path, capsys) -> None:
    original = make(tmp_path, more={"sink_args": SinkArguments(console_metrics=["a/*"])})
    original.evaluate()
    copied = copy.deepcopy(original)
    capsys.readouterr()
    copied.train()
    printed = capsys.readouterr().out
    assert printed.count("a  loss 1.5\n") == printed.count("a  loss 3.5\n") == 1


def test_a_guarded_callback_of_a_copy_is_its_own(tmp_path, monkeypatch, caplog) -> None:
    """An exception of a reporting callback does not stop the copy, and the copy says so itself."""
    from transformers.integrations import TensorBoardCallback

    original = make(tmp_path, report_to="tensorboard")
    copied = copy.deepcopy(original)
    of_copy = next(each for each in copied.callback_handler.callbacks if type(each) is TensorBoardCallback)
    assert vars(of_copy)["on_log"]._callback() is of_copy

    def fail(self, *args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(TensorBoardCallback, "on_train_begin", fail)
    with caplog.at_level(logging.WARNING, "mtask_sinks"):
        original.train()
        copied.train()
    assert caplog.text.count("TensorBoardCallback failed in on_train_begin") == 2


class TwoLosses(Toy):
    """The loss has two equal parts, each reported for its task: their gradients have one direction."""

    def extra(self, x, loss):
        self.report_metrics("a", loss=loss / 2)
        self.report_metrics("b", loss=loss / 2)


@pytest.mark.parametrize("way", DEEP)
def test_task_health_and_alerts_work_in_a_copy(way, tmp_path, caplog) -> None:
    more = {"task_health": TaskHealth(every=2, shared="*"), "alerts": [Alert("a/loss", above=1.5)]}
    original = make(tmp_path, model=TwoLosses, more=more)
    copied = DEEP[way](original)
    with caplog.at_level(logging.WARNING, "mtask_sinks"):
        original.evaluate()
        caplog.clear()
        copied.train()
    # Each part is x/2 * weight, so the norm of its gradient is x/2: steps 2 and 4 have the numbers 2 and 4.
    assert rows(copied, "a/grad_norm") == [(2, 1.0), (4, 2.0)]
    assert rows(copied, "health/grad_cosine.a.b") == [(2, 1.0), (4, 1.0)]
    alerts = [record.message for record in caplog.records if record.message.startswith("alert at")]
    assert alerts == ["alert at step 4: a/loss is 1.75, above 1.5."]
