"""Real trainings, compared with gradients that are computed one task at a time."""

from __future__ import annotations

import copy
import hashlib
import math
import random
import re

import numpy as np
import pytest
import torch
from helpers.many_tasks import (
    WIDTH,
    ManyTasks,
    OrderedTrainer,
    Tokens,
    TokenTrainer,
    batch,
    by_hand,
    cosine,
    items,
    make_trainer,
    rows_of,
)
from helpers.toy import InOrder
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import Trainer

from mtask_sinks import MetricRegistry, MultiTaskTrainerMixin, TaskHealth, read_journal, report_metrics, weighted
from mtask_sinks.task_health.meter import due_micro_batch
from mtask_sinks.task_health.reported_losses import ReportedLoss

DATA = items(512)


def in_last_block(name):
    return "blocks.1." in name


def first_rows(model, tmp_path, caplog, health=None, steps=2, **kwargs):
    """Train with a learning rate of 0, so that every measurement sees the same weights; return the rows."""
    trainer = make_trainer(model, tmp_path, health or TaskHealth(every=1), steps=steps, learning_rate=0.0, **kwargs)
    trainer.train()
    assert "task health is off" not in caplog.text
    return list(rows_of(trainer))


def check(row, gradients, rel=1e-5):
    """Compare norms and cosines with gradients by hand; `rel` is also the absolute error of a cosine."""
    tasks = sorted(gradients)
    for task in tasks:
        assert row[f"{task}/grad_norm"] == pytest.approx(float(gradients[task].norm()), rel=rel)
    pairs = [(a, b) for a in tasks for b in tasks if a < b]
    cosines = [cosine(gradients[a], gradients[b]) for a, b in pairs]
    assert [row[f"health/grad_cosine.{a}.{b}"] for a, b in pairs] == pytest.approx(cosines, abs=rel)
    assert row["health/conflict"] == np.mean([each < 0 for each in cosines])


def shares(values):
    return {task: value / sum(values.values()) for task, value in values.items()}


@pytest.mark.parametrize(
    ("weights", "accumulation"),
    [({"a": 1.0, "b": 0.5}, 1), ({"a": 1.0, "b": 0.5}, 3), ({task: 1.0 + at for at, task in enumerate("abcde")}, 2)],
    ids=["two", "accumulated", "five"],
)
def test_norms_cosines_weights_and_shares(weights, accumulation, tmp_path, caplog):
    model = ManyTasks(weights)
    rows = first_rows(copy.deepcopy(model), tmp_path, caplog, gradient_accumulation_steps=accumulation)
    for step, row in enumerate(rows):
        inputs = batch(DATA, 4 * (accumulation * step + due_micro_batch(step + 1, accumulation)))
        gradients = by_hand(model, inputs, in_last_block, lambda m, inputs=inputs: m.losses(**inputs))
        check(row, gradients)
        losses = {task: weights[task] * loss.item() for task, loss in model.losses(**inputs).items()}
        norms = {task: weights[task] * float(each.norm()) for task, each in gradients.items()}
        for task, weight in weights.items():
            assert row[f"{task}/effective_weight"] == pytest.approx(weight)
            assert row[f"{task}/loss_share"] == pytest.approx(shares(losses)[task], rel=1e-5)
            assert row[f"{task}/grad_share"] == pytest.approx(shares(norms)[task], rel=1e-5)


def test_a_derived_metric_may_use_a_measurement_that_the_first_windows_do_not_have(tmp_path, caplog):
    derived = {
        "a/weighted": lambda m: m["a/effective_weight"] * m["a/loss"],
        "b/squared": lambda m: m["b/progress"] ** 2,
    }
    kwargs = {"metrics": MetricRegistry(derived=derived)}
    health = TaskHealth(every=2)
    first, second = first_rows(ManyTasks({"a": 3.0, "b": 1.0}), tmp_path, caplog, health, trainer_kwargs=kwargs)
    assert "a/weighted" not in first
    assert second["a/weighted"] == pytest.approx(3 * second["a/loss"])
    assert "'a/weighted' uses 'a/effective_weight', which no window so far has. Task health measures it" in caplog.text
    assert "'b/squared' uses 'b/progress', which no window so far has. Task health adds it after" in caplog.text


class LogVariances(ManyTasks):
    def __init__(self):
        super().__init__()
        self.log_variances = nn.ParameterDict({"a": torch.tensor(0.7), "b": torch.tensor(-0.4)})

    def total(self, losses):
        return sum(
            torch.exp(-self.log_variances[task]) * loss + self.log_variances[task] for task, loss in losses.items()
        )


def test_learned_weights(tmp_path, caplog):
    (row,) = first_rows(LogVariances(), tmp_path, caplog, steps=1)
    assert row["a/effective_weight"] == pytest.approx(math.exp(-0.7), rel=1e-6)
    assert row["b/effective_weight"] == pytest.approx(math.exp(0.4), rel=1e-6)
    assert "do not explain" not in caplog.text


def test_non_reentrant_checkpointing(tmp_path, caplog):
    model = ManyTasks(use_reentrant=False)
    (row,) = first_rows(copy.deepcopy(model), tmp_path, caplog, steps=1)
    inputs = batch(DATA, 0)
    check(row, by_hand(model, inputs, in_last_block, lambda m: m.losses(**inputs)))


def test_autocast_in_bfloat16(tmp_path, caplog):
    model = ManyTasks()
    (row,) = first_rows(copy.deepcopy(model), tmp_path, caplog, steps=1, bf16=True)
    inputs = batch(DATA, 0)

    def losses(m):
        with torch.autocast("cpu", torch.bfloat16):
            return m.losses(**inputs)

    check(row, by_hand(model, inputs, in_last_block, losses), rel=3e-3)


def test_an_adapter_of_peft_is_found_by_the_name_without_its_prefix(tmp_path, caplog):
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    config = peft.LoraConfig(target_modules=["dense"], r=2, init_lora_weights=False)
    model = peft.get_peft_model(ManyTasks(), config)
    rows = first_rows(copy.deepcopy(model), tmp_path, caplog, TaskHealth(shared="blocks.1", every=1), steps=1)
    inputs = batch(DATA, 0)
    check(rows[0], by_hand(model, inputs, in_last_block, lambda m: m.base_model.model.losses(**inputs)))


class Tied(ManyTasks):
    """The head of task ``a`` has the weight of the embedding."""

    def losses(self, x, targets):
        hidden = self.trunk(x)
        a = (hidden @ self.embedding.weight - x) ** 2
        return {"a": a.mean(), "b": ((self.heads["b"](hidden).squeeze(-1) - targets[:, 1]) ** 2).mean()}


def test_tied_weights_are_not_taken_for_the_last_block(tmp_path, caplog):
    model, inputs = Tied(), batch(DATA, 0)
    (row,) = first_rows(copy.deepcopy(model), tmp_path, caplog, steps=1)
    assert "with respect to blocks.1 (4 tensors, 54 elements)" in caplog.text
    check(row, by_hand(model, inputs, in_last_block, lambda m: m.losses(**inputs)))
    (row,) = first_rows(copy.deepcopy(model), tmp_path, caplog, TaskHealth(shared="*", every=1), steps=1)
    shared = by_hand(model, inputs, lambda name: not name.startswith("heads"), lambda m: m.losses(**inputs))
    check(row, shared)


class Absent(ManyTasks):
    """Every second batch has no task ``b``: its mask is empty, so its loss is NaN."""

    batches = 0

    def losses(self, x, targets):
        found = super().losses(x, targets)
        self.batches += 1
        if self.batches % 2 == 0:
            found["b"] = (found["b"] * torch.zeros(0)).mean()
        return found

    def total(self, losses):
        return sum(self.weights[task] * loss.nan_to_num() for task, loss in losses.items())


def test_an_absent_task_has_no_cosine_and_no_norm(tmp_path, caplog):
    rows = first_rows(Absent(), tmp_path, caplog, steps=2)
    assert {"a/grad_norm", "b/grad_norm", "health/grad_cosine.a.b"} <= rows[0].keys()
    assert "a/grad_norm" in rows[1]
    assert not {"b/grad_norm", "health/grad_cosine.a.b", "health/conflict"} & rows[1].keys()


class Halves(ManyTasks):
    """It computes each half of a batch by itself, as replicas on two devices do; its loss is the mean of the halves."""

    def forward(self, x, targets):
        halves = [self.losses(*half) for half in zip(x.chunk(2), targets.chunk(2), strict=True)]
        for half in halves:
            self.report(half)
        return (sum(self.total(half) for half in halves) / 2,)


class UnequalParts(ManyTasks):
    """It reports the losses of two parts of a batch with their sizes as weights, and an empty part, which has none."""

    def forward(self, x, targets):
        parts = [self.losses(x[rows], targets[rows]) for rows in (slice(1), slice(1, None), slice(0))]
        sizes = 1, len(x) - 1, 0
        for part, size in zip(parts, sizes, strict=True):
            for task, loss in part.items():
                report_metrics(task, loss=weighted(loss, torch.tensor([size])))
        return (sum(self.total(part) * size for part, size in zip(parts[:2], sizes, strict=False)) / len(x),)


@pytest.mark.parametrize("several", [Halves, UnequalParts])
def test_several_reports_of_a_loss_are_their_mean_by_their_weights(several, tmp_path, caplog):
    """So all is as if the loss of the whole batch had been reported once."""
    once, parts = (first_rows(model, tmp_path, caplog)[0] for model in (ManyTasks(), several()))
    names = [name for name in once if name.startswith(("a/", "b/", "health/"))]
    assert {"a/loss", "a/grad_norm", "b/effective_weight", "b/grad_share", "health/grad_cosine.a.b"} <= {*names}
    assert {name: parts[name] for name in names} == pytest.approx({name: once[name] for name in names}, rel=1e-5)
    assert parts["b/effective_weight"] == pytest.approx(0.5)


class Alternating(ManyTasks):
    """One task per batch, as in a training that mixes datasets."""

    batches = 0

    def losses(self, x, targets):
        self.batches += 1
        task = "ab"[self.batches % 2]
        return {task: super().losses(x, targets)[task]}


def test_one_task_per_batch_gives_norms_from_the_second_task_on(tmp_path, caplog):
    rows = first_rows(Alternating(), tmp_path, caplog, steps=3)
    assert [sorted(name for name in row if name.endswith("grad_norm") and "/" in name) for row in rows] == [
        [],
        ["a/grad_norm"],
        ["b/grad_norm"],
    ]


def test_tasks_that_take_turns_in_the_micro_batches_of_a_step_are_all_measured(tmp_path, caplog):
    settings = {"gradient_accumulation_steps": 2, "logging_steps": 8}
    (row,) = first_rows(Alternating(), tmp_path, caplog, steps=8, **settings)
    assert {"a/grad_norm", "b/grad_norm"} <= row.keys()
    assert "measured micro-batches" not in caplog.text


def test_a_task_that_the_measured_steps_never_meet_is_named(tmp_path, caplog):
    first_rows(Alternating(), tmp_path, caplog, TaskHealth(every=2), steps=20)
    text = "none of the first 10 measured micro-batches had a loss of b. If tasks take turns"
    assert text in caplog.text and "such as TaskHealth(every=3)" in caplog.text


class DetachedTurns(ManyTasks):
    """In the first and each second batch after it, the only task reports a number."""

    batches = 0

    def report(self, losses):
        self.batches += 1
        if self.batches % 2:
            report_metrics("aux", loss=losses["a"].item())
        else:
            super().report(losses)


def test_batches_without_a_loss_that_has_a_graph_are_passed_over(tmp_path, caplog):
    rows = first_rows(DetachedTurns(), tmp_path, caplog, steps=4)
    assert ["health/grad_cosine.a.b" in row for row in rows] == [False, True, False, True]
    assert "leaves out aux/loss: a float was reported" in caplog.text


class SkipsBatches(Trainer):
    """Has no backward pass in the second micro-batch of each step."""

    calls = 0

    def training_step(self, *args, **kwargs):
        self.calls += 1
        return torch.zeros(()) if self.calls % 4 == 2 else super().training_step(*args, **kwargs)


class MeasuresSkipping(InOrder, MultiTaskTrainerMixin, SkipsBatches):
    pass


def test_a_micro_batch_without_a_backward_pass_does_not_end_the_measurements(tmp_path, caplog):
    settings = {"gradient_accumulation_steps": 4, "trainer_class": MeasuresSkipping}
    trainer = make_trainer(ManyTasks(), tmp_path, TaskHealth(every=1), steps=8, **settings)
    trainer.train()
    measured = ["health/grad_cosine.a.b" in row for row in rows_of(trainer)]
    assert measured == [due_micro_batch(step, 4) != 1 for step in range(1, 9)]
    assert False in measured
    assert "task health is off" not in caplog.text


class Freezing(ManyTasks):
    """Freezes some parameters of the last block for the second batch, and all of them for the third one."""

    batches = 0

    def losses(self, x, targets):
        self.batches += 1
        for at, parameter in enumerate(self.blocks[1].parameters()):
            parameter.requires_grad_(at >= (0, 1, 4, 0)[self.batches - 1])
        return super().losses(x, targets)


def test_parameters_that_are_frozen_for_some_time_are_left_out_for_that_time(tmp_path, caplog):
    rows = first_rows(Freezing(), tmp_path, caplog, steps=4)
    for at, row in enumerate(rows):
        names = [f"blocks.1.{name}" for name, _ in ManyTasks().blocks[1].named_parameters()][(0, 1, 4, 0)[at] :]
        inputs = batch(DATA, 4 * at)
        if names:
            check(row, by_hand(ManyTasks(), inputs, names.__contains__, lambda m, inputs=inputs: m.losses(**inputs)))
        else:
            assert not [name for name in row if "cosine" in name or "/grad_norm" in name]
    assert "has frozen 1 of the 4 tensors of blocks.1, so it measures the gradients of the others" in caplog.text
    assert "has frozen blocks.1, so there is nothing to measure until it is trained again" in caplog.text
    assert "does not depend" not in caplog.text


class Thawing(ManyTasks):
    """Trains only its heads in the first two batches, and the last block too from the third one on."""

    batches = 0

    def losses(self, x, targets):
        self.batches += 1
        for name, parameter in self.named_parameters():
            parameter.requires_grad_("heads." in name or (self.batches > 2 and in_last_block(name)))
        return super().losses(x, targets)


def test_a_trunk_that_is_frozen_at_first_is_measured_as_soon_as_it_is_trained(tmp_path, caplog):
    rows = first_rows(Thawing(), tmp_path, caplog, steps=4)
    assert ["a/grad_norm" in row for row in rows] == [False, False, True, True]
    for at in (2, 3):
        inputs = batch(DATA, 4 * at)
        check(rows[at], by_hand(ManyTasks(), inputs, in_last_block, lambda m, inputs=inputs: m.losses(**inputs)))
    [waits] = [text for text in caplog.messages if "measures nothing yet" in text]
    assert "nothing yet: the tasks a, b have no trained parameter in common. Name some" in waits
    assert "with respect to blocks.1 (4 tensors" in caplog.text


class ThawingInTurns(ManyTasks):
    """Each batch has one task. The heads alone are trained in the first two batches, and everything from then on."""

    batches = 0

    def losses(self, x, targets):
        self.batches += 1
        for name, parameter in self.named_parameters():
            parameter.requires_grad_("heads." in name or self.batches > 2)
        task = "ab"[self.batches % 2]
        return {task: super().losses(x, targets)[task]}


def test_a_trunk_that_is_frozen_at_first_is_measured_if_tasks_take_turns(tmp_path, caplog):
    rows = first_rows(ThawingInTurns(), tmp_path, caplog, steps=5)
    assert not any(name.endswith("/grad_norm") for row in rows[:3] for name in row)
    for at, task in ((3, "a"), (4, "b")):
        inputs = batch(DATA, 4 * at)
        found = by_hand(ManyTasks(), inputs, in_last_block, lambda m, inputs=inputs: m.losses(**inputs))
        assert rows[at][f"{task}/grad_norm"] == pytest.approx(float(found[task].norm()))


class FrozenEmbedding(ManyTasks):
    """The task c shares nothing with the others but the embedding, which is frozen."""

    def __init__(self):
        super().__init__({"a": 1.0, "b": 1.0, "c": 1.0})
        self.embedding.requires_grad_(False)

    def losses(self, x, targets):
        return {**super().losses(x, targets), "c": (self.heads["c"](self.embedding(x)) ** 2).mean()}


def test_beside_a_frozen_part_a_block_that_the_user_named_is_measured_for_the_tasks_that_share_it(tmp_path, caplog):
    rows = first_rows(FrozenEmbedding(), tmp_path, caplog, TaskHealth(shared="blocks.1", every=1))
    for at, row in enumerate(rows):
        found = by_hand(FrozenEmbedding(), batch(DATA, 4 * at), in_last_block, lambda m, at=at: first_two(m, at))
        check(row, found)
        assert "c/grad_norm" not in row and row["c/grad_share"] == 0
    assert "measures nothing yet" not in caplog.text


def first_two(model, at):
    losses = model.losses(**batch(DATA, 4 * at))
    return {task: losses[task] for task in ("a", "b")}


class ThawingBlock(ManyTasks):
    """Freezes a block from the first batch to the second."""

    batches = 0

    def losses(self, x, targets):
        self.batches += 1
        self.blocks[1].requires_grad_(self.batches > 2)
        return super().losses(x, targets)


def test_a_block_that_the_user_named_may_be_frozen_at_first(tmp_path, caplog):
    rows = first_rows(ThawingBlock(), tmp_path, caplog, TaskHealth(shared="blocks.1", every=1), steps=4)
    assert ["a/grad_norm" in row for row in rows] == [False, False, True, True]
    assert "nothing yet: no two of the tasks a, b depend on blocks.1. The training has frozen a part" in caplog.text


class OwnMeans(ManyTasks):
    """Reports means, and trains sums divided by a number of items."""

    def losses(self, x, targets):
        hidden = self.trunk(x)
        return {
            task: (head(hidden).squeeze(-1) - targets[:, at]) ** 2 for at, (task, head) in enumerate(self.heads.items())
        }

    def total(self, losses):
        return sum(self.weights[task] * loss.sum() / 8 for task, loss in losses.items())

    def report(self, losses):
        for task, loss in losses.items():
            self.report_metrics(task, loss=loss.mean())


def test_weights_of_tensors_that_are_not_trained_on_are_estimated_and_named_so(tmp_path, caplog):
    (row,) = first_rows(OwnMeans(), tmp_path, caplog, steps=1)
    # A sum of four divided by 8 is half a mean.
    assert row["a/effective_weight.estimated"] == pytest.approx(0.5, rel=1e-3)
    assert row["b/effective_weight.estimated"] == pytest.approx(0.25, rel=1e-3)
    assert row["a/grad_share.estimated"] + row["b/grad_share.estimated"] == pytest.approx(1.0)
    assert "a/effective_weight" not in row and "a/loss_share" not in row


class HiddenPart(OwnMeans):
    def total(self, losses):
        return super().total(losses) + 0.1 * self.blocks[1].dense.weight.square().sum()


def test_without_an_explanation_of_the_total_there_is_no_weight(tmp_path, caplog):
    (row,) = first_rows(HiddenPart(), tmp_path, caplog, steps=1)
    assert not [name for name in row if "weight" in name or "share" in name]
    assert "a/grad_norm" in row
    assert "is not computed from the tensors reported as a/loss, b/loss" in caplog.text


class VectorLosses(OwnMeans):
    """Reports the losses of the samples, which it adds up itself."""

    def report(self, losses):
        for task, loss in losses.items():
            report_metrics(task, loss=weighted(loss, 1.0))


def test_losses_per_sample(tmp_path, caplog):
    model, inputs = VectorLosses(), batch(DATA, 0)
    (row,) = first_rows(copy.deepcopy(model), tmp_path, caplog, steps=1)
    gradients = by_hand(
        model, inputs, in_last_block, lambda m: {task: loss.mean() for task, loss in m.losses(**inputs).items()}
    )
    check(row, gradients)
    assert row["a/effective_weight"] == pytest.approx(0.5)


def test_weights_with_num_items_in_batch(tmp_path, caplog):
    """Three micro-batches of four items make a step, so a mean of four counts a third of three, that is 1."""
    settings = {"gradient_accumulation_steps": 3, "trainer_class": TokenTrainer, "steps": 1}
    (row,) = first_rows(Tokens("means"), tmp_path, caplog, **settings)
    assert row["a/effective_weight.estimated"] == pytest.approx(1.0, rel=1e-3)
    assert row["b/effective_weight.estimated"] == pytest.approx(0.5, rel=1e-3)
    (row,) = first_rows(Tokens("parts"), tmp_path, caplog, **settings)
    # What is reported is a third of the loss of the step, and has the weight in it.
    assert (row["a/effective_weight"], row["b/effective_weight"]) == (pytest.approx(3.0), pytest.approx(3.0))


def test_a_loss_that_the_trainer_scales_in_place_is_followed(tmp_path, caplog):
    """With one task in a batch, ``loss *= number of processes`` changes the tensor that was reported."""
    model = Tokens("parts", alternates=True)
    rows = first_rows(copy.deepcopy(model), tmp_path, caplog, trainer_class=TokenTrainer, steps=3)
    inputs = batch(DATA, 8)  # the third batch is of task b
    single = by_hand(model, inputs, in_last_block, lambda m: ManyTasks.losses(m, **inputs))
    assert rows[2]["b/grad_norm"] == pytest.approx(0.5 * float(single["b"].norm()), rel=1e-5)
    assert rows[2]["b/effective_weight"] == pytest.approx(1.0)


@pytest.mark.parametrize(("change", "factor"), [("mul_", 4.0), ("div_", 0.25), ("add_", None)])
def test_what_is_known_of_a_tensor_that_was_changed_in_place(change, factor):
    loss = torch.ones(3, requires_grad=True).sum()
    reported = ReportedLoss("a/loss", loss, loss._version, loss.grad_fn)
    assert reported.followed() is reported
    getattr(loss, change)(4)
    followed = reported.followed()
    assert (followed and followed.factor) == factor
    loss.mul_(2)
    assert reported.followed() is None


class Unreported(ManyTasks):
    def report(self, losses):
        for task, loss in list(losses.items())[:2]:
            self.report_metrics(task, loss=loss)


def test_a_part_that_is_not_reported_is_said_once(tmp_path, caplog):
    rows = first_rows(Unreported({"a": 1.0, "b": 1.0, "c": 1.0}), tmp_path, caplog, steps=2)
    assert len(rows) == 2
    assert caplog.text.count("do not explain") == 1


class SeveralLosses(ManyTasks):
    """Task ``a`` has two losses with different weights; the tensors are heads of their own."""

    def report(self, losses):
        self.report_metrics("a", loss=losses["a"], aux_loss=losses["b"])
        self.report_metrics("c", loss=losses["c"])


def test_losses_of_one_task_add_up(tmp_path, caplog):
    model, inputs = SeveralLosses({"a": 1.0, "b": 0.25, "c": 1.0}), batch(DATA, 0)
    (row,) = first_rows(copy.deepcopy(model), tmp_path, caplog, TaskHealth("*loss", every=1), steps=1)
    single = by_hand(model, inputs, in_last_block, lambda m: m.losses(**inputs))
    check(row, {"a": single["a"] + single["b"], "c": single["c"]})
    weighted_a = (single["a"] + 0.25 * single["b"]).norm()
    assert row["a/grad_share"] == pytest.approx(float(weighted_a / (weighted_a + single["c"].norm())), rel=1e-5)


def test_more_than_eight_tasks_are_compared_with_the_total(tmp_path, caplog):
    weights = {f"t{at}": 1.0 + at for at in range(9)}
    model = ManyTasks(weights)
    data = items(512, tasks=9)
    trainer = make_trainer(copy.deepcopy(model), tmp_path, TaskHealth(every=1), steps=1, learning_rate=0.0)
    trainer.train_dataset = data
    trainer.train()
    (row,) = rows_of(trainer)
    inputs = batch(data, 0)
    single = by_hand(model, inputs, in_last_block, lambda m: m.losses(**inputs))
    total = sum(weights[task] * each for task, each in single.items())
    cosines = {f"health/grad_cosine.{task}.total": cosine(each, total) for task, each in single.items()}
    assert {name: value for name, value in row.items() if "cosine" in name} == pytest.approx(cosines, abs=1e-5)
    assert row["health/conflict"] == sum(each < 0 for each in cosines.values()) / 9
    assert "there are more than 8 tasks" in caplog.text


def test_measurements_are_those_of_the_steps_that_are_due_and_are_averaged(tmp_path, caplog):
    trainer = make_trainer(ManyTasks(), tmp_path, TaskHealth(every=2), steps=8, learning_rate=0.0, logging_steps=4)
    trainer.train()
    model, found = ManyTasks(), []
    for step in (2, 4, 6, 8):
        inputs = batch(DATA, 4 * (step - 1))
        gradients = by_hand(model, inputs, in_last_block, lambda m, inputs=inputs: m.losses(**inputs))
        found.append(cosine(gradients["a"], gradients["b"]))
    rows = list(rows_of(trainer))
    assert [row["health/grad_cosine.a.b"] for row in rows] == pytest.approx(
        [np.mean(found[:2]), np.mean(found[2:])], abs=1e-5
    )
    snapshots = read_journal(tmp_path)[0].snapshots
    assert [each.counts.get("health/grad_cosine.a.b") for each in snapshots if each.phase == "train"] == [2, 2]
    trainer = make_trainer(ManyTasks(), tmp_path, TaskHealth(every=2), steps=2)
    trainer.train()
    assert ["a/grad_norm" in row for row in rows_of(trainer)] == [False, True]


def test_the_choice_is_said_once_and_is_in_the_journal(tmp_path, caplog):
    make_trainer(ManyTasks(), tmp_path, TaskHealth(every=1), steps=3).train()
    assert caplog.text.count("task health: every 1 step,") == 1
    (note,) = read_journal(tmp_path)[0].notes
    assert note.kind == "task_health"
    assert note.data["shared"] == "blocks.1"
    assert note.data["tasks"] == ["a", "b"]
    assert note.data["parameters"] == [
        f"blocks.1.{name}" for name in ("dense.weight", "dense.bias", "norm.weight", "norm.bias")
    ]


class Hooked(ManyTasks):
    """Its hooks report while gradients are computed, and its checkpointed blocks report in their forward."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks[1].register_forward_hook(lambda *_: report_metrics("hook", forward=1.0))
        self.blocks[1].dense.weight.register_hook(lambda _: report_metrics("hook", backward=1.0))


@pytest.mark.parametrize("use_reentrant", [None, False])
def test_reports_made_while_measuring_do_not_count(use_reentrant, tmp_path, caplog):
    first_rows(Hooked(use_reentrant=use_reentrant), tmp_path, caplog, steps=2, gradient_accumulation_steps=2)
    snapshots = [each for each in read_journal(tmp_path)[0].snapshots if each.phase == "train"]
    assert [(each.counts["hook/forward"], each.counts["hook/backward"]) for each in snapshots] == [(2, 2), (2, 2)]


class CountedTrainer(OrderedTrainer):
    """Counts the operators of torch per training step, and the methods that are replaced during it."""

    def training_step(self, *args, **kwargs):
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            result = super().training_step(*args, **kwargs)
        self.calls = [*getattr(self, "calls", []), sum(event.count for event in profile.key_averages())]
        return result


def test_other_steps_call_nothing_of_torch_more(tmp_path, caplog):
    found = {}
    for every in (None, 3):
        health = None if every is None else TaskHealth(every=every)
        trainer = make_trainer(ManyTasks(), tmp_path, health, steps=4, trainer_class=CountedTrainer, logging_steps=100)
        trainer.train()
        found[every] = trainer.calls
        assert "backward" not in vars(trainer.accelerator)
        assert "record" not in vars(trainer.metric_registry)
    assert [found[3][at] == found[None][at] for at in (1, 3)] == [True, True]
    assert found[3][2] > found[None][2]


def state_hashes(trainer):
    """Hash weights, optimizer and the state of each random generator."""
    states = trainer.optimizer.state_dict()["state"].values()
    parts = {
        "weights": [tensor.detach().numpy().tobytes() for tensor in trainer.model.state_dict().values()],
        "optimizer": [torch.as_tensor(value).numpy().tobytes() for state in states for value in state.values()],
        "torch": [torch.get_rng_state().numpy().tobytes()],
        "numpy": [str(np.random.get_state()).encode()],
        "python": [str(random.getstate()).encode()],
    }
    return {name: hashlib.sha256(b"".join(part)).hexdigest() for name, part in parts.items()}


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ({}, {}),
        ({"use_reentrant": False}, {"gradient_accumulation_steps": 3}),
        ({"use_reentrant": False}, {"bf16": True, "gradient_accumulation_steps": 2}),
    ],
    ids=["plain", "recomputed", "bfloat16"],
)
def test_the_training_is_bit_for_bit_the_same(model, settings, tmp_path, caplog):
    found = []
    for health in (None, TaskHealth(every=1), TaskHealth(shared="*", every=3)):
        trainer = make_trainer(
            ManyTasks(dropout=0.1, **model),
            tmp_path,
            health,
            steps=50,
            learning_rate=1e-2,
            logging_steps=50,
            **settings,
        )
        trainer.train()
        found.append(state_hashes(trainer))
    assert found[1] == found[0]
    assert found[2] == found[0]
    assert "task health is off" not in caplog.text


def test_parameters_that_the_user_names_are_those_of_the_model_that_model_init_makes(tmp_path, caplog):
    kwargs = {"model_init": lambda: ManyTasks()}
    trainer = make_trainer(None, tmp_path, TaskHealth(shared="blocks.1", every=1), steps=2, trainer_kwargs=kwargs)
    trainer.train()
    assert [row["step"] for row in trainer.state.log_history if "health/conflict" in row] == [1, 2]
    assert "task health is off" not in caplog.text


class Normed(nn.Module):
    """A checkpointed block that changes buffers in each forward, and draws random numbers that nobody restores."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return nn.functional.dropout(self.linear(self.norm(x)), 0.1, self.training)


class CheckpointedNorm(ManyTasks):
    def __init__(self) -> None:
        super().__init__()
        self.normed = Normed()

    def trunk(self, x):
        return checkpoint(self.normed, super().trunk(x), use_reentrant=False, preserve_rng_state=False)


def test_measuring_does_not_change_the_buffers_of_a_checkpointed_model(tmp_path, caplog):
    found = []
    for health in (None, TaskHealth(every=1)):
        trainer = make_trainer(CheckpointedNorm(), tmp_path, health, steps=6, learning_rate=1e-2)
        trainer.train()
        found.append({name: value.clone() for name, value in trainer.model.state_dict().items()})
    assert "task health is off" not in caplog.text
    assert any("health/conflict" in row for row in trainer.state.log_history)
    plain, measured = found
    assert plain["normed.norm.num_batches_tracked"] == 12  # one forward, and one in each backward pass of the training
    for name, value in plain.items():
        assert torch.equal(value, measured[name]), name


@pytest.mark.parametrize("weights", [{"a": 1.0}, {"a": 1.0, "b": 0.5}])
def test_a_resumed_training_measures_the_same_parameters_from_its_first_step_on(weights, tmp_path):
    def made(steps):
        changes = {"save_strategy": "steps", "save_steps": 12, "learning_rate": 1e-2}
        return make_trainer(ManyTasks(weights), tmp_path / "out", TaskHealth(every=1), steps=steps, **changes)

    whole, resumed = made(16), made(16)
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-12"))
    names = [name for name in [*rows_of(whole)][-1] if name.startswith(("a/", "b/", "health/"))]
    assert "a/grad_norm" in names
    for name in names:
        values = [[(row["step"], row[name]) for row in rows_of(each) if row["step"] > 12] for each in (whole, resumed)]
        assert values[0] == values[1]
        assert len(values[0]) == 4


def test_a_loss_that_is_captured_a_second_time_for_a_budget_is_one_loss(tmp_path, caplog):
    class Outputs(ManyTasks):
        supports_report_metrics = False

        def forward(self, x, targets):
            losses = self.losses(x, targets)
            return {"loss": self.total(losses), **{f"{task}_loss": loss for task, loss in losses.items()}}

    kwargs = {"capture": "*loss*", "loss_budget": {"a_loss": 1.0, "b_loss": 0.5}}
    health = TaskHealth(losses="*loss*", every=1)
    trainer = make_trainer(Outputs(), tmp_path, health, steps=3, learning_rate=0.0, trainer_kwargs=kwargs)
    trainer.train()
    assert "task health is off" not in caplog.text
    rows = [*rows_of(trainer)]
    assert all("a_loss/grad_norm" in row for row in rows)
    # The patterns also match a_loss/loss_share, which is no loss.
    first = {task: rows[0][f"{task}_loss"] for task in "ab"}
    for row in rows:
        for task in "ab":
            assert row[f"{task}_loss/progress"] == pytest.approx(row[f"{task}_loss"] / first[task])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"every": 2}, None),
        ({"every": 7}, "measured nothing: the training had no step that is a multiple of 7"),
        ({"every": 2, "losses": "zz/*"}, r"measured nothing: in 3 micro-batches, nothing .* matched 'zz/\*'"),
        ({"every": 2, "losses": "a/*"}, r"measured nothing: .* had 3 micro-batches to measure, with losses of a\."),
        (
            {"every": 3, "losses": ["zz/loss"]},
            r"nothing: in 2 micro-batches, nothing .* matched \['zz/loss'\]",
        ),
    ],
)
def test_a_training_without_a_measurement_says_why_at_its_end(tmp_path, caplog, settings, said) -> None:
    trainer = make_trainer(ManyTasks(), tmp_path, TaskHealth(**settings), steps=6)
    trainer.train()
    messages = [text for text in caplog.messages if "measured nothing" in text]
    assert len(messages) == (said is not None)
    assert said is None or re.search(said, messages[0])
