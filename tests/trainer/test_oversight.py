"""Alerts in real trainings: they stop it, travel in checkpoints, and reach functions, W&B and the journal."""

from __future__ import annotations

import pytest
from helpers.many_tasks import ManyTasks, items, make_trainer
from helpers.toy import InOrder, Reports, arguments, numbers
from helpers.wandb_file import read_runs

from mtask_sinks import Alert, HfMultiTaskTrainer, SinkArguments, TaskHealth, read_journal
from mtask_sinks.analysis.alerts import alert_rows
from mtask_sinks.analysis.counted import read_trainings


class Rising(ManyTasks):
    """Reports a value that rises by one per forward."""

    batches = 0

    def report(self, losses):
        super().report(losses)
        self.batches += 1
        self.report_metrics("x", level=float(self.batches))


def train(tmp_path, alerts, steps=10, health=None, resume=None, **changes):
    trainer = make_trainer(Rising(), tmp_path, health, steps=steps, trainer_kwargs={"alerts": alerts}, **changes)
    return trainer, trainer.train(resume_from_checkpoint=resume)


def test_an_alert_stops_the_training_and_says_why_everywhere(tmp_path, caplog):
    trainer, output = train(tmp_path, [Alert("x/level", above=2.5, action="stop")])
    assert trainer.state.global_step == 3
    assert output.metrics["stopped_by"] == "x/level is 3, above 2.5"
    last = caplog.messages[-1]
    assert last == "the training stopped at step 3 because of an alert: x/level is 3, above 2.5."
    assert not [message for message in caplog.messages if "failed" in message]
    (note,) = read_journal(tmp_path)[0].notes
    assert (note.kind, note.step, note.text) == ("alert", 3, "x/level is 3, above 2.5")
    assert note.data["actions"] == ["stop"]
    assert read_journal(tmp_path)[0].status == "finished"


def test_rows_of_the_users_own_do_not_count_as_silence(tmp_path):
    class Logging(Rising):
        def report(self, losses):
            super().report(losses)
            self.own_trainer.log({"mine": 1.0})

    alerts = [Alert("x/*", silent_for=2, action="stop")]
    trainer = make_trainer(Logging(), tmp_path, None, steps=8, trainer_kwargs={"alerts": alerts}, logging_steps=8)
    trainer.model.__dict__["own_trainer"] = trainer
    trainer.train()
    assert trainer.state.global_step == 8
    assert read_journal(tmp_path)[0].notes == []


def test_an_alert_in_the_last_window_does_not_claim_to_have_ended_the_training(tmp_path, caplog):
    trainer, output = train(tmp_path, [Alert("x/level", above=4.5, action="stop")], steps=5, logging_steps=4)
    assert trainer.state.global_step == 5
    assert "stopped_by" not in output.metrics
    assert not [message for message in caplog.messages if "the training stopped" in message]
    assert [note.step for note in read_journal(tmp_path)[0].notes] == [5]


def test_an_alert_that_no_metric_matches_is_named_at_the_end(tmp_path, caplog):
    alerts = [
        Alert("eval_x/level", above=0.5, action="stop"),  # the name in the log
        Alert("x/eval/level", above=0.5),  # the name in a backend
        Alert("x/levl", above=0.5),
        Alert("x/level", above=100.0, phase="dev"),
        Alert("y/*", silent_for=1, phase="eval*"),
        Alert("*/level", above=100.0),
        Alert("x/*", nonfinite=True, phase="train"),
    ]
    train(tmp_path, alerts, steps=5, logging_steps=4)
    idle = [message.partition(", …)")[0] for message in caplog.messages if "has watched nothing" in message]
    assert idle == [
        "Alert('eval_x/level'", "Alert('x/eval/level'", "Alert('x/levl'", "Alert('x/level', phase='dev'",
        "Alert('y/*', phase='eval*'",
    ]  # fmt: skip


@pytest.mark.parametrize("rule", [{"no_improvement": 2}, {"diverged": 2.0}])
def test_an_alert_whose_pattern_matches_only_metrics_of_unknown_direction_is_named_at_the_end(rule, tmp_path, caplog):
    alerts = [Alert("*/level", **rule), Alert("*/lev*", above=100.0), Alert("*", **rule)]  # the last one has losses too
    train(tmp_path, alerts, steps=5, logging_steps=1)
    assert [message for message in caplog.messages if "has watched nothing" in message] == [
        f"Alert('*/level', {alerts[0].rule}=...) has watched nothing: it is not known of any metric that matched it "
        "whether small or large values are better. Set MetricRegistry(directions={'*/level': 'min'}), or 'max'."
    ]


def test_an_alert_for_no_evaluation_set_is_told_the_phases(tmp_path, caplog):
    trainer = make_trainer(
        Rising(),
        tmp_path,
        None,
        steps=2,
        trainer_kwargs={
            "alerts": [Alert("x/level", above=0.5, phase="eval")],
            "eval_dataset": {"books": items(1), "wiki": items(1)},
        },
        eval_strategy="steps",
        eval_steps=2,
    )
    trainer.train()
    [message] = [message for message in caplog.messages if "has watched nothing" in message]
    assert message.endswith("phase='eval*'. The phases of this training are: eval_books, eval_wiki, train.")


def test_an_alert_on_task_health_without_task_health_is_told_to_pass_it(tmp_path, caplog):
    patterns = ["health/grad_cosine.*", "health/conflict", "*/grad_share", "x/progress"]
    alerts = [Alert(pattern, below=-1.0) for pattern in (*patterns, "x/levl")]
    train(tmp_path, alerts, steps=2, logging_steps=2)
    idle = [message for message in caplog.messages if "has watched nothing" in message]
    assert idle[:-1] == [
        f"Alert({pattern!r}, …) has watched nothing: no metric of the training matched it. Task health measures such "
        "metrics, but it was off: pass task_health=TaskHealth(every=100). If the model reports the metric, use its key."
        for pattern in patterns
    ]
    assert "Use the key that the model reports" in idle[-1]


def test_a_training_that_resumes_at_its_end_says_nothing_of_what_it_could_not_do(tmp_path, caplog):
    alerts = [Alert("x/level", above=100.0, phase="dev")]
    settings = {"save_strategy": "epoch", "per_device_train_batch_size": 256, "max_steps": -1}
    train(tmp_path, alerts, health=TaskHealth(every=2), **settings)
    caplog.clear()
    train(tmp_path, alerts, health=TaskHealth(every=2), resume=True, **settings)
    assert not [text for text in caplog.messages if "watched nothing" in text or "measured nothing" in text]


def test_an_alert_in_an_evaluation_stops_the_training_too(tmp_path):
    trainer = make_trainer(
        Rising(),
        tmp_path,
        None,
        steps=10,
        trainer_kwargs={"alerts": [Alert("x/level", above=2.5, phase="eval", action="stop")], "eval_dataset": items(1)},
        eval_strategy="steps",
        eval_steps=2,
    )
    trainer.train()
    assert trainer.state.global_step == 2
    assert trainer.evaluate()["eval_x/level"] > 2.5  # outside of a training there is nothing to stop


def test_a_function_gets_the_event_and_its_errors_do_not_reach_the_training(tmp_path, caplog):
    events = []

    def fail(event):
        events.append(event)
        raise RuntimeError("no")

    trainer, _ = train(tmp_path, [Alert("x/level", above=1.5, action=[events.append, fail])], steps=3)
    assert [(event.key, event.step, event.value) for event in events] == [("x/level", 2, 2.0)] * 2
    assert "failed: RuntimeError: no" in caplog.text
    assert trainer.state.global_step == 3


def test_a_resumed_training_does_not_fire_again_and_keeps_its_progress(tmp_path, caplog):
    alerts, health = [Alert("x/level", above=1.5)], TaskHealth(every=100)
    settings = {"save_strategy": "steps", "save_steps": 3}
    train(tmp_path, alerts, 3, health, **settings)
    first = read_journal(tmp_path)[0].snapshots[0].metrics["a/loss"]
    trainer = make_trainer(Rising(), tmp_path, health, steps=6, trainer_kwargs={"alerts": alerts}, **settings)
    trainer.model.batches = 3
    trainer.train(resume_from_checkpoint=True)
    assert caplog.text.count("alert at step") == 1
    row = next(row for row in trainer.state.log_history if row["step"] == 5)
    assert row["a/progress"] == pytest.approx(row["a/loss"] / first)


def test_an_alert_that_was_changed_for_the_resume_does_not_hold_for_ever(tmp_path):
    train(tmp_path, [Alert("x/level", above=1.5)], steps=4, save_strategy="steps", save_steps=4)
    resume = str(tmp_path / "checkpoint-4")
    train(tmp_path, [Alert("x/level", above=100.0)], steps=6, resume=resume, save_strategy="no")
    texts = [(note.step, note.text) for run in read_journal(tmp_path) for note in run.notes]
    assert texts == [
        (2, "x/level is 2, above 1.5"),
        (4, "x/level: the resumed training does not have this alert (since step 2)"),
    ]
    assert [row.until for row in alert_rows(read_trainings(tmp_path)[0])] == [4]


def test_w_and_b_gets_an_alert(tmp_path, wandb_dir):
    alerts = [Alert("x/level", above=1.5, action="wandb"), Alert("x/level", above=2.5)]
    train(tmp_path, alerts, steps=3, report_to="wandb")
    import wandb

    wandb.finish()
    (run,) = read_runs(wandb_dir)
    assert run.alerts == [("x/level (above)", "x/level is 2, above 1.5", "WARN")]


class Swinging(ManyTasks):
    """Reports many values, which are 1 in the forwards 1, 3, … and 2 in the others."""

    tasks = 8
    batches = 0

    def report(self, losses):
        self.batches += 1
        for number in range(self.tasks):
            self.report_metrics(f"t{number}", level=2.0 - self.batches % 2)


@pytest.mark.parametrize("tasks", [6, 8, 30])
def test_of_many_alerts_at_once_five_are_told_one_by_one_and_one_message_names_the_others(
    tasks, tmp_path, wandb_dir, caplog
):
    called = []
    alert = Alert("t*/level", above=1.5, action=["wandb", lambda event: called.append(event.key)])
    model = Swinging()
    model.tasks = tasks
    make_trainer(model, tmp_path, None, steps=3, trainer_kwargs={"alerts": [alert]}, report_to="wandb").train()
    import wandb

    wandb.finish()
    keys = [f"t{number}/level" for number in range(tasks)]
    begun = [f"{key} is 2, above 1.5" for key in keys]
    over = [f"{key} is 1: no longer above 1.5 (alert since step 2)" for key in keys]
    others = {6: "", 8: "; and 2 more: t6/level, t7/level", 30: f"; and 24 more: {', '.join(keys[6:26])}, …"}[tasks]
    assert [message for message in caplog.messages if message.startswith("alert")] == [
        *(f"alert at step 2: {text}." for text in [*begun[:5], begun[5] + others]),
        *(f"alert over at step 3: {text}." for text in [*over[:5], over[5] + others]),
    ]
    (run,) = read_runs(wandb_dir)
    assert [text for _, text, _ in run.alerts] == [*begun[:5], begun[5] + others]
    assert called == keys
    notes = read_journal(tmp_path)[0].notes
    assert [note.text for note in notes] == begun + over
    assert [row.until for row in alert_rows(read_trainings(str(tmp_path))[0])] == [3] * tasks


def test_each_of_many_alerts_that_end_the_training_at_once_is_marked_in_the_journal(tmp_path):
    alert = Alert("t*/level", above=1.5, action=["stop", print])
    make_trainer(Swinging(), tmp_path, None, steps=5, trainer_kwargs={"alerts": [alert]}).train()
    notes = read_journal(tmp_path)[0].notes
    assert [note.data["actions"] for note in notes] == [["stop", "print"]] * 6 + [["stop"]] * 2
    assert [row.is_stop for row in alert_rows(read_trainings(str(tmp_path))[0])] == [True] * 8


def test_what_cannot_work_is_refused(tmp_path):
    with pytest.raises(ValueError, match="action='wandb'.* needs W&B"):
        train(tmp_path, [Alert("x/level", above=1.5, action="wandb")])
    with pytest.raises(TypeError, match="holds a str: pass alerts"):
        train(tmp_path, ["x/level above=1"])
    with pytest.raises(TypeError, match="alerts=Alert: pass a list"):
        train(tmp_path, Alert("x/level", above=1))
    with pytest.raises(TypeError, match="task_health=True: pass task_health=TaskHealth"):
        make_trainer(Rising(), tmp_path, True)
    secret = SinkArguments(alerts=["x/level above=1 action=https://hooks.example.com/secret"], task_health_every=5)
    for given in ({"alerts": [Alert("x/level", above=1)]}, {"task_health": TaskHealth()}):
        with pytest.raises(ValueError, match="and sink_args sets .* too: pass one of them") as caught:
            HfMultiTaskTrainer(Rising(), arguments(tmp_path), sink_args=secret, **given)
        assert "secret" not in str(caught.value)


def test_settings_from_the_command_line_reach_the_trainer(tmp_path):
    settings = SinkArguments(alerts=["x/level above=2.5 action=stop"], task_health_every=1)
    trainer = make_trainer(Rising(), tmp_path, None, steps=10, trainer_kwargs={"sink_args": settings})
    assert trainer.train().metrics["stopped_by"] == "x/level is 3, above 2.5"
    assert "health/grad_cosine.a.b" in trainer.state.log_history[0]


def test_parameters_that_are_not_there_are_refused_before_the_first_step(tmp_path):
    trainer = make_trainer(Rising(), tmp_path, TaskHealth(shared="block.1"))
    with pytest.raises(ValueError, match=r"no such parameter.*Similar names: .*blocks\.1"):
        trainer.train()
    assert trainer.state.global_step == 0
    for parameter in trainer.model.blocks[1].parameters():
        parameter.requires_grad = False
    trainer = make_trainer(trainer.model, tmp_path, TaskHealth(shared="blocks.1"))
    with pytest.raises(ValueError, match="all of these parameters are frozen"):
        trainer.train()


class Ordered(InOrder, HfMultiTaskTrainer):
    pass


def test_an_alert_about_a_window_that_a_resume_continues_counts_only_if_the_whole_window_raises_it(tmp_path) -> None:
    """The loss of step 3 is above 6, but the mean of the steps 3 and 4 is not; those of 5, and of 5 and 6, are."""
    for steps in (3, 5, 6):
        args = arguments(tmp_path, max_steps=steps, logging_steps=2, save_strategy="steps", save_steps=steps)
        data, alerts = numbers(1, 1, 9, 1, 9, 7), [Alert("a/loss", above=6.0)]
        Ordered(Reports(), args, train_dataset=data, alerts=alerts).train(resume_from_checkpoint=steps > 3)
        (training,) = read_trainings(tmp_path)
        assert [row.step for row in alert_rows(training)] == {3: [3], 5: [5], 6: [6]}[steps]
