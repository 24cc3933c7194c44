"""Webhooks: a real server on loopback, which fails at first; nothing shows the address."""

from __future__ import annotations

import json
import math
import pickle
import re
import traceback
from http.server import BaseHTTPRequestHandler
from urllib.error import HTTPError

import pytest
from helpers.local_server import LocalServer, Reserved
from helpers.many_tasks import ManyTasks, make_trainer

from mtask_sinks import Alert, RunInfo, SinkArguments
from mtask_sinks.alerts.webhook import WebhookSink
from mtask_sinks.delivery.http_errors import http_status, is_refusal, retry_after
from mtask_sinks.doctor.examination import examine_path
from mtask_sinks.errors import Rejected
from mtask_sinks.note import Note


@pytest.fixture
def hook():
    """Serve a webhook that answers with the given statuses, then with 200; it keeps the bodies."""
    statuses, bodies, paths, logins, gets = [], [], [], [], []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = statuses.pop(0) if statuses else 200
            if status == 200:
                bodies.append(json.loads(body))
                paths.append(self.path)
                logins.append(self.headers["Authorization"])
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            if status != 200:
                self.send_header("Retry-After", "7" if self.path[1:] == "secret-token" else "0")
            self.end_headers()

        def do_GET(self):
            gets.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = LocalServer(Handler)
    server.open()
    server.statuses, server.bodies, server.paths, server.logins, server.gets = statuses, bodies, paths, logins, gets
    yield server
    server.close()


def note(url, value=3.0):
    data = {"key": "a/loss", "rule": "above", "value": value, "actions": [WebhookSink(url).address], "is_over": False}
    return Note("alert", 40, "a/loss is 3, above 2", data, 5.0)


def test_a_training_posts_its_alerts_and_tries_again(hook, tmp_path, caplog):
    hook.statuses += [503, 429]
    url = f"{hook.url}/services/secret-token"
    alerts = [Alert("a/loss", above=-1.0, action=url), Alert("b/loss", above=-1.0)]
    trainer = make_trainer(ManyTasks(), tmp_path, None, steps=2, trainer_kwargs={"alerts": alerts}, run_name="bert")
    trainer.train()
    (body,) = hook.bodies
    value = trainer.state.log_history[0]["a/loss"]
    assert body["text"].startswith("bert: alert at step 1: a/loss is ")
    assert {
        name: body[name] for name in ("training", "step", "key", "phase", "rule", "threshold", "value", "since")
    } == {
        "training": "bert",
        "step": 1,
        "key": "a/loss",
        "phase": "train",
        "rule": "above",
        "threshold": -1.0,
        "value": value,
        "since": 1,
    }
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "secret-token" not in written + caplog.text
    assert "webhook:" in written


@pytest.mark.parametrize(
    ("run", "name", "text"),
    [
        (RunInfo(name="bert", output_dir="out/lr-1"), "bert", "bert: alert at step 40: a/loss is 3, above 2"),
        (RunInfo(output_dir="out/lr-1"), "lr-1", "lr-1: alert at step 40: a/loss is 3, above 2"),
        (RunInfo(), None, "training: alert at step 40: a/loss is 3, above 2"),
    ],
)
def test_a_training_without_a_name_has_that_of_its_output_directory(hook, run, name, text):
    sink = WebhookSink(f"{hook.url}/x")
    sink.open(run)
    sink.note(note(f"{hook.url}/x"))
    assert [(body["training"], body["text"]) for body in hook.bodies] == [(name, text)]


def test_a_message_about_several_metrics_names_them(hook):
    sink = WebhookSink(f"{hook.url}/x")
    more = {"message": "a/loss is 3, above 2; and 1 more: b/loss", "others": ["b/loss"]}
    alone = note(f"{hook.url}/x")
    sink.note(Note(alone.kind, alone.step, alone.text, {**alone.data, **more}, alone.time))
    (body,) = hook.bodies
    assert body["text"] == "training: alert at step 40: a/loss is 3, above 2; and 1 more: b/loss"
    assert (body["key"], body["others"], "message" in body) == ("a/loss", ["b/loss"], False)


def test_an_address_that_does_not_answer_is_no_matter_of_the_others(hook, tmp_path, caplog):
    """The first and the last address get each alert once, although the one between them is away."""
    closed = Reserved()
    urls = [f"{hook.url}/first", f"http://127.0.0.1:{closed.port}/away", f"{hook.url}/last"]
    alerts = [Alert(f"{task}/loss", above=-1.0, action=urls) for task in "ab"]
    settings = {"alerts": alerts, "sink_args": SinkArguments(drain_seconds=2.0)}
    make_trainer(ManyTasks(), tmp_path, None, steps=2, trainer_kwargs=settings).train()
    closed.release()
    (message,) = [each for each in caplog.messages if "has not sent" in each]
    assert re.fullmatch(
        r"sink webhook-\w+ \(\w+(, ConnectionError: webhook:\w+ does not answer \(ConnectionRefusedError\))?\) "
        r"has not sent everything within 2 s\. A replay cannot deliver it later\.",
        message,
    )
    assert "snapshots; " not in caplog.text
    (found,) = [each.what for each in examine_path(str(tmp_path)).findings if each.check == "undelivered"]
    assert re.match(r"sink webhook-\w+ has not delivered all alerts( \(ConnectionError|\.)", found)
    assert sorted((path, body["key"]) for path, body in zip(hook.paths, hook.bodies, strict=True)) == [
        (path, key) for path in ("/first", "/last") for key in ("a/loss", "b/loss")
    ]


@pytest.mark.parametrize(
    ("status", "is_final"), [(503, False), (429, False), (408, False), (425, False), (404, True), (400, True)]
)
def test_an_answer_says_whether_and_when_to_try_again_and_does_not_show_the_address(hook, status, is_final):
    hook.statuses.append(status)
    url = f"{hook.url}/secret-token"
    with pytest.raises(HTTPError, match=rf"webhook:\w+ answers {status}") as caught:
        WebhookSink(url).note(note(url))
    error = caught.value
    assert is_refusal(http_status(error)) is is_final
    assert retry_after(error) == 7.0
    shown = "".join(traceback.format_exception(error)) + repr(vars(error)) + str(error.geturl())
    assert "secret" not in shown
    assert error.__cause__ is None


def test_a_server_that_is_away(hook):
    hook.close()
    url = f"{hook.url}/secret-token"
    with pytest.raises(ConnectionError, match=r"webhook:\w+ does not answer \(ConnectionRefusedError\)"):
        WebhookSink(url).note(note(url))
    with pytest.raises(Rejected, match="cannot be used"):
        WebhookSink("http://host:port/x").note(note("http://host:port/x"))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_because_the_alert_would_be_lost(hook, status):
    hook.statuses.append(status)
    url = f"{hook.url}/secret-token"
    with pytest.raises(Rejected, match=rf"^webhook:\w+ answers {status}: it redirects to another address") as caught:
        WebhookSink(url).note(note(url))
    assert (hook.gets, hook.bodies) == ([], [])
    assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("login", "header"),
    [("me:p%40ss@", "Basic bWU6cEBzcw=="), ("me@", "Basic bWU6"), ("", None)],  # me:p@ss, me:
)
def test_user_and_password_of_an_address_log_in(hook, login, header):
    url = hook.url.replace("//", f"//{login}")
    WebhookSink(url).note(note(url))
    assert hook.logins == [header]
    assert len(hook.bodies) == 1


def test_a_proxy_that_the_script_sets_after_it_made_the_trainer_is_used(hook, monkeypatch):
    url = "http://webhook.invalid/secret-token"
    sink = WebhookSink(url)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, hook.url)
    sink.note(note(url))
    assert len(hook.bodies) == 1


def test_a_sink_with_an_address_can_be_pickled_as_ray_does_with_a_trainer():
    sink = WebhookSink("https://host/secret-token")
    assert pickle.loads(pickle.dumps(sink)).address == sink.address


@pytest.mark.parametrize(
    "url", ["http://me:secret\u2100@host/secret-token", "http:///secret-token", "http://[::1/secret"]
)
def test_an_address_of_a_wrong_form_is_final_and_not_shown(url):
    with pytest.raises(Rejected, match=r"^the address of webhook:\w+ cannot be used$"):
        WebhookSink(url).note(note(url))


def test_values_that_are_not_finite_are_text(hook):
    WebhookSink(hook.url).note(note(hook.url, math.nan))
    assert hook.bodies[0]["value"] == "nan"
