"""A proxy in front of an HTTP server. A test switches its faults on and off while clients use it."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Literal

from helpers.local_server import HOST, LocalServer

#: Seconds after which it stops waiting for a fault to end, or for an answer of the server.
LIMIT = 60.0

_HOP_BY_HOP = {"connection", "host", "keep-alive", "transfer-encoding", "content-length"}

Kind = Literal["nothing", "hang", "delay", "cut", "drop", "answer"]
Response = tuple[int, list[tuple[str, str]], bytes]


@dataclass
class Fault:
    """What happens to requests whose path contains ``path``: to the next ``left`` of them, or to all."""

    kind: Kind = "nothing"
    path: str = ""
    left: int | None = None
    seconds: float = 0.0
    status: int = 500
    over: threading.Event = field(default_factory=threading.Event)


class Proxy:
    """Forwards requests to a server on this machine, unless it has a fault. It serves one request per connection.

    Each method replaces the current fault. With ``path``, the fault applies only to requests whose path contains it;
    with ``times``, only to that many of the next ones.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._lock = threading.Lock()  # each request has its own thread, and all count down the same fault
        self._fault = Fault()
        #: Number of requests that met the current fault.
        self.met = 0
        self._server = LocalServer(_handler(self))
        self.url = self._server.url
        self.heal()

    @property
    def is_open(self) -> bool:
        return self._server.is_open

    def heal(self) -> None:
        """Forward everything."""
        self._set(Fault())

    def refuse(self) -> None:
        """Refuse connections, and cut the open ones."""
        self._set(Fault())
        self._server.close()

    def hang(self, path: str = "", times: int | None = None) -> None:
        """Accept requests and never answer."""
        self._set(Fault("hang", path, times))

    def delay(self, seconds: float, path: str = "", times: int | None = None) -> None:
        """Forward requests ``seconds`` later."""
        self._set(Fault("delay", path, times, seconds=seconds))

    def cut(self, path: str = "", times: int | None = None) -> None:
        """Forward requests, and end the connection in the middle of the response."""
        self._set(Fault("cut", path, times))

    def drop(self, path: str = "", times: int | None = None) -> None:
        """Forward requests, and end the connection without a response: the server applies them unanswered."""
        self._set(Fault("drop", path, times))

    def answer(self, status: int, path: str = "", times: int | None = None) -> None:
        """Answer with an error instead of forwarding requests."""
        self._set(Fault("answer", path, times, status=status))

    def end(self) -> None:
        self._fault.over.set()
        self._server.end()

    def _set(self, fault: Fault) -> None:
        with self._lock:
            before, self._fault, self.met = self._fault, fault, 0
        before.over.set()
        self._server.open()

    def meet(self, path: str) -> Fault:
        """Return the fault for a request, and count it."""
        with self._lock:
            fault = self._fault
            if fault.kind == "nothing" or fault.path not in path or fault.left == 0:
                return Fault()
            if fault.left is not None:
                fault.left -= 1
            self.met += 1
            return fault

    def forward(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Response:
        connection = http.client.HTTPConnection(HOST, self._target, timeout=LIMIT)
        try:
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()


@contextmanager
def proxy(port: int) -> Iterator[Proxy]:
    """Provide a proxy in front of a port of this machine."""
    made = Proxy(port)
    try:
        yield made
    finally:
        made.end()


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass(self) -> None:
            self.close_connection = True
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.meet(self.path)
            if fault.kind == "hang":
                fault.over.wait(LIMIT)
                return
            if fault.kind == "answer":
                self._respond((fault.status, [("Content-Type", "text/plain")], b"by the proxy"))
                return
            if fault.kind == "delay":
                time.sleep(fault.seconds)
            response = proxy.forward(self.command, self.path, self._headers(self.headers.items()), body)
            if fault.kind != "drop":
                self._respond(response, is_cut=fault.kind == "cut")

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _pass  # noqa: N815

        def _headers(self, items: list[tuple[str, str]]) -> dict[str, str]:
            return {name: value for name, value in items if name.lower() not in _HOP_BY_HOP}

        def _respond(self, response: Response, is_cut: bool = False) -> None:
            status, headers, body = response
            self.send_response(status)
            for name, value in self._headers(headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if is_cut else body)

        def log_message(self, *args: object) -> None:
            """Print nothing."""

    return Handler
