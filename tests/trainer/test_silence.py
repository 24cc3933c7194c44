"""Metrics that a user meant to report and that reach nobody: said once, never for plain use."""

from __future__ import annotations

import copy
import logging
import multiprocessing
from functools import partial
from types import MethodType

import pytest
import torch
from helpers.toy import InOrder, Silent, Toy, arguments, numbers, points, rows
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PretrainedConfig,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, MultiTaskTrainerMixin, report_metrics
from mtask_sinks.reporting import api, forked
from mtask_sinks.reporting.forked import WHY_LOST


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


def trained(tmp_path, model, *, cls=Ordered, callbacks=(), train=(1, 2, 3, 4), **extra):
    changes, checkpoint = extra.pop("changes", {}), extra.pop("resume_from_checkpoint", None)
    args = arguments(tmp_path, **changes)
    data = {"train_dataset": numbers(*train), "eval_dataset": numbers(10, 20)}
    trainer = cls(model, args, callbacks=[*callbacks], **data, **extra)
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


def said(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("mtask_sinks")]


# A module beside the model.


class Criterion(torch.nn.Module):
    supports_report_metrics = True

    def forward(self, loss):
        if hasattr(self, "report_metrics"):
            self.report_metrics("criterion", loss=loss)
        return loss


def test_a_flagged_module_that_is_no_part_of_the_model_is_said_once(tmp_path, caplog) -> None:
    class Holds(Ordered):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            self.criteria = {"train": torch.nn.Sequential(Criterion(), Criterion())}

        def compute_loss(self, model, inputs, *args, **kwargs):
            return self.criteria["train"](super().compute_loss(model, inputs))

    trainer = trained(tmp_path, Toy(), cls=Holds)
    trainer.train()
    assert "criterion/loss" not in trainer.state.log_history[0]
    (message,) = said(caplog)
    assert message.startswith("trainer.criteria: Criterion sets supports_report_metrics = True, but it is not a part")


CRITERION = Criterion()


def train_with(held: object, owner: str, name: str, tmp_path) -> None:
    """Train while the trainer or its model, a `Toy`, holds an object under a name."""
    model = Toy()
    trainer = Ordered(model, arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4))
    setattr(trainer if owner == "trainer" else model, name, held)
    trainer.train()


@pytest.mark.parametrize("criteria", [[torch.nn.Identity(), Criterion()], {"x": Criterion()}], ids=["list", "dict"])
@pytest.mark.parametrize("owner", ["trainer", "Toy"])
def test_a_flagged_module_in_a_plain_list_or_dict_is_said(owner: str, criteria: object, tmp_path, caplog) -> None:
    train_with(criteria, owner, "criteria", tmp_path)
    (message,) = said(caplog)
    assert message.startswith(f"{owner}.criteria: Criterion sets supports_report_metrics = True, but it is not a part")


def _with_criterion(output, labels, num_items_in_batch=None, criterion=None):
    return criterion(output[0])


class LossObject:
    def __init__(self, criterion) -> None:
        self.criterion = criterion

    def __call__(self, output, labels, num_items_in_batch=None):
        return self.criterion(output[0])

    def of_global(self, output, labels, num_items_in_batch=None):
        return CRITERION(output[0])


@pytest.mark.parametrize("kind", ["closure", "global", "partial", "object", "global in method"])
def test_a_flagged_module_that_a_loss_function_uses_is_said(kind: str, tmp_path, caplog) -> None:
    inner = Criterion()
    function = {
        "closure": lambda output, labels, num_items_in_batch=None: inner(output[0]),
        "global": lambda output, labels, num_items_in_batch=None: CRITERION(output[0]),
        "partial": partial(_with_criterion, criterion=inner),
        "object": LossObject(inner),
        "global in method": LossObject(None).of_global,
    }[kind]
    trainer = trained(tmp_path, Toy(), compute_loss_func=function)
    assert "criterion/loss" not in trainer.state.log_history[0]
    (message,) = said(caplog)
    assert message.startswith("trainer.compute_loss_func: Criterion sets supports_report_metrics = True")


class Holder:
    def __init__(self, criterion) -> None:
        self.criteria = {"by task": [criterion]}

    def __call__(self, loss):
        return self.criteria["by task"][0](loss)


@pytest.mark.parametrize("owner", ["trainer", "Toy"])
@pytest.mark.parametrize("kind", ["object", "nested", "closure", "partial"])
def test_a_flagged_module_that_something_else_holds_or_uses_is_said(owner: str, kind: str, tmp_path, caplog) -> None:
    inner = Criterion()
    held = {
        "object": Holder(inner),
        "nested": {"a": [{"b": (inner,)}]},
        "closure": lambda loss: inner(loss),
        "partial": partial(_with_criterion, criterion=Holder(inner)),
    }[kind]
    train_with(held, owner, "held", tmp_path)
    (message,) = said(caplog)
    assert message.startswith(f"{owner}.held: Criterion sets supports_report_metrics = True, but it is not a part")


class UsesGlobalInStep(Ordered):
    def training_step(self, *args, **kwargs):
        return CRITERION(super().training_step(*args, **kwargs))


class UsesGlobalInLoss(Ordered):
    def compute_loss(self, *args, **kwargs):
        losses = [super().compute_loss(*args, **kwargs)]
        return sum(CRITERION(loss) for loss in losses)


class UsesGlobalInForward(Toy):
    def forward(self, x):
        return (CRITERION(super().forward(x)[0]),)


class MakesItInStep(Ordered):
    criterion = None

    def compute_loss(self, *args, **kwargs):
        self.criterion = self.criterion or Criterion()
        return self.criterion(super().compute_loss(*args, **kwargs))


@pytest.mark.parametrize(
    ("place", "cls", "model"),
    [
        ("trainer.training_step", UsesGlobalInStep, Toy),
        ("trainer.compute_loss", UsesGlobalInLoss, Toy),
        ("UsesGlobalInForward.forward", Ordered, UsesGlobalInForward),
        ("trainer.criterion", MakesItInStep, Toy),
    ],
)
def test_a_flagged_module_that_a_step_uses_is_said(place: str, cls, model, tmp_path, caplog) -> None:
    trainer = trained(tmp_path, model(), cls=cls)
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert rows(trainer, "criterion/loss") == []
    (message,) = said(caplog)
    assert message.startswith(f"{place}: Criterion sets supports_report_metrics = True, but it is not a part")


class Experiment:
    """Trains two models, one after the other, with the same loss."""

    def __init__(self) -> None:
        self.first, self.second = Toy(), Criterion()

    def loss(self, output, labels, num_items_in_batch=None):
        return output[0]


def test_a_module_that_the_object_of_the_loss_holds_for_other_methods_is_not_said(tmp_path, caplog) -> None:
    experiment = Experiment()
    trained(tmp_path, experiment.first, compute_loss_func=experiment.loss)
    assert said(caplog) == []


def test_a_module_with_the_name_of_an_attribute_in_the_loss_function_is_not_said(tmp_path, caplog) -> None:
    def function(output, labels, num_items_in_batch=None):
        return output[0] if output[0].requires_grad else output[0].CRITERION

    trained(tmp_path, Toy(), compute_loss_func=function)
    assert said(caplog) == []


def test_nobody_looks_for_modules_in_the_items_of_a_long_dataset(tmp_path) -> None:
    class Items(list):
        def __iter__(self):
            raise AssertionError("this reads every item")

    data = Items(numbers(1, 2, 3, 4) * 300)
    trainer = Ordered(Toy(), arguments(tmp_path, max_steps=4), train_dataset=data, eval_dataset=numbers(10, 20))
    trainer.train()
    assert trainer.evaluate()["eval_a/loss"] == 15.0
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]


class Encoded(torch.utils.data.Dataset):
    """A dataset that uses a model of an earlier training."""

    def __init__(self, encoder) -> None:
        self.encoder = encoder
        self.items = numbers(1, 2, 3, 4)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        return {"x": self.encoder(self.items[index]["x"])}


def test_a_module_that_only_data_and_metrics_use_is_not_said(tmp_path, caplog) -> None:
    encoder = Criterion()
    data = Encoded(encoder)

    def collate(items):
        return {"x": torch.stack([encoder(item["x"]) for item in items])}

    given = {"data_collator": collate, "compute_metrics": lambda prediction: {"n": float(encoder(1.0))}}
    args = arguments(tmp_path, label_names=["x"])
    trainer = Ordered(Toy(), args, train_dataset=data, eval_dataset=data, **given)
    trainer.train()
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert said(caplog) == []


def test_a_model_with_a_part_in_torchscript_trains(tmp_path, caplog) -> None:
    model = Toy()
    model.scripted = torch.jit.script(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD([model.weight], lr=0.0)  # the Trainer cannot make one for such a part
    trainer = trained(tmp_path, model, optimizers=(optimizer, None))
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert said(caplog) == []


class NotReady:
    """A proxy whose object does not exist yet."""

    @property
    def __dict__(self):
        raise RuntimeError("no object")


def test_an_object_that_cannot_be_searched_does_not_end_the_training(tmp_path, caplog) -> None:
    model = Toy()
    model.held = [NotReady(), Holder(Criterion())]
    trainer = trained(tmp_path, model)
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    (message,) = said(caplog)
    assert message.startswith("Toy.held: Criterion sets supports_report_metrics = True")


def test_an_object_that_many_parts_hold_is_searched_once(tmp_path) -> None:
    class Config:
        searches = 0

        @property
        def __dict__(self):
            Config.searches += 1
            return {}

    config = Config()
    model = Several(**{f"layer{number}": Plain() for number in range(20)})
    for part in model.modules():
        part.config = config
    trained(tmp_path, model)
    assert Config.searches == 2  # when the training begins, and at the first log event


def test_a_module_that_is_also_the_loss_function_reports_and_is_not_said(tmp_path, caplog) -> None:
    class Loss(Criterion):
        def forward(self, output, labels, num_items_in_batch=None):
            return super().forward(output[0])

    model, loss = Toy(), Loss()
    model.losses = [loss]
    trainer = trained(tmp_path, model, compute_loss_func=loss)
    assert "criterion/loss" in trainer.state.log_history[0]
    assert said(caplog) == []


def test_copies_teachers_and_modules_that_are_switched_off_are_not_said(tmp_path, caplog) -> None:
    class Holds(Ordered):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            self.reference, self.ema, self.plain = Toy(), torch.nn.Sequential(Toy()), torch.nn.Linear(1, 1)
            self.teacher = Criterion()
            self.teacher.supports_report_metrics = False

    trained(tmp_path, Toy(), cls=Holds)
    assert said(caplog) == []


def test_a_teacher_of_a_model_whose_class_a_parametrization_has_replaced_is_not_said(tmp_path, caplog) -> None:
    class Holds(Ordered):
        def __init__(self, *args, **kwargs) -> None:
            super().__init__(*args, **kwargs)
            self.teacher = Toy()

    model = Toy()
    torch.nn.utils.parametrize.register_parametrization(model, "weight", torch.nn.Identity())
    assert type(model) is not Toy
    trained(tmp_path, model, cls=Holds)
    assert said(caplog) == []


# No report at all.


def test_a_training_that_reports_only_in_a_phase_inside_of_its_steps_is_not_said(tmp_path, caplog) -> None:
    class RollsOut(Ordered):
        def training_step(self, *args, **kwargs):
            with self.report_phase("rollout"):
                report_metrics("a", reward=1.0)
            return super().training_step(*args, **kwargs)

    trainer = trained(tmp_path, Silent(), cls=RollsOut, metrics=MetricRegistry())
    assert rows(trainer, "rollout_a/reward") == [(2, 1.0), (4, 1.0)]
    assert said(caplog) == []


class Plain(torch.nn.Module):
    """A model that knows nothing of metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return ((self.weight * x).mean(),)


class Forgot(Silent):
    """The flag is missing, and the guard hides it."""

    supports_report_metrics = False

    def forward(self, x):
        if hasattr(self, "report_metrics"):
            self.report_metrics("a", loss=x.mean())
        return ((self.weight * x).mean(),)


class Several(Toy):
    """Reports itself, and has parts that may report, too."""

    def __init__(self, **parts) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleDict(parts)

    def forward(self, x):
        loss = super().forward(x)[0]
        return (sum([part(x)[0] for part in self.parts.values()], loss),)


class ForgotInPart(Plain):
    """The flag is missing, and the guard hides it."""

    def forward(self, x):
        if hasattr(self, "report_metrics"):
            _ = [self.report_metrics("part", loss=value.mean()) for value in (x,)]
        return Plain.forward(self, x)


class ForgotUnderDecorator(Plain):
    forward = torch.enable_grad()(ForgotInPart.forward)


class ForgotUnderGetattr(Plain):
    """The flag is missing, and ``getattr`` hides it."""

    def forward(self, x):
        report = getattr(self, "report_metrics", None)
        if report is not None:
            report("part", loss=x.mean())
        return super().forward(x)


class Remembered(ForgotInPart):
    supports_report_metrics = True


class HasItsOwn(ForgotInPart):
    def report_metrics(self, *args, **kwargs):
        pass


class CallsFunction(Plain):
    def forward(self, x):
        report_metrics("part", loss=x.mean())
        return super().forward(x)


class PassesOn(ForgotInPart):
    def __getattr__(self, name):
        return getattr(self._modules["inner"], name) if name == "report_metrics" else super().__getattr__(name)


@pytest.mark.parametrize("part", [ForgotInPart, ForgotUnderDecorator, ForgotUnderGetattr])
def test_a_part_whose_class_lacks_the_flag_is_said_though_others_report(part, tmp_path, caplog) -> None:
    trainer = trained(tmp_path, Several(one=part(), other=part()))
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert rows(trainer, "part/loss") == []
    (message,) = said(caplog)
    assert message.startswith(f"{part.__name__} calls self.report_metrics, which it does not have")


def test_a_forward_that_is_set_on_a_part_without_the_flag_is_said(tmp_path, caplog) -> None:
    part, model = Plain(), Plain()
    part.forward = MethodType(ForgotInPart.forward, part)
    trained(tmp_path, Several(one=part, other=Plain()))
    (message,) = said(caplog)
    assert message.startswith("Plain calls self.report_metrics, which it does not have")

    caplog.clear()
    model.forward = MethodType(Forgot.forward, model)
    trained(tmp_path, model)
    (message,) = said(caplog)
    assert message.startswith("no metric was reported in the training up to step 2, although the code of Plain names")


def test_a_function_that_is_set_on_a_part_and_reports_by_another_module_is_not_said(tmp_path, caplog) -> None:
    """In its code, ``self`` is the model, which has the flag: the value counts."""

    class Parent(Several):
        def __init__(self) -> None:
            super().__init__(one=Plain(), two=Plain())
            forward = self.parts["two"].forward

            def forward_of_two(x):
                self.report_metrics("two", size=2.0)
                return forward(x)

            self.parts["one"].forward, self.parts["two"].forward = self.forward_of_one, forward_of_two

        def forward_of_one(self, x):
            self.report_metrics("one", size=1.0)
            return Plain.forward(self.parts["one"], x)

    trainer = trained(tmp_path, Parent())
    assert said(caplog) == []
    assert (trainer.state.log_history[0]["one/size"], trainer.state.log_history[0]["two/size"]) == (1.0, 2.0)


def test_a_loss_module_whose_class_lacks_the_flag_is_said(tmp_path, caplog) -> None:
    class Loss(torch.nn.Module):
        def forward(self, output, labels, num_items_in_batch=None):
            if hasattr(self, "report_metrics"):
                self.report_metrics("loss_module", loss=output[0])
            return output[0]

    trained(tmp_path, Toy(), compute_loss_func=Loss())
    (message,) = said(caplog)
    assert "Loss calls self.report_metrics, which it does not have" in message


@pytest.mark.parametrize("kind", ["the function", "its own", "another with the flag", "switched off", "passed on"])
def test_a_part_that_reports_or_is_silent_on_purpose_is_not_said(kind: str, tmp_path, caplog) -> None:
    part = {"the function": CallsFunction, "its own": HasItsOwn, "passed on": PassesOn}.get(kind, ForgotInPart)()
    parts = {"part": part}
    if kind == "another with the flag":
        parts["other"] = Remembered()
    if kind == "switched off":
        part.supports_report_metrics = False
    if kind == "passed on":
        part.inner = Remembered()
    trained(tmp_path, Several(**parts))
    assert said(caplog) == []


def log_task(module, task, **values):
    if hasattr(module, "report_metrics"):
        module.report_metrics(task, **values)


class ForgotBesideHelper(Plain):
    def forward(self, x):
        output = super().forward(x)
        log_task(self, "a", loss=output[0])
        return output


def mean_of(module):
    return module.report_metrics


class HasAMethodOfThatName(Plain):
    def mean_of(self, output):
        return output

    def forward(self, x):
        return self.mean_of(super().forward(x))


class OnlyInEvaluation(Toy):
    def extra(self, x, loss):
        if not self.training:
            super().extra(x, loss)


class InComputeLoss(Ordered):
    def compute_loss(self, model, inputs, *args, **kwargs):
        if inputs.get("labels") is not None:
            report_metrics("a", loss=1.0)
        return model(**inputs)[0]


@pytest.mark.parametrize(
    ("arguments_of", "names"),
    [
        ({"model": Forgot()}, "Forgot names report_metrics"),
        ({"model": ForgotUnderGetattr()}, "ForgotUnderGetattr names report_metrics"),
        ({"model": ForgotBesideHelper()}, "ForgotBesideHelper names report_metrics, itself or in a function that it"),
        ({"model": OnlyInEvaluation()}, "OnlyInEvaluation names report_metrics"),
        ({"model": Silent(), "cls": InComputeLoss}, "Silent names report_metrics"),
        ({"model": torch.nn.Sequential(), "metrics": MetricRegistry()}, "metrics="),
        ({"model": torch.nn.Sequential(), "loss_budget": {"a/loss": 1.0}}, "loss_budget="),
    ],
)
def test_the_first_log_event_without_a_metric_says_why(tmp_path, arguments_of, names, caplog) -> None:
    model = arguments_of.pop("model")
    if isinstance(model, torch.nn.Sequential):
        model = Plain()
    trained(tmp_path, model, **arguments_of)
    messages = [message for message in said(caplog) if "no metric was reported" in message]
    assert len(messages) == 1
    assert names in messages[0]
    assert "up to step 2" in messages[0]
    assert "supports_report_metrics = True" in messages[0]
    assert "report in a forward hook or in compute_loss" in messages[0]  # if the trainer does not call the forward


class StepsWithCopy(Ordered):
    """Computes the gradients in a copy of the model, as first-order meta-learning does."""

    def training_step(self, model, inputs, *args, **kwargs):
        (loss,) = copy.deepcopy(model)(**inputs)
        return loss.detach()


class Both(Toy):
    def extra(self, x, loss):
        self.report_metrics("a", by_attribute=loss)
        report_metrics("a", by_function=loss)


def test_a_step_that_runs_a_copy_of_the_model_is_told_to_call_the_function(tmp_path, caplog) -> None:
    trained(tmp_path, Toy(), cls=StepsWithCopy)
    (message,) = said(caplog)
    assert "a step runs a copy of the model" in message
    assert "call the function mtask_sinks.report_metrics instead" in message
    trainer = trained(tmp_path, Both(), cls=StepsWithCopy)
    assert rows(trainer, "a/by_function") == [(2, 1.5), (4, 3.5)]
    assert rows(trainer, "a/by_attribute") == []


def test_a_later_training_without_a_metric_says_why_too(tmp_path, caplog) -> None:
    model = Toy()
    trainer = trained(tmp_path, model)
    model.supports_report_metrics = False
    assert said(caplog) == []
    trainer.train()
    (message,) = said(caplog)
    assert (
        "no metric was reported in the training up to step 4, although the code of Toy names report_metrics" in message
    )


class InEveryFourthForward(Toy):
    calls = 0

    def extra(self, x, loss):
        if self.calls % 4 == 0:
            super().extra(x, loss)
        self.calls += 1


def test_a_later_training_may_begin_with_steps_without_a_report(tmp_path, caplog) -> None:
    trainer = trained(tmp_path, InEveryFourthForward(), train=(1, 2, 3, 4, 5, 6))
    trainer.train()
    assert rows(trainer, "a/loss") == [(4, 3.0)]
    assert said(caplog) == []


class OnlyInTraining(Toy):
    def extra(self, x, loss):
        if self.training:
            super().extra(x, loss)


def test_after_a_resume_that_makes_no_step_an_evaluation_without_a_report_says_why(tmp_path, caplog) -> None:
    trainer = trained(tmp_path, OnlyInTraining(), changes={"save_strategy": "epoch"})
    trainer.train(resume_from_checkpoint=True)
    assert said(caplog) == []
    trainer.evaluate()
    (message,) = said(caplog)
    assert "the evaluation 'eval' had no report" in message


def test_a_method_with_the_name_of_a_function_that_reports_is_no_sign(tmp_path, caplog) -> None:
    trained(tmp_path, HasAMethodOfThatName())
    assert said(caplog) == []


def test_plain_use_says_nothing(tmp_path, caplog) -> None:
    trained(tmp_path, Plain(), changes={"eval_strategy": "steps", "eval_steps": 2, "label_names": ["x"]})
    assert not said(caplog)


def test_a_training_that_reports_says_nothing(tmp_path, caplog) -> None:
    trained(tmp_path, Toy(), metrics=MetricRegistry())
    assert not said(caplog)


def test_a_training_that_resumes_at_its_end_says_nothing(tmp_path, caplog) -> None:
    arguments_of = {"changes": {"save_strategy": "epoch"}, "metrics": MetricRegistry()}
    trained(tmp_path, Toy(), **arguments_of)
    resumed = trained(tmp_path, Toy(), resume_from_checkpoint=True, **arguments_of)
    assert resumed.state.log_history[-1]["overall_a/loss"] == 2.5
    assert not said(caplog)


# Evaluations.


class LossReports(Ordered):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        loss = model(**inputs)[0]
        report_metrics("a", loss=loss)
        return (loss, (loss, inputs["x"])) if return_outputs else loss


def test_an_evaluation_without_labels_says_that_compute_loss_is_not_called(tmp_path, caplog) -> None:
    changes = {"eval_strategy": "steps", "eval_steps": 2}
    trainer = trained(tmp_path, Plain(), cls=LossReports, changes=changes)
    assert not rows(trainer, "eval_a/loss")
    messages = said(caplog)
    assert len(messages) == 1
    assert "evaluation 'eval'" in messages[0]
    assert "label_names" in messages[0]
    caplog.clear()
    trainer = trained(tmp_path, Plain(), cls=LossReports, changes={**changes, "label_names": ["x"]})
    assert rows(trainer, "eval_a/loss") == [(2, 15.0), (4, 15.0)]
    assert not said(caplog)


def test_a_prediction_without_labels_says_nothing(tmp_path, caplog) -> None:
    trainer = trained(tmp_path, Plain(), cls=LossReports)
    trainer.predict(numbers(1))
    assert not said(caplog)


# Reports around the training.


class At(TrainerCallback):
    def __init__(self, event: str, call) -> None:
        setattr(self, event, lambda *args, **kwargs: call())


def test_what_is_reported_at_the_end_counts(tmp_path) -> None:
    trainer = trained(tmp_path, Toy(), callbacks=[At("on_train_end", lambda: report_metrics("end", n=5.0))])
    assert rows(trainer, "a/loss") == [(2, 1.5), (4, 3.5)]
    assert points(trainer, "end/n") == [(4, 5.0)]


def test_what_is_reported_after_the_training_is_said_once(tmp_path, caplog, monkeypatch) -> None:
    monkeypatch.setattr(api, "_warn_once", type(api._warn_once)(logging.getLogger("mtask_sinks.reporting.api")))
    trained(tmp_path, Toy())
    report_metrics("after", n=1.0)
    report_metrics("after", n=1.0)
    messages = said(caplog)
    assert len(messages) == 1
    assert "report_metrics('after', …)" in messages[0]
    assert "test_silence.py" in messages[0]


class CallsTheFunction(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        report_metrics("begin", n=1.0)

    def forward(self, x):
        report_metrics("a", loss=x.mean())


def test_what_a_constructor_reports_is_said_and_what_a_forward_reports_without_a_trainer_is_not(
    caplog, monkeypatch
) -> None:
    monkeypatch.setattr(api, "_warn_once", type(api._warn_once)(logging.getLogger("mtask_sinks.reporting.api")))
    model = CallsTheFunction()
    assert len(said(caplog)) == 1
    caplog.clear()
    monkeypatch.setattr(api, "_warn_once", type(api._warn_once)(logging.getLogger("mtask_sinks.reporting.api")))
    model(torch.ones(1))
    assert not said(caplog)


def test_what_the_registry_holds_before_the_training_is_said(tmp_path, caplog) -> None:
    trainer = Ordered(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2))
    trainer.metric_registry.report_metrics("early", n=1.0)
    trainer.train()
    assert ["before the training began" in message for message in said(caplog)] == [True]
    assert rows(trainer, "a/loss") == [(2, 1.5)]
    assert not rows(trainer, "early/n")


# Other processes.


class Collator:
    def __init__(self, report) -> None:
        self.report = report

    def __call__(self, items):
        self.report("collator", n=float(len(items)))
        return {"x": torch.stack([item["x"] for item in items])}


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no process is forked here")
@pytest.mark.parametrize("way", ["function", "registry"])
@pytest.mark.parametrize("is_evaluated_before", [False, True])
def test_reports_of_data_loader_workers_are_said_once(tmp_path, way, is_evaluated_before, capfd) -> None:
    class Evaluates(Ordered):
        def get_train_dataloader(self):
            with self.report_phase("probe"):
                report_metrics("a", loss=1.0)
            return super().get_train_dataloader()

    forked._is_said[0] = 0  # as in a process in which no worker has warned
    registry = MetricRegistry()
    report = report_metrics if way == "function" else registry.report_metrics
    handler = logging.StreamHandler()  # the workers' messages go to the standard error that they share with us
    logging.getLogger("mtask_sinks").addHandler(handler)
    try:
        changes = {"dataloader_num_workers": 2, "num_train_epochs": 3}
        cls = Evaluates if is_evaluated_before else Ordered
        trainer = trained(tmp_path, Toy(), cls=cls, metrics=registry, data_collator=Collator(report), changes=changes)
    finally:
        logging.getLogger("mtask_sinks").removeHandler(handler)
    assert not rows(trainer, "collator/n")
    assert [value for _, value in rows(trainer, "a/loss")] == [1.5, 3.5] * 3
    # Of the six workers. The first two may report in the same moment.
    assert 1 <= capfd.readouterr().err.count(WHY_LOST) <= 2


def test_a_collator_without_workers_counts(tmp_path) -> None:
    trainer = trained(tmp_path, Toy(), data_collator=Collator(report_metrics))
    assert [value for _, value in points(trainer, "collator/n")] == [1.0, 1.0]


class ReportsWithLabels(torch.nn.Module):
    supports_report_metrics = True

    def __init__(self) -> None:
        super().__init__()
        self.config = PretrainedConfig()  # the Trainer asks for it if labels are smoothed
        self.head = torch.nn.Linear(1, 2)

    def forward(self, x, labels=None):
        logits = self.head(x)
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits, labels)
        if loss is not None and hasattr(self, "report_metrics"):
            self.report_metrics("kind", loss=loss)
        return {"logits": logits} if loss is None else {"loss": loss, "logits": logits}


def _loss_of(outputs, labels, num_items_in_batch=None):
    return torch.nn.functional.cross_entropy(outputs["logits"], labels)


@pytest.mark.parametrize("taken", ["label_smoothing_factor", "compute_loss_func"])
def test_what_takes_the_labels_from_the_model_is_named(taken: str, tmp_path, caplog) -> None:
    data = [{"x": torch.ones(1), "labels": torch.tensor(0)} for _ in range(4)]
    for is_taken in (False, True):
        factor = 0.1 if is_taken and taken == "label_smoothing_factor" else 0.0
        Ordered(
            ReportsWithLabels(),
            arguments(tmp_path, label_smoothing_factor=factor, label_names=["labels"]),
            train_dataset=data,
            compute_loss_func=_loss_of if is_taken and taken == "compute_loss_func" else None,
        ).train()
    (message,) = said(caplog)
    assert "with label_smoothing_factor or compute_loss_func the model gets no labels" in message


class Captured(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, x, labels=None):
        loss = (self.weight * x).mean()
        return {"scores": self.weight * x} if labels is None else {"loss": loss, "aux_loss": 2 * loss}


class CallsForward(Ordered):
    def compute_loss(self, model, inputs, *args, **kwargs):
        return model.forward(**inputs)["loss"]


class CallsForwardAndReports(Ordered):
    def compute_loss(self, model, inputs, *args, **kwargs):
        loss = model.forward(**inputs)["loss"]
        report_metrics("total", loss=loss)
        return loss


def _mean(outputs, labels, num_items_in_batch=None):
    return outputs["scores"].mean()


def _mean_with_report(outputs, labels, num_items_in_batch=None):
    report_metrics("total", loss=outputs["scores"])
    return outputs["scores"].mean()


NO_CALL, NO_LOSS = "took nothing, because nobody has called the model itself", "dict(scores), and these have no loss"


@pytest.mark.parametrize(
    ("cls", "function", "reason"),
    [
        (CallsForward, None, NO_CALL),
        (CallsForwardAndReports, None, NO_CALL),
        (Ordered, _mean, NO_LOSS),
        (Ordered, _mean_with_report, NO_LOSS),
    ],
)
@pytest.mark.parametrize("evaluates", [False, True])
def test_a_capture_that_sees_no_output_with_a_loss_says_why(cls, function, reason, evaluates, tmp_path, caplog) -> None:
    data = [{"x": torch.ones(1), "labels": torch.tensor(0)} for _ in range(4)]
    sets = {"train_dataset": data, "eval_dataset": data if evaluates else None}
    cls(Captured(), arguments(tmp_path), **sets, capture="aux_loss", compute_loss_func=function).train()
    (message,) = said(caplog)
    assert message.startswith("capture='aux_loss'") and reason in message


def test_a_capture_that_takes_something_says_nothing(tmp_path, caplog) -> None:
    data = [{"x": torch.ones(1), "labels": torch.tensor(0)} for _ in range(4)]
    trainer = Ordered(Captured(), arguments(tmp_path), train_dataset=data, capture="aux_loss")
    trainer.train()
    assert rows(trainer, "aux_loss") == [(2, 2.0), (4, 2.0)]
    assert said(caplog) == []


def test_a_resume_that_makes_no_step_says_nothing_of_its_capture(tmp_path, caplog) -> None:
    data = [{"x": torch.ones(1), "labels": torch.tensor(0)} for _ in range(4)]
    for resume in (False, True):
        args = arguments(tmp_path, save_strategy="epoch")
        Ordered(Captured(), args, train_dataset=data, capture="aux_loss").train(resume_from_checkpoint=resume)
    assert said(caplog) == []


class ReportsInComputeLoss(MultiTaskTrainerMixin, Seq2SeqTrainer):
    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True)
        report_metrics("text", loss=loss)
        return (loss, outputs) if return_outputs else loss


@pytest.mark.parametrize("generates", [False, True])
def test_an_evaluation_that_generates_does_not_call_compute_loss_and_says_so(generates: bool, tmp_path, caplog) -> None:
    size = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 8, "decoder_ffn_dim": 8}
    heads = {"encoder_attention_heads": 1, "decoder_attention_heads": 1}
    model = BartForConditionalGeneration(BartConfig(vocab_size=8, max_position_embeddings=16, **size, **heads))
    args = Seq2SeqTrainingArguments(
        str(tmp_path), max_steps=2, logging_steps=1, predict_with_generate=generates, generation_max_length=4,
        save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    data = [{"input_ids": torch.arange(3, 7), "labels": torch.arange(3, 7)} for _ in range(4)]
    trainer = ReportsInComputeLoss(model, args, train_dataset=data, eval_dataset=data, compute_metrics=lambda _: {})
    trainer.train()
    metrics = trainer.evaluate()
    assert ("eval_text/loss" in metrics) is not generates
    assert ["(predict_with_generate) never calls it" in message for message in said(caplog)] == [True] * generates
