"""An HTTP server on loopback, in threads of this process. A test can close and reopen its port."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOST = "127.0.0.1"


class Reserved:
    """Binds a port without listening on it: it refuses connections, and no other process gets it as a free port.

    A free port could be taken by any process, and a client on loopback may even connect to itself there. A server can
    listen on this one meanwhile if it sets SO_REUSEADDR, as servers do. So keep it until the last server has ended.
    Only Linux allows that; on other systems, the port is a free one.
    """

    def __init__(self) -> None:
        self._socket = _bound(0)
        self.port: int = self._socket.getsockname()[1]
        if sys.platform != "linux":
            self._socket.close()

    def wait_until_closed(self) -> None:
        """Wait until no process listens on it: one that was killed does so for a moment."""
        end = time.monotonic() + 60.0
        while True:
            try:
                return _bound(self.port).close()
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def release(self) -> None:
        self._socket.close()


def _bound(port: int) -> socket.socket:
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except OSError:
        bound.close()
        raise
    return bound


class LocalServer:
    """Serves a handler on a port that stays the same. The server is closed at the start."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self._handler = handler
        self._reserved = Reserved()
        self._http: _Server | None = None
        self.port = self._reserved.port
        self.url = f"http://{HOST}:{self.port}"

    @property
    def is_open(self) -> bool:
        return self._http is not None

    def open(self) -> None:
        """Answer from now on."""
        if self.is_open:
            return
        self._http = _Server((HOST, self.port), self._handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Refuse connections from now on, and cut the open ones."""
        if self._http is None:
            return
        self._http.shutdown()
        self._http.server_close()
        self._http.cut()
        self._http = None

    def end(self) -> None:
        """Close, and release the port."""
        self.close()
        self._reserved.release()


@contextmanager
def local_server(handler: type[BaseHTTPRequestHandler]) -> Iterator[LocalServer]:
    """Provide an open server, and end it in any case."""
    server = LocalServer(handler)
    try:
        server.open()
        yield server
    finally:
        server.end()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a thread may wait for its client's next request

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._connections: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: socket.socket, client_address: object) -> None:  # type: ignore[override]
        self._connections.add(request)
        super().process_request(request, client_address)  # type: ignore[arg-type]

    def shutdown_request(self, request: socket.socket) -> None:  # type: ignore[override]
        self._connections.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, *args: object) -> None:
        """Ignore errors: clients are killed here, and answers are cut."""
