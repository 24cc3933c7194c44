"""A plug-in that sends snapshots over HTTP, with the usual clients, to a real server that answers with errors."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler
from urllib.error import HTTPError

import pytest
import requests
from helpers.local_server import local_server

from mtask_sinks import RunInfo, Sink, Snapshot
from mtask_sinks.delivery.http_errors import LONGEST_DELAY, http_status, retry_after
from mtask_sinks.delivery.pipeline import Delivery

pytestmark = pytest.mark.usefixtures("impatient")


def by_urllib(url: str, body: dict[str, float]) -> None:
    urllib.request.urlopen(url, json.dumps(body).encode(), timeout=10).close()


def by_requests(url: str, body: dict[str, float]) -> None:
    requests.post(url, json=body, timeout=10).raise_for_status()


def by_httpx(url: str, body: dict[str, float]) -> None:
    import httpx

    httpx.post(url, json=body, timeout=10).raise_for_status()


class Posts(Sink):
    name = "posts"

    def __init__(self, post: Callable[[str, dict[str, float]], None], url: str) -> None:
        self.post = post
        self.url = url

    def write(self, snapshot: Snapshot) -> None:
        self.post(self.url, {"step": snapshot.step})


@pytest.mark.parametrize("post", [by_urllib, by_requests, by_httpx])
def test_what_a_server_refuses_is_rejected_and_what_it_cannot_take_now_is_tried_again(post) -> None:
    if post is by_httpx:
        pytest.importorskip("httpx")
    refused = {2: 400, 3: 404, 5: 422}
    once = {1: 503, 4: 408, 6: 429}
    taken: list[int] = []
    tries: dict[int, list[float]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            step = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["step"]
            tries.setdefault(step, []).append(time.monotonic())
            status = refused.get(step) or once.pop(step, 200)
            if status == 200:
                taken.append(step)
            self.send_response(status)
            if status == 429:
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    with local_server(Handler) as server:
        delivery = Delivery([Posts(post, server.url)])
        delivery.open(RunInfo(id="1"))
        for step in range(1, 8):
            delivery.write(Snapshot(step=step))
        delivery.close("finished")
    counts = delivery.counts["posts"]
    assert taken == [1, 4, 6, 7]
    assert (counts.delivered, counts.rejected, counts.pending) == (4, 3, 0)
    assert {step: len(times) for step, times in tries.items()} == {1: 2, 2: 1, 3: 1, 4: 2, 5: 1, 6: 2, 7: 1}
    first, second = tries[6]
    assert second - first >= 1.0  # as the server wanted; without its wish the worker waits 10 ms here


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_requests_blocks_nothing_with_a_value_that_json_lacks_and_repeats_after_an_answer_without_json(value) -> None:
    answers = [b"<p>busy</p>"]
    taken: list[dict[str, float]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            answer = answers.pop() if answers else b"{}"
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    class PostsValues(Sink):
        name = "posts"

        def write(self, snapshot: Snapshot) -> None:
            requests.post(server.url, json={**snapshot.metrics}, timeout=10).json()

    with local_server(Handler) as server:
        delivery = Delivery([PostsValues()])
        delivery.open(RunInfo(id="1"))
        for step, loss in enumerate([1.0, value, 3.0]):
            delivery.write(Snapshot(step, metrics={"a/loss": loss}))
        delivery.close("finished", seconds=30)
    counts = delivery.counts["posts"]
    assert taken == [{"a/loss": 1.0}, {"a/loss": 1.0}, {"a/loss": 3.0}]
    assert (counts.delivered, counts.rejected, counts.pending) == (2, 1, 0)


def test_a_sink_that_does_not_open_waits_whatever_the_status_says() -> None:
    class Opens(Sink):
        name = "opens"
        answers = [401, 403, 200]  # noqa: RUF012
        steps: list[int] = []  # noqa: RUF012

        def open(self, run: RunInfo) -> None:
            if (status := self.answers.pop(0)) != 200:
                raise HTTPError("http://host", status, "no", Message(), None)

        def write(self, snapshot: Snapshot) -> None:
            self.steps.append(snapshot.step)

    sink = Opens()
    delivery = Delivery([sink])
    delivery.open(RunInfo(id="1"))
    delivery.write(Snapshot(step=1))
    delivery.close("finished")
    assert (sink.steps, delivery.counts["opens"].rejected) == ([1], 0)


def answer(**headers: str) -> HTTPError:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return HTTPError("http://host", 503, "Service Unavailable", message, None)


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (answer(Retry_After="7"), 7.0),
        (answer(Retry_After=" 7 "), 7.0),
        (answer(Retry_After="99999999999"), LONGEST_DELAY),
        (answer(Retry_After="-5"), 0.0),
        (answer(Retry_After="soon"), 0.0),
        (answer(Retry_After="nan"), 0.0),
        (answer(), 0.0),
        (answer(Retry_After="Wed, 21 Oct 2015 07:28:30 GMT", Date="Wed, 21 Oct 2015 07:28:00 GMT"), 30.0),
        (answer(Retry_After="Wed, 21 Oct 2015 07:28:30 GMT"), 0.0),
        (OSError("no route"), 0.0),
        (None, 0.0),
    ],
)
def test_how_long_a_server_wants_no_request(error: Exception | None, seconds: float) -> None:
    assert retry_after(error) == seconds


def test_an_exception_that_is_about_no_answer_has_no_status() -> None:
    class Odd(Exception):
        response = "a text"

    found = [http_status(error) for error in (Odd(), requests.ConnectionError(), OSError())]
    assert found == [None] * 3
