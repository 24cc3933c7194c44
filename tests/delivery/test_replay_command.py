from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from helpers.event_files import read_scalars
from helpers.faulty import wait_for
from helpers.journals import losses
from helpers.local_server import Reserved

from mtask_sinks import RunInfo, Sink
from mtask_sinks.alerts.webhook import WebhookSink
from mtask_sinks.delivery.pipeline import Delivery
from mtask_sinks.note import Note
from mtask_sinks.sinks import MemorySink, TensorBoardSink
from mtask_sinks.sinks.lookup import has_sink


class AwaySink(MemorySink):
    """A backend that is away until the test ends."""

    name: ClassVar[str] = "away"
    variables: ClassVar[Mapping[str, str]] = {}

    def environment(self) -> Mapping[str, str]:
        return self.variables


@pytest.fixture(autouse=True)
def _backends_are_away(monkeypatch) -> None:
    def fail(self, run: RunInfo) -> None:
        raise OSError("no answer from http://me:pw@host \x1b[2J")

    monkeypatch.setattr("mtask_sinks.delivery.replay_command.has_sink", lambda name: True)
    monkeypatch.setattr(AwaySink, "open", fail)
    monkeypatch.setattr(TensorBoardSink, "open", fail)


def message_of(sink: Sink, output_dir: Path, caplog, **run) -> str:
    delivery = Delivery([sink], drain_seconds=0.2)
    delivery.open(RunInfo(id="1", output_dir=str(output_dir), **run))
    delivery.write(losses(1)[0])
    wait_for(lambda: bool(delivery.counts[sink.name].error), "the first error")
    delivery.close("finished")
    (message,) = [text for text in caplog.messages if "To deliver them," in text]
    return message


def test_the_command_holds_no_secret_and_says_what_to_set(tmp_path, caplog) -> None:
    sink = AwaySink()
    sink.variables = {"STORE": "http://TOKEN@host", "NAME": "a b"}
    message = message_of(sink, tmp_path / "a b", caplog)
    assert message.endswith(
        " To deliver them, set STORE (http://***@host), whose secret is not shown here, and run: "
        f"NAME='a b' mtask-sinks replay '{tmp_path}/a b/metrics.jsonl' --to away"
    )
    assert "OSError: no answer from http://***@host \\x1b[2J" in message
    assert "TOKEN" not in caplog.text
    assert "pw" not in caplog.text
    assert "\x1b" not in caplog.text
    assert "pw" not in (tmp_path / "a b" / "metrics.delivery" / "away.json").read_text()


def test_a_path_with_control_characters_is_written_as_a_shell_reads_it(tmp_path, caplog) -> None:
    path = tmp_path / "a\x1b[2J\nb"
    command = message_of(AwaySink(), path, caplog).partition("run: ")[2]
    printed = subprocess.run(["bash", "-c", command.replace("mtask-sinks", "printf '%s|'")], capture_output=True)
    assert printed.stdout.decode() == f"replay|{path}/metrics.jsonl|--to|away|"


def test_a_sink_that_the_command_does_not_know_is_delivered_to_from_python(tmp_path, caplog, monkeypatch) -> None:
    monkeypatch.setattr("mtask_sinks.delivery.replay_command.has_sink", has_sink)
    message = message_of(AwaySink(), tmp_path, caplog)
    sink = MemorySink()
    exec(message.partition("run in Python: ")[2].replace("[the away sink]", "[sink]"), {"sink": sink})
    assert [snapshot.step for snapshot in sink.snapshots] == [1]


def test_an_alert_that_a_webhook_does_not_take_cannot_be_delivered_later(tmp_path, caplog) -> None:
    sink = WebhookSink("http://127.0.0.1:9/x")
    delivery = Delivery([sink], drain_seconds=0.5)
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path)))
    delivery.note(Note("alert", 1, "a/loss is high", {"actions": [sink.address]}))
    delivery.write(losses(1)[0])
    delivery.close("finished")
    (message,) = [text for text in caplog.messages if "cannot deliver" in text]
    assert message.endswith("has not sent everything within 0.5 s. A replay cannot deliver it later.")
    assert "mtask-sinks replay" not in caplog.text and "snapshots" not in message


def test_it_needs_no_trust_in_what_this_user_has_written_to(tmp_path, caplog) -> None:
    assert "--trust" not in message_of(AwaySink(), tmp_path, caplog, continued={"away": "run"})


def test_it_trusts_the_journal_if_nothing_can_be_remembered(tmp_path, caplog, monkeypatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert message_of(AwaySink(), tmp_path, caplog, continued={"away": "run"}).endswith(" --trust --to away")


@pytest.mark.parametrize(("layout", "tag"), [("flat", "a/train/loss"), ("overlay", "train/loss")])
def test_the_command_works_as_it_is_printed(layout, tag, tmp_path, caplog) -> None:
    elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
    message = message_of(TensorBoardSink(layout=layout), out, caplog, continued={"tensorboard": str(elsewhere)})
    words = shlex.split(re.search(r"run: (mtask-sinks .*)$", message)[1])
    assert words[-3] == "--trust"  # the directory is outside of the journal's
    command = [sys.executable, "-m", "mtask_sinks", *words[1:]]
    refused = subprocess.run(command, capture_output=True, text=True)  # this process still tries to deliver it
    assert f"process {os.getpid()} is still running" in " ".join(refused.stderr.replace("│", " ").split())
    done = subprocess.run([*command, "--force"], capture_output=True, text=True)
    assert done.stdout == "tensorboard: 1 delivered, 0 rejected, 0 left\n", done.stderr
    assert read_scalars(elsewhere / "a" if layout == "overlay" else elsewhere)[tag]


@pytest.mark.parametrize("is_given", [True, False])
def test_the_command_names_the_directory_that_the_user_chose(is_given, tmp_path, caplog, monkeypatch) -> None:
    mine = tmp_path / "my board"
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "other" if is_given else mine))
    sink = TensorBoardSink(mine) if is_given else TensorBoardSink()
    message = message_of(sink, tmp_path / "out", caplog, continued={"tensorboard": str(mine)})
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR")
    command = message.partition("run: ")[2].replace("mtask-sinks", f"'{sys.executable}' -m mtask_sinks")
    assert "--trust" not in command
    done = subprocess.run(["sh", "-c", f"{command} --force"], capture_output=True, text=True)  # this process lives
    assert done.stdout == "tensorboard: 1 delivered, 0 rejected, 0 left\n", done.stderr
    assert read_scalars(mine)


@pytest.mark.parametrize("user", ["me:S3CRET", "me:a/S3CRET", "S3CRET"])
def test_the_password_of_a_real_server_is_in_no_file_message_or_page(user, tmp_path, caplog, monkeypatch) -> None:
    from mtask_sinks.analysis.report import make_report
    from mtask_sinks.charts import open_runs
    from mtask_sinks.charts.html.report import report_page
    from mtask_sinks.sinks import MLflowSink

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    reserved = Reserved()
    address = f"http://{user}@127.0.0.1:{reserved.port}"
    delivery = Delivery([MLflowSink(address)], drain_seconds=30)
    delivery.open(RunInfo(id="1", output_dir=str(tmp_path), params={"store": [address]}))
    delivery.write(losses(1)[0])
    try:
        for _ in range(600):
            if "is down" in caplog.text:
                break
            time.sleep(0.1)
        delivery.close("finished", 0.1)
    finally:
        reserved.release()
    page = report_page(make_report(open_runs([tmp_path])), None)
    files = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    shown = f"http://***@127.0.0.1:{reserved.port}"
    assert (
        f"set MLFLOW_TRACKING_URI ({shown}), whose secret is not shown here, and run: mtask-sinks replay" in caplog.text
    )
    assert "S3CRET" not in caplog.text + files + page + "".join(str(record.__dict__) for record in caplog.records)
    if "/" not in user:  # else the client itself reads the address wrongly, and names another part of it
        assert shown in page
