"""Each case in which measuring would be wrong: it is refused with a message, and the training is as without it."""

from __future__ import annotations

import gc
import weakref
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from helpers.many_tasks import ManyTasks, OrderedTrainer, make_trainer, rows_of
from torch import nn

from mtask_sinks import TaskHealth, report_metrics
from mtask_sinks.task_health.graph import reach_of
from mtask_sinks.task_health.measure import measure
from mtask_sinks.task_health.refusals import NotMeasurable, check_graph, check_wrapper, why_settings_refuse
from mtask_sinks.task_health.reported_losses import ReportedLoss


def settings(**changes):
    """Stand for a trainer, as far as the settings go."""
    args = {
        "optim": "adamw_torch",
        "ddp_static_graph": None,
        "gradient_checkpointing": False,
        "gradient_checkpointing_kwargs": None,
        "torch_compile": False,
        "use_liger_kernel": False,
        "fsdp": [],
        "activation_offloading": False,
    }
    accelerator = changes.pop("accelerator", SimpleNamespace(distributed_type="NO", state=None))
    model = changes.pop("model", nn.Linear(1, 1))
    return SimpleNamespace(args=SimpleNamespace(**{**args, **changes}), accelerator=accelerator, model=model)


def deepspeed(stage):
    return SimpleNamespace(
        distributed_type="DEEPSPEED", state=SimpleNamespace(deepspeed_plugin=SimpleNamespace(zero_stage=stage))
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ddp_static_graph": True}, "ddp_static_graph=True"),
        (
            {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}},
            "use_reentrant=True",
        ),
        (
            {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True}},
            "use_reentrant=True",
        ),
        ({"torch_compile": True}, "torch_compile=True compiles the model"),
        ({"model": torch.compile(nn.Linear(1, 1), backend="eager")}, "torch.compile(model) compiles the model"),
        ({"use_liger_kernel": True}, "use_liger_kernel=True"),
        ({"fsdp": ["full_shard"]}, "fsdp"),
        ({"accelerator": deepspeed(3)}, "ZeRO stage 3"),
        ({"optim": "lomo"}, "optim='lomo'"),
        ({"optim": "adalomo"}, "optim='adalomo'"),
        ({"activation_offloading": True}, "activation_offloading=True"),
    ],
)
def test_settings_that_are_refused(changes, words):
    assert words in why_settings_refuse(settings(**changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accelerator": deepspeed(2)},
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
    ],
)
def test_settings_that_are_not(changes):
    assert why_settings_refuse(settings(**changes)) is None


class Compiled(ManyTasks):
    """Stands for a model that `torch.compile` wraps."""


Compiled.__name__ = "OptimizedModule"


class ReentrantBlocks(ManyTasks):
    def __init__(self):
        super().__init__(use_reentrant=True)


class LigerLikeFunction(torch.autograd.Function):
    """Computes the gradient in the forward, and scales it in place in the backward, as Liger's losses do."""

    @staticmethod
    def forward(ctx, x, target):
        ctx.save_for_backward(2 * (x - target) / len(x))
        return ((x - target) ** 2).mean()

    @staticmethod
    def backward(ctx, incoming):
        (gradient,) = ctx.saved_tensors
        gradient.data.mul_(incoming)
        return gradient.clone(), None


class CountedFunction(LigerLikeFunction):
    """As above, with a change that autograd notices."""

    @staticmethod
    def backward(ctx, incoming):
        (gradient,) = ctx.saved_tensors
        return gradient.mul_(2 * incoming).clone(), None


class FusedLoss(ManyTasks):
    function = LigerLikeFunction

    def losses(self, x, targets):
        hidden = self.trunk(x)
        return {
            task: self.function.apply(head(hidden).squeeze(-1), targets[:, at])
            for at, (task, head) in enumerate(self.heads.items())
        }


class UnknownFusedLoss(FusedLoss):
    class OwnFunction(LigerLikeFunction):
        pass

    function = OwnFunction


class NoticedFusedLoss(FusedLoss):
    function = CountedFunction


class CachedLoss(ManyTasks):
    """Computes its gradients in a hook on a leaf, as sentence-transformers' cached losses do."""

    def forward(self, x, targets):
        losses = {}
        for task, loss in self.losses(x, targets).items():
            leaf = loss.detach().requires_grad_()
            leaf.register_hook(lambda incoming, loss=loss: loss.backward(incoming, retain_graph=True))
            losses[task] = leaf
        self.report(losses)
        return (self.total(losses),)


class AddedInPlace(ManyTasks):
    def total(self, losses):
        total = losses["a"]
        total += 0.5 * losses["b"]
        return total


class Nested(ManyTasks):
    def report(self, losses):
        super().report(losses)
        self.report_metrics("all", loss=losses["a"] + losses["b"])


class SameTwice(ManyTasks):
    def report(self, losses):
        super().report(losses)
        self.report_metrics("again", loss=losses["a"])


class Detached(ManyTasks):
    def report(self, losses):
        for task, loss in losses.items():
            self.report_metrics(task, loss=loss.detach())


class Numbers(ManyTasks):
    def report(self, losses):
        for task, loss in losses.items():
            self.report_metrics(task, loss=loss.item())


class OwnName(ManyTasks):
    def report(self, losses):
        super().report(losses)
        report_metrics("a", grad_norm=1.0)


class OwnBackward(OrderedTrainer):
    def training_step(self, model, inputs, num_items_in_batch=None):
        loss = self.compute_loss(model, self._prepare_inputs(inputs))
        loss.backward()
        return loss.detach()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Compiled, "torch.compile(model)"),
        (ReentrantBlocks, "use_reentrant=True"),
        (FusedLoss, "LigerLikeFunctionBackward"),
        (UnknownFusedLoss, "OwnFunctionBackward changes the tensors that it saved"),
        (NoticedFusedLoss, "CountedFunctionBackward changes the tensors that it saved"),
        (CachedLoss, "this loss has no graph of its own"),
        (AddedInPlace, "'a/loss' was changed in place"),
        (Nested, "'a/loss' is a part of 'all/loss'"),
        (SameTwice, "are the same tensor"),
        (Detached, "it was detached"),
        (Numbers, "a float was reported, not the tensor"),
        (OwnName, "'a/grad_norm'"),
    ],
)
def test_models_that_are_refused_train_as_without_it(model, words, tmp_path, caplog):
    weights = []
    for health in (None, TaskHealth(every=1)):
        trainer = make_trainer(model(), tmp_path, health, steps=10, learning_rate=0.1, gradient_accumulation_steps=2)
        trainer.train()
        weights.append(trainer.model.state_dict())
        assert trainer.state.global_step == 10
        assert not any("health/" in name for row in rows_of(trainer) for name in row)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert words in caplog.text
    assert caplog.text.count("task health is off, the training goes on") == 1


def test_a_trainer_that_calls_backward_by_itself(tmp_path, caplog):
    trainer = make_trainer(ManyTasks(), tmp_path, TaskHealth(every=1), steps=10, trainer_class=OwnBackward)
    trainer.train()
    assert "did not call accelerator.backward" in caplog.text


def test_a_short_training_that_calls_backward_by_itself_says_so_at_its_end(tmp_path, caplog):
    make_trainer(ManyTasks(), tmp_path, TaskHealth(every=2), steps=6, trainer_class=OwnBackward).train()
    said = [text for text in caplog.messages if "measured nothing" in text]
    assert [text.partition(",")[0] for text in said] == ["task health measured nothing: in 3 micro-batches"]
    assert "did not call accelerator.backward" in said[0]


class TaskByTask(OrderedTrainer):
    """One forward for all tasks, and a backward pass for each."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        losses = model.losses(**self._prepare_inputs(inputs))
        model.report(losses)
        for loss in losses.values():
            self.accelerator.backward(loss, retain_graph=True)
        return sum(losses.values()).detach()


class ForwardByTask(OrderedTrainer):
    """A forward and a backward pass for each task."""

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        inputs, total = self._prepare_inputs(inputs), 0.0
        for task in model.weights:
            loss = model.losses(**inputs)[task]
            report_metrics(task, loss=loss)
            self.accelerator.backward(loss)
            total += loss.detach()
        return total


@pytest.mark.parametrize("trainer_class", [TaskByTask, ForwardByTask])
def test_a_trainer_that_calls_backward_once_per_task(trainer_class, tmp_path, caplog):
    """The first call is for one task alone, so it would have the whole gradient."""
    weights = []
    for health in (None, TaskHealth(every=1, shared="blocks.1")):
        trainer = make_trainer(ManyTasks(), tmp_path, health, steps=2, learning_rate=0.1, trainer_class=trainer_class)
        trainer.train()
        weights.append(trainer.model.state_dict())
        assert not any("grad_share" in name or "health/" in name for row in rows_of(trainer) for name in row)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert caplog.text.count("task health is off, the training goes on: training_step calls accelerator.backward") == 1
    assert "does not depend on 'b/loss'" in caplog.text


def test_a_step_that_repeats_its_whole_loss_is_measured_at_the_first_pass(tmp_path):
    """As sharpness-aware and adversarial training do."""

    class Twice(OrderedTrainer):
        def training_step(self, *args, **kwargs):
            super().training_step(*args, **kwargs)
            return super().training_step(*args, **kwargs)

    measured = []
    for trainer_class in (OrderedTrainer, Twice):
        health = TaskHealth(every=1, shared="blocks.1")
        trainer = make_trainer(ManyTasks(), tmp_path, health, steps=1, trainer_class=trainer_class)
        trainer.train()
        row = trainer.state.log_history[0]
        measured.append({name: row[name] for name in row if "grad_" in name and name != "grad_norm"})
    assert measured[0] == measured[1]
    assert 0 < measured[0]["b/grad_share"] < 1


def test_a_step_with_several_backward_passes_keeps_no_graph_of_an_earlier_one(tmp_path):
    """Each pass has a batch of its own, so that the activations of one of them fit into memory."""
    kept, alive = [], []

    class Keeps(torch.autograd.Function):
        @staticmethod
        def forward(ctx, loss):
            ctx.activations = torch.ones(2)
            kept.append(weakref.ref(ctx.activations))
            return loss.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient

    class Passes(OrderedTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            for _ in range(3):
                loss = Keeps.apply(self.compute_loss(model, self._prepare_inputs(inputs)))
                self.accelerator.backward(loss)
                value = loss.detach()
                del loss
                gc.collect()
                alive.append(sum(each() is not None for each in kept))
            return value

    trainer = make_trainer(ManyTasks(), tmp_path, TaskHealth(every=1, shared="blocks.1"), steps=1, trainer_class=Passes)
    trainer.train()
    assert alive == [0, 0, 0]
    assert "a/grad_norm" in trainer.state.log_history[0]


def test_ddp_with_a_static_graph_is_seen_at_the_wrapper():
    wrapper = object.__new__(nn.parallel.DistributedDataParallel)
    wrapper.__dict__["static_graph"] = True
    with pytest.raises(NotMeasurable, match="static_graph"):
        check_wrapper(wrapper)


class FlatParameter(nn.Parameter):
    """Stands for that of FSDP, which is found by its name."""


def flat(parameter):
    return FlatParameter(parameter.detach())


def zero_3(parameter):
    parameter.ds_id = 1
    return parameter


def sharded(parameter):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import distribute_tensor

    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        return nn.Parameter(distribute_tensor(parameter.detach(), init_device_mesh("cpu", (1,))))
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("change", [flat, zero_3, sharded])
def test_parameters_that_are_parts(change):
    model = nn.Linear(2, 1, bias=False)
    model.weight = change(model.weight)
    loss = model.weight.sum()
    if change is sharded:
        loss = loss.to_local()
    with pytest.raises(NotMeasurable, match=r"holds only a part|only a part of each"):
        check_graph({"a/loss": reach_of([loss])}, model)


class CompiledBlocks(ManyTasks):
    """Only its blocks are compiled, as large models are."""

    def __init__(self):
        super().__init__()
        for block in self.blocks:
            block.compile(backend="aot_eager")


def test_compiled_layers_that_give_away_what_they_saved(tmp_path, caplog, fresh_compiler):
    weights = []
    for model, health in ((ManyTasks, None), (CompiledBlocks, TaskHealth(every=1))):
        trainer = make_trainer(model(), tmp_path, health, steps=4, learning_rate=0.1)
        trainer.train()
        weights.append({name.replace("_orig_mod.", ""): each for name, each in trainer.model.state_dict().items()})
    assert "task health is off, the training goes on: the gradients could not be computed" in caplog.text
    assert "do not compile them" in caplog.text
    # The first step ran before any measurement, and those after it are those of the training alone.
    for name, expected in weights[0].items():
        torch.testing.assert_close(weights[1][name], expected)


def test_compiled_layers_that_have_run_before_the_first_due_step_are_measured_in_it(tmp_path, fresh_compiler):
    """The first backward pass of compiled layers must not be in a measurement; here it is in step 1."""
    import torch._functorch.config as config

    with config.patch(donated_buffer=False):  # so that the layers keep what they saved
        trainer = make_trainer(CompiledBlocks(), tmp_path, TaskHealth(every=2), steps=4, logging_steps=2)
        trainer.train()
    rows = [row for row in trainer.state.log_history if "health/conflict" in row]
    assert [row["step"] for row in rows] == [2, 4]


class CompiledInPlace(ManyTasks):
    def __init__(self):
        super().__init__()
        self.compile(backend="eager")


def test_a_compiled_model_that_reports_its_losses_is_named_in_the_first_measurement(tmp_path, caplog, fresh_compiler):
    trainer = make_trainer(CompiledInPlace(), tmp_path, TaskHealth(every=1), steps=2)
    trainer.train()
    assert "task health is off, the training goes on: model.compile() compiles the model and its losses" in caplog.text
    assert [row["a/loss"] > 0 for row in rows_of(trainer)] == [True, True]


class Predicts(ManyTasks):
    def forward(self, x, targets):
        hidden = self.trunk(x)
        return {task: head(hidden).squeeze(-1) for task, head in self.heads.items()}


class LossTrainer(OrderedTrainer):
    def compute_loss(self, model, inputs, *args, **kwargs):
        predicted = model(**inputs)
        losses = {task: ((predicted[task] - inputs["targets"][:, at]) ** 2).mean() for at, task in enumerate("ab")}
        model.report(losses)
        return model.total(losses)


def plain_and_compiled(tmp_path, trainer_class: type, steps: int) -> list[list[dict]]:
    """Train a plain model, then a compiled one, and return the rows of each training."""
    found = []
    for is_compiled in (False, True):
        model = Predicts()
        if is_compiled:
            model.compile(backend="eager")
        trainer = make_trainer(model, tmp_path, TaskHealth(every=1), steps=steps, trainer_class=trainer_class)
        trainer.train()
        found.append(rows_of(trainer))
    return found


def test_a_compiled_model_whose_losses_the_trainer_computes_is_measured(tmp_path, fresh_compiler):
    rows = [
        [(row["health/conflict"], row["a/grad_norm"], row["b/grad_norm"]) for row in of_model]
        for of_model in plain_and_compiled(tmp_path, LossTrainer, steps=3)
    ]
    assert len(rows[0]) == 3 and rows[1] == [pytest.approx(row) for row in rows[0]]


class Auxiliary(nn.Module):
    """A layer that reports a loss of its own."""

    supports_report_metrics = True

    def __init__(self, block):
        super().__init__()
        self.block = block

    def forward(self, x):
        x = self.block(x)
        self.report_metrics("aux", loss=x.square().mean())
        return x


def test_a_loss_that_a_compiled_layer_reports_is_left_out_with_the_reason(tmp_path, caplog, fresh_compiler):
    model = ManyTasks()
    model.blocks[0] = Auxiliary(model.blocks[0])
    model.blocks[0].compile(backend="eager")
    trainer = make_trainer(model, tmp_path, TaskHealth(every=1), steps=11)
    trainer.train()
    assert all(row["aux/loss"] > 0 and row["a/grad_norm"] > 0 for row in rows_of(trainer))
    assert caplog.text.count("task health leaves out aux/loss: compiled code computes it.") == 1
    assert "take turns" not in caplog.text


class SkippingTrainer(LossTrainer):
    """The first and the fourth batch report nothing."""

    batches = 0

    def compute_loss(self, model, inputs, *args, **kwargs):
        self.batches += 1
        model.report = partial(ManyTasks.report, model) if self.batches not in (1, 4) else lambda losses: None
        return super().compute_loss(model, inputs, *args, **kwargs)


def test_a_compiled_model_goes_on_being_measured_after_a_batch_without_reports(tmp_path, caplog, fresh_compiler):
    norms = [
        {row["step"]: row["a/grad_norm"] for row in of_model if "a/grad_norm" in row}
        for of_model in plain_and_compiled(tmp_path, SkippingTrainer, steps=5)
    ]
    assert [*norms[0]] == [2, 3, 5] and norms[1] == pytest.approx(norms[0])
    assert "task health is off" not in caplog.text


def test_a_compiled_model_whose_trainer_reports_no_loss_that_matches_is_told_so(tmp_path, caplog, fresh_compiler):
    model = Predicts()
    model.compile(backend="eager")
    make_trainer(model, tmp_path, TaskHealth("*/nll", every=1), steps=11, trainer_class=LossTrainer).train()
    assert "in 10 measured micro-batches nothing was reported that matches '*/nll'" in caplog.text


class CompiledInside(ManyTasks):
    """Its losses are computed and reported in a part that is compiled."""

    def __init__(self):
        super().__init__()
        self.part = CompiledInPlace()

    def forward(self, x, targets):
        return self.part(x, targets)


def test_a_compiled_part_that_reports_the_losses_is_named(tmp_path, caplog, fresh_compiler):
    make_trainer(CompiledInside(), tmp_path, TaskHealth(every=1), steps=11).train()
    assert "task health is off, the training goes on: torch.compile compiles the model and its losses" in caplog.text


class OwnGather(torch.autograd.Function):
    """A gather whose gradients come back from all ranks, as many contrastive losses write it."""

    @staticmethod
    def forward(ctx, x):
        return x * 1.0

    @staticmethod
    def backward(ctx, gradient):
        torch.distributed.all_reduce(gradient)
        return gradient


@pytest.mark.parametrize(("ranks", "is_refused"), [(2, True), (1, False)])
def test_a_backward_pass_that_waits_for_other_ranks(monkeypatch, ranks, is_refused):
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: ranks)
    model = nn.Linear(2, 1)
    loss = OwnGather.apply(model(torch.ones(1, 2))).sum()
    reaches = {"a/loss": reach_of([loss])}
    if is_refused:
        with pytest.raises(NotMeasurable, match="OwnGatherBackward: its backward pass exchanges data"):
            check_graph(reaches, model)
    else:
        check_graph(reaches, model)


@pytest.mark.parametrize("loss_scale", [1.0, 65536.0, 2.0**20])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_losses_of_every_precision_are_measured_whatever_the_scale_of_the_gradients(dtype, loss_scale):
    weight = torch.tensor([0.5, -1.0], requires_grad=True)
    losses = [ReportedLoss(f"{task}/loss", loss := factor * weight.to(dtype).abs().sum(), loss._version, loss.grad_fn)
              for task, factor in (("a", 0.5), ("b", 1.0))]  # fmt: skip
    measured = measure(losses, losses[0].tensor + losses[1].tensor, [weight], True, loss_scale)
    # The gradients are (0.5, -0.5) and (1, -1), and that of the total is their sum.
    assert measured.products.gram.tolist() == [[0.5, 1.0, 1.5], [1.0, 2.0, 3.0], [1.5, 3.0, 4.5]]
