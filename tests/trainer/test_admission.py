"""Which reports count: those of the steps, and those that code outside of the steps makes by itself."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from helpers.toy import InOrder, Silent, Toy, arguments, numbers, points, rows
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput, TrainOutput

from mtask_sinks import HfMultiTaskTrainer, MetricRegistry, MultiTaskTrainerMixin, report_metrics
from mtask_sinks.trainer.admission import IN_OTHER_THREAD, OUTSIDE_EVALUATION, OUTSIDE_TRAINING

#: What the training reports in its steps, whatever happens around them: step → the mean of the losses of its two steps.
OWN = [(2, 1.5), (4, 3.5)]
#: What a forward outside of the steps would report.
PROBE = torch.full((1, 1), 1000.0)


class Encoder(Toy):
    """A model that is also called by another name than `forward`, and reports in a submodule too."""

    def __init__(self) -> None:
        super().__init__()
        self.head = Toy()

    def encode(self, x):
        self.report_metrics("a", loss=x.mean())

    def extra(self, x, loss):
        super().extra(x, loss)
        self.head(x)


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


class Around(TrainerCallback):
    """Calls a function between the steps."""

    def __init__(self, call, event="on_step_end"):
        setattr(self, event, lambda args, state, control, model=None, **kwargs: call(model))


def trained(tmp_path, *callbacks, cls=Ordered, model=None, **changes):
    args = arguments(tmp_path, **changes)
    data = {"train_dataset": numbers(1, 2, 3, 4), "eval_dataset": numbers(10, 20)}
    trainer = cls(Encoder() if model is None else model, args, callbacks=[*callbacks], **data)
    trainer.train()
    return trainer


def in_eval_mode(model):
    model.eval()
    with torch.no_grad():
        model(PROBE)


def in_train_mode(model):  # statistics of BatchNorm, weights that are averaged
    model.train()
    with torch.no_grad():
        model(PROBE)


def in_a_thread(model):
    thread = threading.Thread(target=in_train_mode, args=[model])
    thread.start()
    thread.join()


def of_a_submodule(model):
    model.train()
    model.head(PROBE)


def by_another_name(model):
    model.encode(PROBE)


def by_the_name_of_forward(model):
    model.forward(PROBE)


def under_compile(model):
    torch.compile(model, backend="eager")(PROBE)


def through_data_parallel(model):
    model.train()
    in_replica_threads(model, [PROBE, PROBE])


def in_replica_threads(model, inputs):
    """As nn.DataParallel, which needs GPUs: one thread per replica, all from the code of ``parallel_apply``."""
    source = "def worker(model, x):\n    model(x)"
    names: dict = {}
    exec(compile(source, sys.modules["torch.nn.parallel.parallel_apply"].__file__, "exec"), names)
    threads = [threading.Thread(target=names["worker"], args=[model, x]) for x in inputs]
    for thread in threads:
        thread.start()
        thread.join()


WAYS = [
    in_eval_mode,
    in_train_mode,
    in_a_thread,
    of_a_submodule,
    by_another_name,
    by_the_name_of_forward,
    under_compile,
    through_data_parallel,
]


@pytest.mark.parametrize("event", ["on_step_end", "on_step_begin", "on_train_begin", "on_epoch_end", "on_log"])
@pytest.mark.parametrize("way", WAYS)
def test_a_forward_that_a_callback_calls_does_not_count(tmp_path, way, event, caplog) -> None:
    if (way, event) == (by_another_name, "on_train_begin"):
        pytest.skip("the model cannot report yet, and `encode` does not ask whether it can")
    trainer = trained(tmp_path, Around(way, event))
    assert rows(trainer, "a/loss") == OWN
    if event not in ("on_train_begin", "on_log"):  # then no module is bound yet, or there is a last event too late
        assert any(OUTSIDE_TRAINING in topic for topic in trainer.metric_registry.dropped)
        assert sum("left out" in record.getMessage() for record in caplog.records) == 1


def test_a_forward_inside_of_a_compiled_function_that_a_callback_calls_does_not_count(tmp_path) -> None:
    run = torch.compile(lambda model, x: model(x), backend="inductor")  # then no module is on the stack

    def probe(model):
        run(model, PROBE)

    trainer = trained(tmp_path, Around(probe))
    assert rows(trainer, "a/loss") == OWN
    assert any(OUTSIDE_TRAINING in topic for topic in trainer.metric_registry.dropped)


@pytest.mark.parametrize("mode", [True, False])
def test_what_a_callback_reports_by_itself_counts(tmp_path, mode) -> None:
    def report(model):
        model.train(mode)
        with torch.no_grad():
            report_metrics("own", norm=sum(p.norm() for p in model.parameters()))

    trainer = trained(tmp_path, Around(report))
    assert rows(trainer, "a/loss") == OWN
    assert rows(trainer, "own/norm") == [(2, 2.0), (4, 2.0)]  # two weights of 1
    assert not trainer.metric_registry.dropped


def test_a_function_that_gets_the_model_reports_by_itself(tmp_path) -> None:
    def probe(model, batch):
        with torch.no_grad():
            model(batch)
        report_metrics("probe", n=7.0)

    trainer = trained(tmp_path, Around(lambda model: probe(model, PROBE)))
    assert rows(trainer, "probe/n") == [(2, 7.0), (4, 7.0)]
    assert rows(trainer, "a/loss") == OWN


def test_a_thread_that_runs_beside_the_steps_does_not_count(tmp_path) -> None:
    stop, started = threading.Event(), threading.Event()

    def evaluate(model):
        while not stop.is_set():
            with torch.no_grad():
                model(PROBE)
            started.set()

    def begin(model):
        if not started.is_set():
            threads.append(threading.Thread(target=evaluate, args=[model]))
            threads[0].start()
            assert started.wait(60), "the thread has ended, or does not come to its first forward"

    threads: list[threading.Thread] = []
    try:
        trainer = trained(tmp_path, Around(begin))
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert rows(trainer, "a/loss") == OWN


def test_threads_that_a_forward_starts_do_not_count_and_the_warning_says_what_to_do(tmp_path, caplog) -> None:
    class Towers(Toy):
        def extra(self, x, loss) -> None:
            with ThreadPoolExecutor(2) as threads:
                values = list(threads.map(self.tower, [x, x * 2]))
            self.report_metrics("t", sum=sum(values))

        def tower(self, x):
            self.report_metrics("tower", n=1)
            return x

    args = arguments(tmp_path)
    trainer = Ordered(Towers(), args, train_dataset=numbers(1, 2), eval_dataset=numbers(5))
    trainer.train()
    assert trainer.evaluate()["eval_t/sum"] == 15.0
    assert rows(trainer, "t/sum") == [(2, 4.5)] and rows(trainer, "tower/n") == []
    assert trainer.metric_registry.dropped == {f"left out: {IN_OTHER_THREAD}": 6}
    assert "let the forward report its results" in caplog.text


def test_replicas_of_data_parallel_count_inside_a_step(tmp_path) -> None:
    class Parallel(Ordered):
        def compute_loss(self, model, inputs, *args, **kwargs):
            in_replica_threads(model, [inputs["x"], 10 * inputs["x"]])
            return model.weight.sum() * 1.0

    model = Toy()
    trainer = trained(tmp_path, cls=Parallel, model=model)
    assert rows(trainer, "a/loss") == [(2, (1 + 10 + 2 + 20) / 4), (4, (3 + 30 + 4 + 40) / 4)]


class OwnStep(Ordered):
    """Does not call the step above it, and leaves the model in eval mode."""

    def training_step(self, model, inputs, *args, **kwargs):
        model.eval()
        loss = model(**self._prepare_inputs(inputs))[0]
        self.accelerator.backward(loss)
        return loss.detach()


def test_a_step_of_the_users_own_counts(tmp_path) -> None:
    assert rows(trained(tmp_path, cls=OwnStep), "a/loss") == OWN


def test_a_step_that_the_user_put_on_the_instance_counts_and_is_there_afterwards(tmp_path) -> None:
    trainer = Ordered(Toy(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4))
    original = trainer.training_step

    def step(*args, **kwargs):
        report_metrics("own", n=1)
        trainer.model.eval()
        return original(*args, **kwargs)

    trainer.training_step = step
    trainer.train()
    assert trainer.training_step is step
    assert rows(trainer, "a/loss") == OWN
    assert rows(trainer, "own/n") == [(2, 1.0), (4, 1.0)]


def test_the_instance_is_as_before_after_a_step_that_raises(tmp_path) -> None:
    class Breaks(Ordered):
        def training_step(self, *args, **kwargs):
            raise RuntimeError("out of luck")

    trainer = Breaks(Toy(), arguments(tmp_path), train_dataset=numbers(1))
    with pytest.raises(RuntimeError, match="out of luck"):
        trainer.train()
    assert (
        not {"training_step", "prediction_step", "_maybe_log_save_evaluate", "_own_methods", "_wrapped_by"}
        & vars(trainer).keys()
    )


class TwoModels(Toy):
    """A part that is frozen in eval mode, and a second model, both inside the step."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = Toy().eval()

    def extra(self, x, loss):
        self.report_metrics("a", loss=loss)
        self.frozen.eval()
        with torch.no_grad():
            self.frozen(10 * x)


def test_a_frozen_part_in_eval_mode_counts_inside_a_step(tmp_path) -> None:
    trainer = trained(tmp_path, model=TwoModels())
    assert rows(trainer, "a/loss") == [(2, (1 + 10 + 2 + 20) / 4), (4, (3 + 30 + 4 + 40) / 4)]
    assert not trainer.metric_registry.dropped


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_segments_count_once(tmp_path, reentrant) -> None:
    class Checkpointed(Toy):
        def forward(self, x):
            def segment(x):
                report_metrics("inner", n=x.detach().mean())
                return self.weight * x

            x = x.clone().requires_grad_()
            loss = torch.utils.checkpoint.checkpoint(segment, x, use_reentrant=reentrant).mean()
            self.report_metrics("a", loss=loss)
            return (loss,)

    metrics = MetricRegistry({"inner/n": "count"})
    trainer = Ordered(Checkpointed(), arguments(tmp_path), metrics=metrics, train_dataset=numbers(1, 2, 3, 4))
    trainer.train()
    assert rows(trainer, "inner/n") == [(2, 2.0), (4, 2.0)]


class OwnEvaluate(Ordered):
    """An evaluation of the user's own, in every detail but that it logs."""

    mode = False

    def evaluate(self, eval_dataset=None, ignore_keys=None, metric_key_prefix="eval"):
        self.model.train(self.mode)
        total = 0.0
        with torch.no_grad():
            for batch in self.get_eval_dataloader():
                total += self.model(**batch)[0].item()
        report_metrics("mine", total=total)
        metrics = {"eval_total": total}
        self.log(metrics)
        return metrics


class OwnEvaluateInTrainMode(OwnEvaluate):
    mode = True


class OwnLoop(Ordered):
    def evaluation_loop(self, dataloader, description, *args, metric_key_prefix="eval", **kwargs):
        self.model.eval()
        losses = [self.prediction_step(self.model, dict(batch), True)[0] for batch in dataloader]
        loss = float(sum(losses) / len(losses))
        return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": loss}, len(losses))


@pytest.mark.parametrize("cls", [OwnEvaluate, OwnEvaluateInTrainMode, OwnLoop])
def test_an_evaluation_of_the_users_own_leaves_the_window_of_the_training_as_it_is(tmp_path, cls, caplog) -> None:
    trainer = trained(tmp_path, cls=cls, eval_strategy="steps", eval_steps=1, label_names=["x"])
    assert rows(trainer, "a/loss") == OWN
    messages = [record.getMessage() for record in caplog.records]
    assert sum("report_phase" in message for message in messages) == 1
    if cls is not OwnLoop:  # what it reports by itself is a value of the training
        assert points(trainer, "mine/total") == [(2, 30.0), (4, 30.0), (4, 30.0)]  # the last one is partial
        assert {*rows(trainer, "eval_total")} == {(step, 30.0) for step in (1, 2, 3, 4)}


class InComputeLoss(Ordered):
    """Reports in `compute_loss`, where no module makes the report."""

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        outputs = model(**inputs)
        report_metrics("a", loss=outputs[0])
        return (outputs[0], outputs) if return_outputs else outputs[0]


class OwnEvaluateByLoss(InComputeLoss):
    def evaluate(self, *args, **kwargs):
        self.model.eval()
        with torch.no_grad():
            losses = [self.compute_loss(self.model, batch) for batch in self.get_eval_dataloader()]
        self.model.train()
        return {"eval_loss": float(sum(losses))}


class OwnEvaluateInTrainModeByLoss(InComputeLoss):
    def evaluate(self, *args, **kwargs):
        with torch.no_grad():
            losses = [self.compute_loss(self.model, batch) for batch in self.get_eval_dataloader()]
        return {"eval_loss": float(sum(losses))}


class OwnEvaluateByStep(InComputeLoss):
    def evaluate(self, *args, **kwargs):
        losses = [self.prediction_step(self.model, batch, True)[0] for batch in self.get_eval_dataloader()]
        return {"eval_loss": float(sum(losses))}


@pytest.mark.parametrize("cls", [OwnEvaluateByLoss, OwnEvaluateInTrainModeByLoss, OwnEvaluateByStep])
def test_what_compute_loss_reports_in_an_evaluation_of_the_users_own_does_not_count(tmp_path, cls, caplog) -> None:
    changes = {"eval_strategy": "steps", "eval_steps": 1, "label_names": ["x"]}
    trainer = trained(tmp_path, cls=cls, model=Silent(), **changes)
    assert rows(trainer, "a/loss") == OWN
    assert rows(trainer, "overall_a/loss") == [(4, 2.5)]
    assert sum(OUTSIDE_TRAINING in record.getMessage() for record in caplog.records) == 1


def test_what_compute_loss_reports_in_a_callback_does_not_count(tmp_path, caplog) -> None:
    trainer = InComputeLoss(Silent(), arguments(tmp_path), train_dataset=numbers(1, 2, 3, 4))

    def probe(model):
        trainer.compute_loss(model, {"x": PROBE})

    trainer.add_callback(Around(probe))
    trainer.train()
    assert rows(trainer, "a/loss") == OWN
    assert sum(OUTSIDE_TRAINING in record.getMessage() for record in caplog.records) == 1


def test_what_compute_loss_reports_in_a_phase_of_the_users_own_counts_for_it(tmp_path) -> None:
    class InPhase(OwnEvaluateByLoss):
        def evaluate(self, *args, **kwargs):
            with self.report_phase("eval") as metrics:
                super().evaluate()
            return metrics

    trainer = trained(tmp_path, cls=InPhase, model=Silent(), eval_strategy="steps", eval_steps=2)
    assert rows(trainer, "a/loss") == OWN
    assert {*rows(trainer, "eval_a/loss")} == {(2, 15.0), (4, 15.0)}


def test_what_compute_loss_reports_in_a_training_loop_of_the_users_own_counts(tmp_path, caplog) -> None:
    class Steps(InComputeLoss):
        """Computes one more loss where no step has begun, as a closure of an optimizer does."""

        def get_batch_samples(self, *args, **kwargs):
            batches, number = super().get_batch_samples(*args, **kwargs)
            for batch in batches:
                self.compute_loss(self.model, {"x": batch["x"] + 10})
            return batches, number

    trainer = trained(tmp_path, cls=Steps, model=Silent())
    assert rows(trainer, "a/loss") == [(step, value + 5) for step, value in OWN]
    assert not caplog.records


class OwnTraining(InComputeLoss):
    """The training loop is the user's own. It also computes losses that it does not train on."""

    def _inner_training_loop(self, *args, **kwargs):
        self.callback_handler.on_train_begin(self.args, self.state, self.control)
        for batch in self.get_train_dataloader():
            self.compute_loss(self.model, batch).backward()
            self.state.global_step += 1
        if not self.model.training:
            with torch.no_grad():
                self.compute_loss(self.model, {"x": PROBE})
        self.callback_handler.on_train_end(self.args, self.state, self.control)
        return TrainOutput(self.state.global_step, 0.0, {})


@pytest.mark.parametrize("is_in_train_mode", [True, False])
def test_a_training_loop_of_the_users_own_may_train_in_eval_mode(tmp_path, is_in_train_mode, caplog) -> None:
    trainer = trained(tmp_path, cls=OwnTraining, model=Silent().train(is_in_train_mode))
    snapshot = trainer.metric_registry.overall(4)
    assert snapshot.metrics["a/loss"] == 2.5
    assert sum(OUTSIDE_TRAINING in record.getMessage() for record in caplog.records) == (not is_in_train_mode)


class LossesOnly(Trainer):
    """A loop of the user's own evaluates, and calls `compute_loss` for each batch."""

    def evaluation_loop(self, dataloader, description, *args, metric_key_prefix="eval", **kwargs):
        self.model.eval()
        with torch.no_grad():
            losses = [self.compute_loss(self.model, batch) for batch in dataloader]
        return EvalLoopOutput(None, None, {f"{metric_key_prefix}_loss": float(sum(losses))}, len(losses))


class WithLossesOnly(InOrder, MultiTaskTrainerMixin, LossesOnly):
    compute_loss = InComputeLoss.compute_loss


@pytest.mark.parametrize("model", [Silent, Toy])
def test_what_is_reported_in_compute_loss_counts_for_an_evaluation_of_the_users_own_loop(tmp_path, caplog, model):
    """The loop of a class below the mixin."""
    trainer = trained(tmp_path, cls=WithLossesOnly, model=model(), eval_strategy="steps", eval_steps=2)
    assert rows(trainer, "a/loss") == OWN
    assert rows(trainer, "eval_a/loss") == [(2, 15.0), (4, 15.0)]
    assert not caplog.records


def test_what_compute_loss_reports_in_compute_metrics_does_not_count_for_the_evaluation(tmp_path, caplog) -> None:
    def probe(predictions):
        trainer.compute_loss(trainer.model, {"x": PROBE})
        return {}

    data = {"eval_dataset": numbers(10, 20), "compute_metrics": probe}
    trainer = InComputeLoss(Silent(), arguments(tmp_path, label_names=["x"]), **data)
    assert trainer.evaluate()["eval_a/loss"] == 15
    assert sum(OUTSIDE_EVALUATION in record.getMessage() for record in caplog.records) == 1


def test_a_loop_of_the_users_own_that_reports_to_nobody_is_said_once(tmp_path, caplog) -> None:
    args = arguments(tmp_path, label_names=["x"])
    trainer = OwnLoop(Encoder(), args, eval_dataset=numbers(10, 20))
    for _ in range(2):
        assert not any("a/loss" in name for name in trainer.evaluate())
    trainer.predict(numbers(10, 20))
    (message,) = [record.getMessage() for record in caplog.records]
    assert "has no task metrics" in message and "report_phase('eval')" in message


class Cached(Trainer):
    def evaluate(self, *args, **kwargs):
        return {"eval_loss": 1.0}


class OfCached(MultiTaskTrainerMixin, Cached):
    pass


def test_an_evaluation_that_runs_no_loop_is_not_said_to_have_a_wrong_one(tmp_path, caplog) -> None:
    OfCached(Encoder(), arguments(tmp_path, label_names=["x"])).evaluate()
    (message,) = [record.getMessage() for record in caplog.records]
    assert "no method of the trainer called super().evaluation_loop(...)" in message


class Plain(torch.nn.Module):
    def forward(self, x):
        return x.mean(), x


def test_a_loop_of_the_users_own_is_not_said_if_nothing_means_to_report(tmp_path, caplog) -> None:
    trainer = OwnLoop(Plain(), arguments(tmp_path, label_names=["x"]), eval_dataset=numbers(10, 20))
    assert trainer.evaluate()["eval_loss"] == 15.0
    assert caplog.records == []


class WithEvaluator(Ordered):
    """After the evaluation proper, a retrieval evaluator encodes a corpus."""

    def evaluation_loop(self, *args, **kwargs):
        output = super().evaluation_loop(*args, **kwargs)
        self.model(PROBE)
        return output


class LoopWithEvaluator:
    """The same, as sentence-transformers does it: its loop runs inside ours."""

    def evaluation_loop(self, *args, **kwargs):
        output = super().evaluation_loop(*args, **kwargs)
        self.model(PROBE)
        self.model.encode(PROBE)
        return output


def test_an_evaluator_inside_the_loop_is_no_part_of_the_evaluation(tmp_path, caplog) -> None:
    from transformers import Trainer

    from mtask_sinks import MultiTaskTrainerMixin

    class Theirs(LoopWithEvaluator, Trainer):
        pass

    class Mine(InOrder, MultiTaskTrainerMixin, Theirs):
        pass

    for cls in (WithEvaluator, Mine):
        trainer = trained(tmp_path, cls=cls, eval_strategy="steps", eval_steps=2, label_names=["x"])
        assert rows(trainer, "a/loss") == OWN
        assert rows(trainer, "eval_a/loss") == [(2, 15.0), (4, 15.0)]
    assert sum(OUTSIDE_EVALUATION in record.getMessage() for record in caplog.records) == 1


def test_compute_metrics_reports_by_itself(tmp_path) -> None:
    def compute_metrics(predictions):
        report_metrics("mine", n=3.0)
        return {}

    class Labelled(Toy):
        def forward(self, x, labels=None):
            return (super().forward(x)[0], x)

    data = [{"x": torch.tensor([10.0]), "labels": torch.tensor([1.0])}]
    trainer = Ordered(Labelled(), arguments(tmp_path), eval_dataset=data, compute_metrics=compute_metrics)
    assert trainer.evaluate()["eval_mine/n"] == 3.0


class OwnTrainingLoop(Ordered):
    """A loop of the user's own, without a training step."""

    def _inner_training_loop(self, *args, **kwargs):
        self.model.train()
        self.callback_handler.on_train_begin(self.args, self.state, self.control)
        for batch in self.get_train_dataloader():
            self.model(**batch)
        self.model.eval()
        self.model(PROBE)
        self.control.should_log = True
        self.log({"loss": 1.0})
        self.callback_handler.on_train_end(self.args, self.state, self.control)


def test_a_training_loop_of_the_users_own_counts_in_train_mode(tmp_path) -> None:
    trainer = trained(tmp_path, cls=OwnTrainingLoop)
    assert rows(trainer, "a/loss") == [(0, 2.5)]


def test_a_forward_around_the_training_says_nothing(tmp_path) -> None:
    """`model.fit()` that makes a trainer and trains: the module on the stack is not the one that reports."""

    class Fits(Silent):
        def fit(self):
            callback = Around(lambda model: report_metrics("own", n=1.0))
            trainer = Ordered(self, arguments(tmp_path), train_dataset=numbers(1, 2), callbacks=[callback])
            trainer.train()
            return trainer

    assert rows(Fits().fit(), "own/n") == [(2, 1.0)]


def test_a_training_inside_a_callback_has_its_own_window(tmp_path) -> None:
    inner: list[HfMultiTaskTrainer] = []

    def nested(model):
        if not inner:
            inner.append(Ordered(Toy(), arguments(tmp_path / "inner"), train_dataset=numbers(100, 300)))
            inner[0].train()

    outer = trained(tmp_path, Around(nested))
    assert rows(outer, "a/loss") == OWN
    assert rows(inner[0], "a/loss") == [(2, 200.0)]


@pytest.mark.parametrize("method", ["train", "evaluate"])
def test_the_model_of_a_training_does_not_report_as_the_teacher_of_another_trainer(tmp_path, method, caplog) -> None:
    class Student(Silent):
        teacher: tuple[torch.nn.Module, ...] = ()  # a tuple, so that it is not a part of the student

        def forward(self, x):
            with torch.no_grad():
                self.teacher[0](x)
            return super().forward(x)

    def distill(model):
        student = Student()
        student.teacher = (model,)
        data = numbers(1000, 2000)
        other = Ordered(student, arguments(tmp_path / "student"), train_dataset=data, eval_dataset=data)
        getattr(other, method)()

    trainer = trained(tmp_path, Around(distill))
    assert rows(trainer, "a/loss") == OWN
    assert OUTSIDE_TRAINING in caplog.text


def test_gradient_accumulation_counts_every_micro_batch(tmp_path) -> None:
    trainer = trained(tmp_path, Around(in_eval_mode, "on_substep_end"), gradient_accumulation_steps=2, logging_steps=1)
    assert rows(trainer, "a/loss") == [(1, 1.5), (2, 3.5)]


def test_a_report_in_a_backward_hook_counts(tmp_path) -> None:
    class Hooked(Toy):
        def __init__(self) -> None:
            super().__init__()
            self.weight.register_hook(self.note)

        def note(self, grad):
            report_metrics("grad", abs=grad.abs())

    trainer = trained(tmp_path, model=Hooked())
    assert rows(trainer, "grad/abs") == OWN  # the gradient of w * x is x
