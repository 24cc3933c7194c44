"""Findings about the delivery of a journal, and about a real training."""

from __future__ import annotations

import math
import shlex
import socket
import subprocess

import pytest
from helpers.doctor_journals import RUN, cursor, journal, of, only, train
from helpers.journals import write
from helpers.toy import InOrder, Toy, arguments, numbers

from mtask_sinks import HfMultiTaskTrainer, RunInfo, Sink, SinkArguments, Snapshot
from mtask_sinks._util.escaping import printable
from mtask_sinks.alerts.webhook import WebhookSink
from mtask_sinks.doctor.examination import examine_path
from mtask_sinks.journal.writer import Journal
from mtask_sinks.note import Note


@pytest.mark.parametrize("state", ["down", "hung"])
def test_a_sink_of_a_running_training_in_trouble(tmp_path, state) -> None:
    path = journal(tmp_path, train(2, 4, a_loss=1.0), None)
    cursor(path, "mlflow", offset=0, state=state, error="ConnectionError: refused")
    text = only(tmp_path, "sink-in-trouble")[1]
    assert text.startswith(f"sink mlflow is {state} (ConnectionError: refused); 2 snapshots wait in the journal.")
    assert of(tmp_path, "undelivered") == []


def test_what_was_not_delivered_at_the_end(tmp_path) -> None:
    path = journal(tmp_path, train(2, 4, 6, a_loss=1.0))
    offset = len(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    cursor(path, "mlflow", offset=offset, delivered=1, state="down", error="gone")
    text = only(tmp_path, "undelivered")[1]
    assert text == f"sink mlflow received 1 of 3 snapshots (gone). mtask-sinks replay {path} --to mlflow"
    assert of(tmp_path, "sink-in-trouble") == []


def test_a_webhook_is_not_asked_and_gets_no_replay(tmp_path) -> None:
    """Neither command knows its sink, and an alert of a past training would mislead."""
    sink = WebhookSink("https://host/secret")
    name = sink.name
    for status, check, what, end in (
        (None, "sink-in-trouble", " is down (gone); 1 alert waits", "continues when the backend answers again."),
        (
            "finished",
            "undelivered",
            " has not delivered all alerts",
            "cannot deliver alerts later. To see all of them: mtask-sinks report.",
        ),
    ):
        written = Journal(tmp_path / str(status) / "metrics.jsonl", eager=True)
        written.begin(RUN)
        written.append(train(2, a_loss=1.0)[0])
        for actions in ([sink.address], ["webhook:other", "stop"], 5):
            written.note(Note("alert", 2, "a/loss is high", {"actions": actions}))
        written.append(train(4, a_loss=1.0)[0])
        if status is not None:
            written.end(RUN.id, status)
        written.close()
        cursor(path := tmp_path / str(status) / "metrics.jsonl", name, offset=0, state="down", error="gone")
        text = only(path.parent, check)[1]
        assert text.startswith(f"sink {name}{what}") and text.endswith(end)


@pytest.mark.parametrize("status", ["killed", "finished"])
def test_a_webhook_lacks_no_alert_if_only_snapshots_follow(tmp_path, status) -> None:
    """If the training is killed, the last seconds of it come after each cursor."""
    sink = WebhookSink("https://host/secret")
    written = Journal(tmp_path / "metrics.jsonl", eager=True)
    written.begin(RUN)
    written.note(Note("alert", 1, "a/loss is high", {"actions": [sink.address]}))
    offset = (tmp_path / "metrics.jsonl").stat().st_size
    for snapshot in train(2, 4, a_loss=1.0):
        written.append(snapshot)
    written.note(Note("alert", 4, "b/loss is high", {"actions": ["webhook:other"]}))
    written.end(RUN.id, status)
    written.close()
    cursor(tmp_path / "metrics.jsonl", sink.name, offset=offset)
    assert of(tmp_path, "undelivered") == []


def test_what_a_running_training_has_just_logged_is_no_matter_of_the_one_before_it(tmp_path) -> None:
    offset = write(tmp_path, (RUN, train(2, 4, a_loss=1.0), "finished")).stat().st_size
    path = write(tmp_path, (RUN, train(2, 4, a_loss=1.0), "finished"), (RunInfo(id="2"), train(6, a_loss=1.0), None))
    cursor(path, "wandb", offset=offset, delivered=3)  # with W&B, the offset stays at the beginning of the run
    assert of(tmp_path, "undelivered", ":1") == of(tmp_path, "undelivered", ":2") == []


def test_what_the_backend_refuses(tmp_path) -> None:
    path = journal(tmp_path, train(2, 4, a_loss=1.0))
    refused = [{"step": 2, "phase": "train", "error": "Rejected: too long"}]
    cursor(path, "mlflow", offset=path.stat().st_size, delivered=1, rejected=1, reasons=refused)
    text = only(tmp_path, "rejected-snapshots")[1]
    assert "the backend of sink mlflow rejected 1 snapshot (Rejected: too long)." in text
    assert text.endswith(f"mtask-sinks replay {path} --to mlflow --all")
    assert of(tmp_path, "undelivered") == []


def test_no_sink_was_at_work(tmp_path) -> None:
    path = journal(tmp_path, train(2, a_loss=1.0), delivered=False)
    assert f"mtask-sinks replay {shlex.quote(str(path))} --to tensorboard" in only(tmp_path, "no-delivery")[1]


def test_a_command_with_an_odd_path_works_as_it_is_printed(tmp_path) -> None:
    odd = tmp_path / "a\x1b[2Jb"
    odd.mkdir()
    path = journal(odd, train(2, a_loss=1.0), delivered=False)
    # The doctor escapes control characters when it prints.
    word = printable(only(odd, "no-delivery")[1]).partition("mtask-sinks replay ")[2].partition(" --to")[0]
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, text=True, check=True)
    assert done.stdout == str(path)


@pytest.mark.parametrize("listens", [False, True])
def test_servers_are_asked_if_one_says_so(tmp_path, monkeypatch, listens) -> None:
    path = journal(tmp_path, train(2, a_loss=1.0))
    cursor(path, "mlflow", offset=path.stat().st_size)
    (tmp_path / "train.py").write_text("TrainingArguments(out, report_to=['mlflow'])")
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        uri = f"sqlite:///{tmp_path}/store.db" if listens else f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        examinations = [examine_path(str(each), seconds=60) for each in (tmp_path, tmp_path / "train.py")]
    for examination in examinations:
        assert examination.checks[-1] == "no-answer"
        found = [each.what.partition(":")[0] for each in examination.findings]
        assert found == ([] if listens else ["the backend of mlflow does not answer"])


class Down(Sink):
    """A backend that is away."""

    name = "away"

    def write(self, snapshot: Snapshot) -> None:
        raise ConnectionError("nobody there")


class Vanishing(Toy):
    """Reports a second task only for the first inputs; its loss is NaN at the end."""

    def extra(self, x, loss):
        self.report_metrics("a", loss=loss if x.max() < 7 else x * math.nan)
        if x.max() < 3:
            self.report_metrics("b", loss=loss)


class InOrderTrainer(InOrder, HfMultiTaskTrainer):
    pass


def test_a_real_training_with_three_faults(tmp_path) -> None:
    InOrderTrainer(
        Vanishing(),
        arguments(tmp_path, logging_steps=1, run_name="toy"),
        train_dataset=numbers(*range(1, 9)),
        sinks=[Down()],
        sink_args=SinkArguments(drain_seconds=0.0),
    ).train()
    found = {each.check: each for each in examine_path(str(tmp_path)).findings}
    assert {name: each.where for name, each in found.items()} == {
        "nonfinite": "toy, step 7",
        "task-vanished": "toy, step 3",
        "undelivered": "toy, step 8",
    }
    # Eight log events and the summary. No package offers this sink, so no command can deliver to it.
    assert "received 0 of 9 snapshots" in found["undelivered"].what
    assert f"replay({str(tmp_path / 'metrics.jsonl')!r}, [the away sink])" in found["undelivered"].remedy
