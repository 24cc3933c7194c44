from __future__ import annotations

import base64
import socket
import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from helpers.local_server import Reserved, local_server

from mtask_sinks import RunInfo, Sink
from mtask_sinks.sinks import health
from mtask_sinks.sinks.health import Answer, check_sinks

RUN = RunInfo(id="r", output_dir="out")


class Healthy(BaseHTTPRequestHandler):
    """Answers every path in the same way."""

    status, body = 200, b'{"experiments": []}'

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET  # noqa: N815

    def log_message(self, *args: object) -> None:
        pass


class Broken(Healthy):
    status = 503


class NotMlflow(Healthy):
    status, body = 404, b"<html>Not Found</html>"


class LongPage(NotMlflow):
    body = b"<html>" + b"x" * 100_000


class Slow(Healthy):
    def do_GET(self) -> None:
        time.sleep(2.5)
        super().do_GET()

    do_POST = do_GET  # noqa: N815


class WithPassword(Healthy):
    def do_GET(self) -> None:
        if self.headers.get("Authorization") == "Basic " + base64.b64encode(b"me:secret").decode():
            super().do_GET()
        else:
            self.send_error(401)

    do_POST = do_GET  # noqa: N815


def ask(name: str, seconds: float = 30.0) -> Answer:
    return check_sinks([name], RUN, seconds)[name]


def test_mlflow_server_that_answers(monkeypatch) -> None:
    with local_server(Healthy) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        assert ask("mlflow") == Answer(True, f"{server.url} answers")


@pytest.mark.parametrize(("handler", "said"), [(Broken, "503"), (NotMlflow, "404"), (WithPassword, "401")])
def test_mlflow_server_that_fails(monkeypatch, handler, said) -> None:
    with local_server(handler) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        answer = ask("mlflow")
    assert answer.is_ready is False
    assert answer.detail.startswith(f"{server.url} does not answer as an MLflow store does: ")
    assert said in answer.detail


def test_mlflow_server_that_answers_slowly_has_the_time_that_the_user_gives(monkeypatch) -> None:
    with local_server(Slow) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        assert ask("mlflow") == Answer(True, f"{server.url} answers")


def test_of_a_page_that_is_not_mlflows_the_beginning_is_quoted(monkeypatch) -> None:
    with local_server(LongPage) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        answer = ask("mlflow")
    assert "<html>xxx" in answer.detail
    assert len(answer.detail) < 500


def test_mlflow_server_that_asks_for_a_password_everywhere(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    with local_server(WithPassword) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
        assert ask("mlflow") == Answer(True, f"{server.url} answers")


def test_mlflow_port_that_is_closed(monkeypatch) -> None:
    reserved = Reserved()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{reserved.port}")
    answer = ask("mlflow")
    reserved.release()
    assert answer.is_ready is False
    assert "refused" in answer.detail
    assert "secret" not in answer.detail


def test_a_server_that_takes_connections_and_says_nothing_is_given_up_in_time(monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert ask("mlflow", 1.0).is_ready is False


def test_mlflow_store_that_is_there(mlflow_store) -> None:
    assert ask("mlflow") == Answer(True, f"{mlflow_store} answers")


def test_mlflow_store_that_can_be_made_is_not_made(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/new.db")
    assert ask("mlflow").is_ready
    assert not (tmp_path / "new.db").exists()


def test_mlflow_store_that_is_none(monkeypatch, tmp_path) -> None:
    (tmp_path / "no.db").write_text("text, long enough to be no database" * 50)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(tmp_path / "no.db").execute("select 1 from runs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/no.db")
    assert ask("mlflow").is_ready is False


@pytest.mark.usefixtures("wandb_dir")
def test_wandb_offline_needs_a_directory(tmp_path) -> None:
    assert ask("wandb") == Answer(True, f"offline: {tmp_path} can be written")


@pytest.mark.usefixtures("wandb_dir")
def test_wandb_online_needs_a_server_and_a_key(monkeypatch, tmp_path) -> None:
    from helpers.wandb_client import end_wandb_client

    with local_server(Healthy) as server:
        monkeypatch.setenv("WANDB_MODE", "online")
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        end_wandb_client()
        without = ask("wandb")
        (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login user password {'k' * 40}\n")
        by_netrc = ask("wandb")
        (tmp_path / "netrc").unlink()
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        end_wandb_client()
        by_variable = ask("wandb")
        server.close()
        away = ask("wandb")
    assert without.is_ready is False
    assert "no API key. Run: wandb login" in without.detail
    assert by_netrc == by_variable == Answer(True, f"{server.url} answers, and there is an API key")
    assert away.is_ready is False
    assert "refused" in away.detail


def test_tensorboard_needs_a_directory(tmp_path) -> None:
    assert ask("tensorboard") == Answer(True, f"{tmp_path} can be written")
    Path("out").write_text("in the way")
    answer = ask("tensorboard")
    assert answer.is_ready is False
    assert "out cannot be written: Not a directory" in answer.detail


def test_plugins_answer_for_themselves(monkeypatch) -> None:
    is_asked, is_over = threading.Event(), threading.Event()

    class Silent(Sink):
        name = "silent"

        def write(self, snapshot) -> None: ...

        def check(self, run, seconds):
            is_over.wait(60)

    class Slow(Silent):
        def check(self, run, seconds):
            assert is_asked.wait(60)  # all are asked at the same time
            return "there"

    class Away(Silent):
        def check(self, run, seconds):
            is_asked.set()
            raise ConnectionError("no route\nand much more")

    sinks = {"slow": Slow, "away": Away, "silent": Silent}
    monkeypatch.setattr(health, "make_sink", lambda name: sinks[name]())
    begun = time.monotonic()
    assert check_sinks(["slow", "away"], RUN, 120.0) == {
        "slow": Answer(True, "there"),
        "away": Answer(False, "ConnectionError: no route"),
    }
    assert check_sinks(["silent"], RUN, 0.2) == {"silent": Answer(False, "did not answer within 0.2 s")}
    assert time.monotonic() - begun < 60
    is_over.set()


def test_a_plugin_without_a_check_and_one_that_does_not_load() -> None:
    assert ask("example_lines") == Answer(None, "has no check")
    assert ask("example_broken").is_ready is False
