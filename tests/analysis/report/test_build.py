from __future__ import annotations

import json
import os

import pytest
from helpers.journals import losses, write
from helpers.toy import InOrder, Toy, arguments, numbers

from mtask_sinks import HfMultiTaskTrainer, RunInfo, Sink
from mtask_sinks.analysis.compare import Outcome
from mtask_sinks.analysis.report import RunReport, make_report
from mtask_sinks.analysis.report.checkpoints import BestCheckpoint
from mtask_sinks.charts import open_runs
from mtask_sinks.delivery.status import SinkStatus


def report_of(*given) -> list[RunReport]:
    return list(make_report(open_runs(list(given))).runs)


def test_a_real_training_with_its_best_checkpoint_and_its_sink(tmp_path) -> None:
    class Trainer(InOrder, HfMultiTaskTrainer):
        pass

    class Quiet(Sink):
        name = "quiet"

        def write(self, snapshot) -> None:
            pass

    saving = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2}
    best = {"metric_for_best_model": "eval_a/loss", "greater_is_better": False, "load_best_model_at_end": True}
    args = arguments(tmp_path / "out", run_name="toy", **saving, **best)
    trainer = Trainer(Toy(), args, train_dataset=numbers(1, 2, 3, 5), eval_dataset=numbers(4, 8), sinks=[Quiet()])
    trainer.train()
    report = make_report(open_runs([tmp_path / "out"]))
    (run,) = report.runs
    assert (run.label, run.status, run.step, run.max_steps, run.epoch) == ("toy", "finished", 4, 4, 1.0)
    assert (run.resumed_at, run.nonfinite, run.missing) == ((), (), ())
    # The loss of the evaluation is (4 + 8) / 2 each time, so the first one was the best.
    assert run.best == BestCheckpoint("checkpoint-2", is_there=True, metric="eval_a/loss", value=6.0, step=2)
    # Two log events, two evaluations, and the Trainer's summary at the end.
    assert run.sinks == (SinkStatus("quiet", "closed", 5, 0, 0, None),)
    assert (run.settings["metric_for_best_model"], run.settings["per_device_train_batch_size"]) == ("eval_a/loss", 1)
    assert "torch" in run.versions
    assert 0 < run.last - run.begun == run.seconds
    assert [(row.task, row.name, row.phase, row.outcomes) for row in report.metrics] == [
        ("a", "loss", "train", (Outcome(4.0, 4, 1.5, 2),)),
        ("a", "loss", "eval", (Outcome(6.0, 4, 6.0, 2),)),
        ("a", "loss", "overall", (Outcome(2.75, 4, 2.75, 4),)),
    ]


def test_a_resumed_training_took_the_time_of_both_processes(tmp_path) -> None:
    first, second = losses(2, 4, 6), losses(6, 8, at=5000.0)
    path = write(tmp_path, (RunInfo(id="1", name="r"), first, "killed"), (RunInfo(id="2", step=4), second, "finished"))
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for begin, at in zip([record for record in records if record["record"] == "run"], (1000.0, 5000.0)):
        begin["time"] = at
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    (run,) = report_of(tmp_path)
    # 4 s until the checkpoint and 8 s after the resume. The lost steps in between do not count.
    assert (run.begun, run.last, run.seconds, run.resumed_at) == (1000.0, 5008.0, 12.0, (4,))


@pytest.mark.parametrize("owner", ["nobody", "first", "last", "both"])
def test_each_training_has_the_checkpoints_that_were_written_while_it_ran(tmp_path, owner) -> None:
    path = write(
        tmp_path, (RunInfo(id="1", name="x"), losses(20), "finished"), (RunInfo(id="2", name="y"), losses(20), "failed")
    )
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for begin, at in zip([record for record in records if record["record"] == "run"], (1000.0, 2000.0)):
        begin["time"] = at
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    for step, name, at in ((10, "first", 1500.0), (20, "last", 2500.0)):
        if owner in (name, "both"):
            state = tmp_path / f"checkpoint-{step}" / "trainer_state.json"
            state.parent.mkdir()
            state.write_text(
                json.dumps({"global_step": step, "best_metric": 0.5, "best_model_checkpoint": f"out/checkpoint-{step}"})
            )
            os.utime(state, (at, at))
    first, last = report_of(f"{tmp_path}:x", tmp_path)
    assert [run.status for run in (first, last)] == ["finished", "failed"]
    assert (first.best and first.best.name) == ("checkpoint-10" if owner in ("first", "both") else None)
    assert (last.best and last.best.name) == ("checkpoint-20" if owner in ("last", "both") else None)
    none, others = "there is no checkpoint beside the journal", "the checkpoints beside the journal belong to other"
    assert first.no_best.startswith({"nobody": none, "last": others}.get(owner, ""))
    assert last.no_best.startswith({"nobody": none, "first": others}.get(owner, ""))


@pytest.mark.parametrize("name", ["max_steps", "bf16"])
def test_settings_that_say_nothing_are_left_out(tmp_path, name) -> None:
    params = {"max_steps": -1, "bf16": False, "seed": 3, "hub_token": "<HUB_TOKEN>"}
    write(tmp_path, (RunInfo(id="1", params=params), losses(2), None))
    (run,) = report_of(tmp_path)
    assert run.settings == {"seed": 3}
    assert name in run.params


def test_what_is_no_list_of_trainings_is_refused(tmp_path) -> None:
    write(tmp_path, (RunInfo(id="1"), losses(1, 2), None))
    for wrong in (open_runs([tmp_path])[0], str(tmp_path), [str(tmp_path)]):
        with pytest.raises(TypeError, match=r"pass the list that open_runs\(\[output_dir\]\) returns"):
            make_report(wrong)
