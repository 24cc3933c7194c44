"""Each fault of the proxy does what its name says."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

import pytest

from helpers.local_server import HOST, local_server
from helpers.proxy import Proxy, proxy


class Echo(BaseHTTPRequestHandler):
    """Echoes the request."""

    taken: ClassVar[list[bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.taken.append(body)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def between() -> Iterator[Proxy]:
    Echo.taken.clear()
    with local_server(Echo) as server, proxy(server.port) as made:
        yield made


def post(to: Proxy, path: str = "/", seconds: float = 60.0) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(HOST, int(to.url.rpartition(":")[2]), timeout=seconds)
    try:
        connection.request("POST", path, b"hello")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def test_refused_and_open_again_on_the_same_port(between: Proxy) -> None:
    for _ in range(10):
        between.refuse()
        with pytest.raises(ConnectionRefusedError):
            post(between)
        between.heal()
        assert post(between) == (200, b"hello")


def test_never_answered_until_it_is_over(between: Proxy) -> None:
    between.hang()
    with pytest.raises(TimeoutError):
        post(between, seconds=0.1)

    def heal_when_both_are_met() -> None:
        while between.met < 2:
            time.sleep(0.01)
        between.heal()

    healing = threading.Thread(target=heal_when_both_are_met, daemon=True)
    healing.start()
    with pytest.raises(http.client.RemoteDisconnected):
        post(between)
    healing.join()
    assert Echo.taken == []


def test_applied_and_not_answered(between: Proxy) -> None:
    between.drop(times=1)
    with pytest.raises(http.client.RemoteDisconnected):
        post(between)
    assert Echo.taken == [b"hello"]
    assert post(between) == (200, b"hello")


def test_cut_in_the_middle_of_the_response(between: Proxy) -> None:
    between.cut()
    with pytest.raises(http.client.IncompleteRead) as cut:
        post(between)
    assert cut.value.partial == b"he"


def test_late(between: Proxy) -> None:
    between.delay(0.2)
    begun = time.monotonic()
    assert post(between) == (200, b"hello")
    assert time.monotonic() - begun >= 0.2


def test_errors_for_some_requests_of_some_paths(between: Proxy) -> None:
    between.answer(429, path="batch", times=2)
    assert post(between, "/other")[0] == 200
    assert [post(between, "/batch")[0] for _ in range(3)] == [429, 429, 200]
    assert between.met == 2


def test_a_server_that_is_gone_is_no_answer(between: Proxy) -> None:
    with local_server(Echo) as server, proxy(server.port) as other:
        server.close()
        with pytest.raises(http.client.RemoteDisconnected):
            post(other)
